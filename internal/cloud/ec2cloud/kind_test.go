package ec2cloud_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/cloud/ec2cloud"
	"cloudmaster/internal/kind"
	"cloudmaster/internal/pool"
)

func TestLaunchOfPools(t *testing.T) {
	t.Parallel()
	set := ec2cloud.Settings{Machine: ec2cloud.Machine{
		InstanceType: "t3.small", Subnets: []string{"subnet-1", "subnet-2"}, Market: ec2cloud.Spot,
		ClientCIDRs: []string{"10.0.0.0/8"},
	}}
	for name, c := range map[pool.Name]struct {
		own     kind.Settings
		want    ec2cloud.Launch
		clients string
	}{
		"a": {nil, ec2cloud.Launch{
			InstanceTypes: []string{"t3.small"}, Subnets: []string{"subnet-1", "subnet-2"}, Spot: 100,
			SecurityGroups: []string{"cloudmaster-demo-a"}, InstanceProfile: "cloudmaster-demo-eu-west-1-a",
			Public: true, // there are client_cidrs
		}, "10.0.0.0/8"},
		"b": {
			&ec2cloud.Machine{
				InstanceType: "t3.large", Subnets: []string{"subnet-3"}, SecurityGroups: []string{"sg-1"},
				InstanceProfile: "p", KeyName: "k", Market: ec2cloud.OnDemand, ClientCIDRs: []string{"0.0.0.0/0"},
				Address: cloud.PrivateAddress,
			},
			ec2cloud.Launch{
				InstanceTypes: []string{"t3.large"}, Subnets: []string{"subnet-3"}, SecurityGroups: []string{"sg-1"},
				InstanceProfile: "p", KeyName: "k",
			},
			"0.0.0.0/0",
		},
	} {
		if diff := cmp.Diff(c.want, set.Launch("demo", "eu-west-1", name, c.own)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if got := set.Clients(c.own); !slices.Equal(got, []string{c.clients}) {
			t.Errorf("clients of %s: got %q, want %s", name, got, c.clients)
		}
	}
	got := (&ec2cloud.Settings{}).Launch("", "eu-west-1", "a", nil)
	if got.InstanceProfile != "cloudmaster-eu-west-1-a" ||
		!slices.Equal(got.InstanceTypes, []string{"t3.micro"}) {
		t.Errorf("nothing set, no deployment: got %+v", got)
	}
}

func TestReach(t *testing.T) {
	t.Parallel()
	const backend = "aws://eu-west-1?endpoint=http%3A%2F%2Flocalhost%3A4566"
	far := ec2cloud.Settings{Region: "us-east-1", Endpoint: "http://far:1"}
	for _, c := range []struct {
		set              ec2cloud.Settings
		backend          string
		region, endpoint string
	}{
		{ec2cloud.Settings{}, backend, "eu-west-1", "http://localhost:4566"},
		{far, backend, "us-east-1", "http://far:1"},
		{far, "nats://h:1", "us-east-1", "http://far:1"},
		{ec2cloud.Settings{}, "nats://h:1", "", ""},
		{ec2cloud.Settings{}, "embedded", "", ""},
	} {
		if region, endpoint := c.set.Reach(c.backend); region != c.region || endpoint != c.endpoint {
			t.Errorf("%+v on %s: got %s %s", c.set, c.backend, region, endpoint)
		}
	}
}

// TestPoolsChange: what a launch asks for is what the pool is set to now, and a pool that cannot
// work fails alone.
func TestPoolsChange(t *testing.T) {
	t.Parallel()
	now := ec2cloud.Launch{InstanceTypes: []string{"t3.small"}}
	f, c := world(t, ec2cloud.Options{Pool: func(pool.Name) (ec2cloud.Launch, bool) { return now, true }})
	launch := func(token string) error {
		_, err := c.Launch(t.Context(), spec(token, 1))
		return err
	}
	if err := launch("a"); err != nil {
		t.Fatal(err)
	}
	now.InstanceTypes = []string{"t3.large"}
	if err := launch("b"); err != nil {
		t.Fatal(err)
	}
	var types []string
	for _, form := range f.requests("RunInstances") {
		types = append(types, form.Get("InstanceType"))
	}
	if want := []string{"t3.small", "t3.large"}; !slices.Equal(types, want) {
		t.Errorf("got %q, want %q", types, want)
	}
	now.SecurityGroups = []string{""}
	if err := launch("c"); !errors.Is(err, cloud.ErrInvalid) ||
		!strings.Contains(err.Error(), "pool main: a security group is empty") {
		t.Errorf("got %v, want the pool named", err)
	}
}

func TestKindRefuses(t *testing.T) {
	t.Parallel()
	for want, s := range map[string]kind.Settings{
		`region: "moon" is not an AWS region`: &ec2cloud.Settings{Region: "moon"},
		`endpoint "far" is not a URL`:         &ec2cloud.Settings{Endpoint: "far"},
		`subnet "net-1": want an id`: &ec2cloud.Settings{
			Machine: ec2cloud.Machine{Subnets: []string{"net-1"}},
		},
		`market: "flea" is not on-demand, spot, or`: &ec2cloud.Machine{Market: "flea"},
		`address: "home" is not private or public`:  &ec2cloud.Machine{Address: "home"},
		`client_cidrs: "10.0.0.1/8" is not a block of addresses, as`: &ec2cloud.Machine{
			ClientCIDRs: []string{"10.0.0.1/8"},
		},
	} {
		if err := s.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	k := ec2cloud.Kind()
	for _, s := range []kind.Settings{k.Settings(), k.PoolSettings()} {
		if err := s.Validate(); err != nil {
			t.Errorf("defaults: got %v", err)
		}
	}
}

// TestAddress: clients outside the VPC need the public address, and only client_cidrs lets them in.
func TestAddress(t *testing.T) {
	t.Parallel()
	block := []string{"192.0.2.0/24"}
	k := ec2cloud.Kind()
	for _, c := range []struct {
		cloud, own ec2cloud.Machine
		public     bool
		wrong      string
	}{
		{},
		{cloud: ec2cloud.Machine{ClientCIDRs: block}, public: true},
		{own: ec2cloud.Machine{ClientCIDRs: block}, public: true},
		{cloud: ec2cloud.Machine{ClientCIDRs: block}, own: ec2cloud.Machine{Address: cloud.PrivateAddress}},
		{
			cloud: ec2cloud.Machine{Address: cloud.PrivateAddress},
			own:   ec2cloud.Machine{Address: cloud.PublicAddress, ClientCIDRs: block}, public: true,
		},
		{
			own: ec2cloud.Machine{Address: cloud.PublicAddress}, public: true,
			wrong: "address: is public, and the security group that setup makes lets in the VPC alone: name in " +
				"client_cidrs who may reach service_port, or leave address out",
		},
		{own: ec2cloud.Machine{Address: cloud.PublicAddress, SecurityGroups: []string{"sg-1"}}, public: true},
	} {
		set := &ec2cloud.Settings{Machine: c.cloud}
		if got := k.PublicAddress(set, &c.own); got != c.public ||
			set.Launch("d", "eu-west-1", "a", &c.own).Public != c.public {
			t.Errorf("%+v: got public %t, want %t", c, got, c.public)
		}
		err := k.CheckPool(set, "d", cloud.PoolSpec{Name: "a", Image: "x", ServicePort: 80, Settings: &c.own})
		if c.wrong == "" && err != nil || c.wrong != "" && (err == nil || err.Error() != c.wrong) {
			t.Errorf("%+v: got %v, want %q", c, err, c.wrong)
		}
	}
}

// TestOwnedRole: names in IAM have the region in them, never more characters than IAM takes, and stay different.
func TestOwnedRole(t *testing.T) {
	t.Parallel()
	if got := ec2cloud.OwnedRole("demo", "eu-west-1", "a"); got != "cloudmaster-demo-eu-west-1-a" {
		t.Errorf("got %s", got)
	}
	long := pool.Name(strings.Repeat("x", 60))
	had := make(map[string]bool)
	for _, deployment := range []string{"demo", strings.Repeat("d", 63)} {
		for _, region := range []string{"eu-west-1", "ap-southeast-1"} {
			for _, name := range []pool.Name{"a", long, long + "x"} {
				got, begin := ec2cloud.OwnedRole(deployment, region, name), ec2cloud.OwnedRoles(deployment, region)
				if len(got) > 64 || had[got] || got != ec2cloud.OwnedRole(deployment, region, name) ||
					!strings.HasPrefix(got, begin) || !strings.HasPrefix(got, ec2cloud.OwnedRoles(deployment, "")) {
					t.Errorf("got %s, want at most 64 characters, a name of its own that begins with %s", got, begin)
				}
				had[got] = true
			}
		}
	}
}

// TestKindOpens: the cloud's settings and those that a pool has at the moment are what is launched with.
func TestKindOpens(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	f := newFake(t)
	f.images = []fakeImage{{id: image}}
	own := &ec2cloud.Machine{KeyName: "first"}
	calls := 0
	opts := cloud.OpenOptions{
		Deployment: "d", Settings: &ec2cloud.Settings{
			Machine: ec2cloud.Machine{InstanceType: "m5.large", SecurityGroups: []string{"sg-1"}},
		},
		Backend: "aws://eu-west-1?endpoint=" + f.url, Client: "test",
		Pool:  func(pool.Name) (kind.Settings, bool) { return own, true },
		Count: func(string, string, error) { calls++ },
	}
	c, err := ec2cloud.Kind().Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	for i, key := range []string{"first", "second"} {
		own = &ec2cloud.Machine{KeyName: key}
		if _, err := c.Launch(t.Context(), spec("t-"+key, 1)); err != nil {
			t.Fatal(err)
		}
		form := f.requests("RunInstances")[i]
		if form.Get("InstanceType") != "m5.large" || form.Get("KeyName") != key ||
			form.Get("IamInstanceProfile.Name") != "cloudmaster-d-eu-west-1-main" {
			t.Errorf("got %v", form)
		}
	}
	if err := c.Close(); err != nil || calls == 0 {
		t.Errorf("got %v and %d calls counted", err, calls)
	}
	opts.Settings = new(kind.None)
	if _, err := ec2cloud.Kind().Open(t.Context(), opts); err == nil {
		t.Error("settings of another kind: got no error")
	}
}
