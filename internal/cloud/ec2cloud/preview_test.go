package ec2cloud_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/cloud/ec2cloud"
	"cloudmaster/internal/kind"
)

// preview asks what a launch would make.
func (m *market) preview(image string) cloud.Preview {
	m.t.Helper()
	out, err := m.Preview(m.t.Context(), "primes", image)
	if err != nil {
		m.t.Fatal(err)
	}
	return out
}

// TestPreviewOfAMovingImage: a newer image of a name is seen within five minutes, and EC2 is not asked more often than
// that. What a launch finds out counts at once, so that nothing is launched that a preview calls outdated.
func TestPreviewOfAMovingImage(t *testing.T) {
	t.Parallel()
	m := newMarket(t, nil)
	m.images = []fakeImage{{
		id: "ami-0000000000000001", name: "w-*", owner: "self", state: "available", created: "2026-01-01T00:00:00.000Z",
	}}
	want := func(what string, ids ...string) {
		t.Helper()
		got := m.preview("w-*")
		if !slices.Equal(got.Images, ids) || !slices.Equal(got.Types, []string{"c7g.large", "m5.large"}) {
			t.Errorf("%s: got %+v, want images %v", what, got, ids)
		}
	}
	want("at first", "ami-0000000000000001")
	m.images = append(m.images, fakeImage{
		id: "ami-0000000000000002", name: "w-*", owner: "self", state: "available", created: "2026-01-02T00:00:00.000Z",
	})
	for range 40 {
		m.now = m.now.Add(7 * time.Second)
		want("within five minutes", "ami-0000000000000001")
	}
	if got := len(m.requests("DescribeImages")); got != 1 {
		t.Errorf("got %d calls of DescribeImages in five minutes, want 1", got)
	}
	s := spec("t", 1)
	s.Image = "w-*"
	if out, err := m.Launch(t.Context(), s); err != nil || out[0].Image != "ami-0000000000000002" {
		t.Fatalf("got %v, %v, want the newest image", out, err)
	}
	want("after a launch", "ami-0000000000000002")
	m.images[0].created = "2026-01-03T00:00:00.000Z"
	m.now = m.now.Add(5 * time.Minute)
	want("after five minutes", "ami-0000000000000001")
	m.images = nil
	m.now = m.now.Add(5 * time.Minute)
	if _, err := m.Preview(t.Context(), "primes", "w-*"); !errors.Is(err, cloud.ErrNotFound) {
		t.Errorf("got %v, want that there is no such image", err)
	}
}

// TestPreviewOfPlaces: a subnet is open while some choice there does not rest.
func TestPreviewOfPlaces(t *testing.T) {
	t.Parallel()
	m := newMarket(t, func(l *ec2cloud.Launch) { l.Balanced = true })
	const image = "ami-0000000000000001"
	want := func(what string, open ...string) {
		t.Helper()
		if got := m.preview(image).Open; !slices.Equal(got, open) {
			t.Errorf("%s: got %v, want %v", what, got, open)
		}
	}
	want("at first", "subnet-a", "subnet-b")
	m.places["subnet-a"] = 0
	out, err := m.launch(2)
	if err != nil || len(out) != 2 || out[0].Place != "subnet-b" {
		t.Fatalf("got %+v, %v, want two in subnet-b", out, err)
	}
	want("one has no room", "subnet-b")
	m.now = m.now.Add(4 * time.Minute)
	want("it may have room again", "subnet-a", "subnet-b")
	if got := newMarket(t, nil).preview(image).Open; got != nil {
		t.Errorf("not balanced: got %v, want none", got)
	}
}

// TestMade: what makes instances differ changes the text, and what only says where, how many or how dear does not.
func TestMade(t *testing.T) {
	t.Parallel()
	made := func(change func(m *ec2cloud.Machine)) string {
		k := ec2cloud.Kind()
		set := k.Settings()
		own := &ec2cloud.Machine{}
		change(own)
		return k.Made(set, "d", "p", kind.Settings(own))
	}
	plain := made(func(*ec2cloud.Machine) {})
	for name, change := range map[string]func(m *ec2cloud.Machine){
		"types": func(m *ec2cloud.Machine) { m.InstanceTypes = []string{"m5.large"} },
		"zones": func(m *ec2cloud.Machine) { m.Subnets, m.Zones = []string{"subnet-1", "subnet-2"}, "balanced" },
		"spot":  func(m *ec2cloud.Machine) { m.Market = "spot" },
	} {
		if got := made(change); got != plain {
			t.Errorf("%s: got %s, want %s", name, got, plain)
		}
	}
	seen := map[string]string{plain: "nothing"}
	for name, change := range map[string]func(m *ec2cloud.Machine){
		"groups":    func(m *ec2cloud.Machine) { m.SecurityGroups = []string{"sg-1"} },
		"profile":   func(m *ec2cloud.Machine) { m.InstanceProfile = "x" },
		"key":       func(m *ec2cloud.Machine) { m.KeyName = "x" },
		"credits":   func(m *ec2cloud.Machine) { m.Credits = "unlimited" },
		"placement": func(m *ec2cloud.Machine) { m.PlacementGroup = "x" },
		"ipv6":      func(m *ec2cloud.Machine) { m.IPv6 = true },
		"size":      func(m *ec2cloud.Machine) { m.VolumeSize = 9 },
		"encrypted": func(m *ec2cloud.Machine) { m.VolumeEncrypted = true },
		"tags":      func(m *ec2cloud.Machine) { m.Tags = map[string]string{"a": "b"} },
	} {
		got := made(change)
		if other, taken := seen[got]; taken {
			t.Errorf("%s: got the same as for %s", name, other)
		}
		seen[got] = name
	}
}
