package ec2cloud_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/cloud/ec2cloud"
)

// market is a fake and a Cloud on it with two types and two subnets, and with a clock and a log of their own.
type market struct {
	*fake
	*ec2cloud.Cloud

	t     *testing.T
	now   time.Time
	log   bytes.Buffer
	token int
}

func newMarket(t *testing.T, set func(*ec2cloud.Launch)) *market {
	t.Helper()
	m := &market{t: t, now: time.Now()}
	l := ec2cloud.Launch{InstanceTypes: []string{"c7g.large", "m5.large"}, Subnets: []string{"subnet-a", "subnet-b"}}
	if set != nil {
		set(&l)
	}
	m.fake, m.Cloud = world(t, ec2cloud.Options{Launch: l, Log: slog.New(slog.NewTextHandler(&m.log, nil))})
	m.SetNow(func() time.Time { return m.now })
	return m
}

// launch asks for so many instances, with a token of its own, and returns those that were started.
func (m *market) launch(count int) ([]cloud.Instance, error) {
	m.t.Helper()
	m.token++
	return m.Launch(m.t.Context(), spec(fmt.Sprintf("l%d", m.token), count))
}

// want checks how many are started, and the error.
func (m *market) want(what string, count, started int, want error) {
	m.t.Helper()
	if out, err := m.launch(count); len(out) != started || !errors.Is(err, want) {
		m.t.Errorf("%s: got %d instances and error %v, want %d and %v", what, len(out), err, started, want)
	}
}

// asked returns what was asked for since the last call, as "type subnet market least-count".
func (m *market) asked() []string {
	var out []string
	for _, form := range m.requests("RunInstances") {
		words := []string{
			form.Get("InstanceType"), form.Get("SubnetId"), form.Get("InstanceMarketOptions.MarketType"),
			form.Get("MinCount") + "-" + form.Get("MaxCount"),
		}
		out = append(out, strings.Join(slices.DeleteFunc(words, func(w string) bool { return w == "" }), " "))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls = nil
	return out
}

func (m *market) wantAsked(what string, want ...string) {
	m.t.Helper()
	if got := m.asked(); !slices.Equal(got, want) {
		m.t.Errorf("%s: asked %q, want %q", what, got, want)
	}
}

// spread counts the instances that run, by what f says of each.
func (m *market) spread(f func(form url.Values) string) map[string]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make(map[string]int)
	for _, in := range m.instances {
		if in.state == "pending" || in.state == "running" {
			out[f(in.form)]++
		}
	}
	return out
}

func bySubnet(form url.Values) string { return form.Get("SubnetId") }

func byMarket(form url.Values) string { return form.Get("InstanceMarketOptions.MarketType") }

// TestChoicesInOrder: each type in all subnets, before the next type. What had no capacity is not asked again for three
// minutes, by no launch, and is said once; then the preferred one is asked first again.
func TestChoicesInOrder(t *testing.T) {
	t.Parallel()
	m := newMarket(t, nil)
	m.offers["c7g.large subnet-a"], m.offers["c7g.large subnet-b"] = 0, 0
	m.want("first", 1, 1, nil)
	m.wantAsked("first", "c7g.large subnet-a 1-1", "c7g.large subnet-b 1-1", "m5.large subnet-a 1-1")
	m.now = m.now.Add(3*time.Minute - 1)
	m.want("while they rest", 1, 1, nil)
	m.wantAsked("while they rest", "m5.large subnet-a 1-1")
	m.offers["c7g.large subnet-a"] = 5
	m.now = m.now.Add(1)
	m.want("later", 1, 1, nil)
	m.wantAsked("later", "c7g.large subnet-a 1-1")
	if got := strings.Count(m.log.String(), "EC2 has no capacity"); got != 2 {
		t.Errorf("got %d warnings, want one for each of the two:\n%s", got, &m.log)
	}
}

// TestNothingIsAskedWhileAllRest, and the error says from when on it will be.
func TestNothingIsAskedWhileAllRest(t *testing.T) {
	t.Parallel()
	m := newMarket(t, func(l *ec2cloud.Launch) { l.InstanceTypes = l.InstanceTypes[:1] })
	m.places["subnet-a"], m.places["subnet-b"] = 0, 0
	m.want("first", 1, 0, cloud.ErrCapacity)
	m.asked()
	_, err := m.launch(1)
	again := m.now.Add(3 * time.Minute).UTC().Format(time.TimeOnly)
	if !errors.Is(err, cloud.ErrCapacity) || !strings.Contains(err.Error(), "InsufficientInstanceCapacity") ||
		!strings.Contains(err.Error(), again) {
		t.Errorf("got %v, want EC2's code, and %s", err, again)
	}
	m.wantAsked("while all rest")
}

// TestRefusalOfManyIsNoneOfFew: a choice that had no room for five is asked for one.
func TestRefusalOfManyIsNoneOfFew(t *testing.T) {
	t.Parallel()
	m := newMarket(t, func(l *ec2cloud.Launch) { l.InstanceTypes = l.InstanceTypes[:1] })
	m.offers["c7g.large subnet-a"] = 2
	m.want("five", 5, 5, nil)
	m.wantAsked("five", "c7g.large subnet-a 5-5", "c7g.large subnet-b 5-5")
	m.want("one", 1, 1, nil)
	m.wantAsked("one", "c7g.large subnet-a 1-1")
}

// TestAnEndLeavesRoom for one of the same type in the same subnet, so that it is asked for again at once.
func TestAnEndLeavesRoom(t *testing.T) {
	t.Parallel()
	m := newMarket(t, func(l *ec2cloud.Launch) { l.InstanceTypes = l.InstanceTypes[:1] })
	first, err := m.launch(1)
	if err != nil {
		t.Fatal(err)
	}
	m.places["subnet-a"], m.places["subnet-b"] = 0, 0
	m.want("full", 1, 0, cloud.ErrCapacity)
	m.places["subnet-a"], m.places["subnet-b"] = 1, 1
	if err := m.Terminate(t.Context(), first[0].ID); err != nil {
		t.Fatal(err)
	}
	m.asked()
	m.want("with room", 1, 1, nil)
	m.wantAsked("with room", "c7g.large subnet-a 1-1")
}

// TestWrongChoiceStopsNoOther: it is warned of once, and is the error if nothing else serves.
func TestWrongChoiceStopsNoOther(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]error{
		"InvalidInstanceType": cloud.ErrInvalid, "InvalidSubnetID.NotFound": cloud.ErrNotFound,
		"UnauthorizedOperation": cloud.ErrDenied,
	} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			m := newMarket(t, nil)
			wrong := func(form url.Values) bool { return form.Get("InstanceType") == "c7g.large" }
			m.fail = func(action string, form url.Values) (string, string) {
				if action == "RunInstances" && wrong(form) {
					return code, "no"
				}
				return "", ""
			}
			m.want("first", 1, 1, nil)
			m.want("second", 1, 1, nil)
			if got := strings.Count(m.log.String(), "EC2 refuses a choice"); got != 2 {
				t.Errorf("got %d warnings, want one for each of the two:\n%s", got, &m.log)
			}
			m.places["subnet-a"], m.places["subnet-b"] = 0, 0
			m.want("nothing serves", 1, 0, want)
			wrong = func(url.Values) bool { return true }
			m.now = m.now.Add(time.Hour)
			m.want("all wrong", 1, 0, want)
		})
	}
}

// TestLostAnswerOfAChoice: nothing is asked by another one until EC2 has said what came of it.
func TestLostAnswerOfAChoice(t *testing.T) {
	t.Parallel()
	m := newMarket(t, nil)
	m.lose = func(action string) bool { return action == "RunInstances" }
	if out, err := m.Launch(t.Context(), spec("t", 2)); err == nil || cloud.Refused(err) || len(out) > 0 {
		t.Fatalf("got %d instances and error %v, want a fault that proves nothing", len(out), err)
	}
	m.mu.Lock()
	m.lose = func(string) bool { return false }
	m.mu.Unlock()
	m.places["subnet-a"] = 0
	if out, err := m.Launch(t.Context(), spec("t", 2)); err != nil || len(out) != 2 || m.living() != 2 {
		t.Errorf("got %d instances, error %v and %d alive, want the two", len(out), err, m.living())
	}
}

// TestBalancedOverSubnets: launches go where there are the fewest, a zone that is down is left out at once, and when it
// is back the launches that follow go there.
func TestBalancedOverSubnets(t *testing.T) {
	t.Parallel()
	m := newMarket(t, func(l *ec2cloud.Launch) {
		l.Subnets, l.Balanced = []string{"subnet-a", "subnet-b", "subnet-c"}, true
	})
	want := func(what string, a, b, c int) {
		t.Helper()
		if got := m.spread(bySubnet); got["subnet-a"] != a || got["subnet-b"] != b || got["subnet-c"] != c {
			t.Errorf("%s: got %v, want %d, %d and %d", what, got, a, b, c)
		}
	}
	m.want("four", 4, 4, nil)
	want("four", 2, 1, 1)
	m.want("one", 1, 1, nil)
	want("one", 2, 2, 1)
	m.places["subnet-c"] = 0
	m.want("a zone is down", 3, 3, nil)
	want("a zone is down", 4, 3, 1)
	delete(m.places, "subnet-c")
	m.now = m.now.Add(3 * time.Minute)
	if _, err := m.List(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.want("it is back", 3, 3, nil)
	want("it is back", 4, 4, 3)
}

// TestPartsAreRepeatedAsTheyWere: of a launch in several parts one answer is lost. The repetition starts only what is
// missing, although the pool looks different by now.
func TestPartsAreRepeatedAsTheyWere(t *testing.T) {
	t.Parallel()
	m := newMarket(t, func(l *ec2cloud.Launch) { l.Balanced = true })
	m.lose = func(string) bool { return m.byToken["t-s1-1"] != nil }
	out, err := m.Launch(t.Context(), spec("t", 5))
	if err == nil || cloud.Refused(err) || len(out) != 3 || m.living() != 5 {
		t.Fatalf("got %d instances, error %v and %d alive, want three of five and a fault", len(out), err, m.living())
	}
	m.mu.Lock()
	m.lose = func(string) bool { return false }
	m.mu.Unlock()
	out, err = m.Launch(t.Context(), spec("t", 5))
	if err != nil || len(out) != 5 || m.living() != 5 {
		t.Errorf("again: got %d instances, error %v and %d alive, want the five", len(out), err, m.living())
	}
}

// TestLaunchRate: requests that the account's bucket has no room for are not made, which is an answer.
func TestLaunchRate(t *testing.T) {
	t.Parallel()
	m := newMarket(t, nil)
	m.SetRate(1.0 / 3600)
	m.want("first", 1, 1, nil)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := m.Launch(ctx, spec("u", 1))
	if !errors.Is(err, cloud.ErrNotAsked) || !cloud.Refused(err) || len(out) > 0 {
		t.Errorf("got %d instances and error %v, want %v", len(out), err, cloud.ErrNotAsked)
	}
	m.wantAsked("both", "c7g.large subnet-a 1-1")
}

// TestWhatIsAskedFor beyond type, subnet and market.
func TestWhatIsAskedFor(t *testing.T) {
	t.Parallel()
	m := newMarket(t, func(l *ec2cloud.Launch) {
		l.InstanceTypes = []string{"t3.micro", "m7g.large"}
		l.Volume = ec2cloud.Volume{Size: 20, Type: "gp3", Encrypted: true}
		l.Tags, l.IPv6, l.PlacementGroup, l.Spot = map[string]string{"team": "x"}, true, "group", 100
	})
	m.want("all", 1, 1, nil)
	form := m.requests("RunInstances")[0]
	for key, want := range map[string]string{
		"BlockDeviceMapping.1.DeviceName": "/dev/xvda", "BlockDeviceMapping.1.Ebs.VolumeSize": "20",
		"BlockDeviceMapping.1.Ebs.VolumeType": "gp3", "BlockDeviceMapping.1.Ebs.Encrypted": "true",
		"BlockDeviceMapping.1.Ebs.DeleteOnTermination": "true", "Ipv6AddressCount": "1",
		"Placement.GroupName": "group", "CreditSpecification.CpuCredits": "standard",
		"TagSpecification.1.ResourceType": "instance", "TagSpecification.2.ResourceType": "volume",
		"TagSpecification.3.ResourceType": "network-interface",
		"TagSpecification.4.ResourceType": "spot-instances-request",
	} {
		if got := form.Get(key); got != want {
			t.Errorf("%s: got %q, want %q", key, got, want)
		}
	}
	for n := range 4 {
		tags := tagsOf(form, fmt.Sprintf("TagSpecification.%d.Tag", n+1))
		if tags["team"] != "x" || tags[cloud.TagDeployment] != "d" {
			t.Errorf("tags: got %v", tags)
		}
	}
	m.places["subnet-a"] = 0
	m.offers["t3.micro subnet-b spot"] = 0
	m.asked()
	m.want("another type", 1, 1, nil)
	last := m.requests("RunInstances")
	form = last[len(last)-1]
	if form.Get("InstanceType") != "m7g.large" || form.Has("CreditSpecification.CpuCredits") {
		t.Errorf("got %v, want no credits for m7g.large", form)
	}
}

// TestImageByArchitecture: {arch} in an image's name is that of the type.
func TestImageByArchitecture(t *testing.T) {
	t.Parallel()
	m := newMarket(t, nil)
	m.images = []fakeImage{
		{id: "ami-0000000000000001", name: "w-arm64-*", owner: "self", state: "available"},
		{id: "ami-0000000000000002", name: "w-amd64-*", owner: "self", state: "available"},
	}
	m.offers["c7g.large subnet-a"], m.offers["c7g.large subnet-b"] = 0, 0
	s := spec("t", 1)
	s.Image = "w-{arch}-*"
	out, err := m.Launch(t.Context(), s)
	if err != nil || len(out) != 1 || out[0].Image != "ami-0000000000000002" || out[0].Type != "m5.large" {
		t.Errorf("got %v and error %v, want one of m5.large with the image for amd64", out, err)
	}
	if got := m.requests("RunInstances")[0].Get("ImageId"); got != "ami-0000000000000001" {
		t.Errorf("for c7g.large: got image %s, want the one for arm64", got)
	}
}

// TestPoolsShareWhatIsKnown of capacity.
func TestPoolsShareWhatIsKnown(t *testing.T) {
	t.Parallel()
	m := newMarket(t, nil)
	m.places["subnet-a"] = 0
	m.want("one pool", 1, 1, nil)
	m.asked()
	other := spec("other", 1)
	other.Tags = map[string]string{cloud.TagPool: "other"}
	if _, err := m.Launch(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	m.wantAsked("the other pool", "c7g.large subnet-b 1-1")
}

// TestARefusedRepetitionAsksNoOtherChoice: the answer to the first request was lost, and may have started something.
// What EC2 refuses of the repetition says nothing of that.
func TestARefusedRepetitionAsksNoOtherChoice(t *testing.T) {
	t.Parallel()
	m := newMarket(t, nil)
	m.mu.Lock()
	m.lose = func(action string) bool { return action == "RunInstances" }
	m.mu.Unlock()
	if _, err := m.Launch(t.Context(), spec("t", 1)); err == nil || cloud.Refused(err) {
		t.Fatalf("got error %v, want a fault that proves nothing", err)
	}
	m.mu.Lock()
	m.lose = func(string) bool { return false }
	m.fail = func(action string, _ url.Values) (string, string) {
		if action == "RunInstances" {
			return "UnauthorizedOperation", "no"
		}
		return "", ""
	}
	m.mu.Unlock()
	if _, err := m.Launch(t.Context(), spec("t", 1)); !errors.Is(err, cloud.ErrDenied) {
		t.Errorf("got error %v, want %v", err, cloud.ErrDenied)
	}
	m.mu.Lock()
	m.fail = func(string, url.Values) (string, string) { return "", "" }
	m.mu.Unlock()
	out, err := m.Launch(t.Context(), spec("t", 1))
	if err != nil || len(out) != 1 || m.living() != 1 {
		t.Errorf("got %d instances, error %v and %d alive, want the one", len(out), err, m.living())
	}
	for _, asked := range m.asked() {
		if asked != "c7g.large subnet-a 1-1" {
			t.Errorf("asked %q, want the first choice only", asked)
		}
	}
}

// TestACommonFaultIsAskedForFewTimes: each request is paid for with the rate of all pools.
func TestACommonFaultIsAskedForFewTimes(t *testing.T) {
	t.Parallel()
	m := newMarket(t, func(l *ec2cloud.Launch) {
		l.InstanceTypes = []string{"a1.large", "b1.large", "c1.large", "d1.large", "e1.large", "f1.large"}
	})
	right := ""
	m.fail = func(action string, form url.Values) (string, string) {
		if action == "RunInstances" && form.Get("InstanceType") != right {
			return "InvalidInstanceType", "no"
		}
		return "", ""
	}
	m.want("all wrong", 3, 0, cloud.ErrInvalid)
	if got := len(m.asked()); got != 4 {
		t.Errorf("got %d requests, want 4", got)
	}
	right = "f1.large"
	for range 2 { // the next launches begin with those that were left out
		_, _ = m.launch(3)
	}
	m.want("the last one is right", 3, 3, nil)
}
