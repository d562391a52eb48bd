package ec2cloud_test

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/cloud/ec2cloud"
	"cloudmaster/internal/pool"
)

// spec is a launch of the pool main, whose user data is a line.
func spec(token string, count int) cloud.Spec {
	return cloud.Spec{
		Token: token, Count: count, Image: image, Tags: map[string]string{cloud.TagPool: "main"},
		UserData: func(pool.InstanceID) ([]byte, error) { return []byte("pool: main\n"), nil },
	}
}

// world is a fake with one image and a Cloud value on it.
func world(t *testing.T, opts ec2cloud.Options) (*fake, *ec2cloud.Cloud) {
	t.Helper()
	f := newFake(t)
	f.images = []fakeImage{{id: image}}
	return f, open(t, f.url, "d", opts)
}

var twoSubnets = ec2cloud.Options{Launch: ec2cloud.Launch{Subnets: []string{"subnet-a", "subnet-b"}}}

// tokens are the client tokens and subnets of the launches that the fake was asked for.
func tokens(f *fake) (out []string) {
	for _, form := range f.requests("RunInstances") {
		out = append(out,
			form.Get("ClientToken")+" "+form.Get("SubnetId")+" "+form.Get("MinCount")+"-"+form.Get("MaxCount"))
	}
	return out
}

func TestLaunchTakesTheNextSubnet(t *testing.T) {
	t.Parallel()
	f, c := world(t, twoSubnets)
	f.places["subnet-a"] = 0
	out, err := c.Launch(t.Context(), spec("t", 2))
	if err != nil || len(out) != 2 {
		t.Errorf("got %d instances and error %v, want 2 and none", len(out), err)
	}
	want := []string{"t-0 subnet-a 2-2", "t-1 subnet-b 2-2"} // and no retry of the capacity error
	if got := tokens(f); !slices.Equal(got, want) {
		t.Errorf("requests: got %q, want %q", got, want)
	}
	delete(f.places, "subnet-a") // the token stands for what was started in the other subnet
	again, err := c.Launch(t.Context(), spec("t", 2))
	if err != nil || len(again) != 2 || again[0].ID != out[0].ID || f.living() != 2 {
		t.Errorf("again: got %v, error %v and %d instances alive, want the same two", again, err, f.living())
	}
}

func TestLaunchFewerThanAsked(t *testing.T) {
	t.Parallel()
	f, c := world(t, twoSubnets)
	f.capacity["d"] = 2
	out, err := c.Launch(t.Context(), spec("t", 3))
	if !errors.Is(err, cloud.ErrCapacity) || len(out) != 2 {
		t.Errorf("got %d instances and error %v, want 2 and ErrCapacity", len(out), err)
	}
	want := []string{"t-0 subnet-a 3-3", "t-1 subnet-b 3-3", "t-p0 subnet-a 1-3"}
	if got := tokens(f); !slices.Equal(got, want) {
		t.Errorf("requests: got %q, want %q", got, want)
	}
	f.capacity["d"] = 10
	again, err := c.Launch(t.Context(), spec("t", 3))
	if !errors.Is(err, cloud.ErrCapacity) || len(again) != 2 || f.living() != 2 {
		t.Errorf("again, with room: got %d instances, error %v, %d alive, want the same 2", len(again), err, f.living())
	}
}

func TestLaunchFewerThanAskedInTheNextSubnet(t *testing.T) {
	t.Parallel()
	f, c := world(t, twoSubnets)
	f.places["subnet-a"], f.places["subnet-b"] = 0, 2
	for _, what := range []string{"first", "again"} {
		out, err := c.Launch(t.Context(), spec("t", 3))
		if !errors.Is(err, cloud.ErrCapacity) || len(out) != 2 || f.living() != 2 {
			t.Errorf("%s: got %d instances, error %v and %d alive, want 2 and ErrCapacity", what, len(out), err,
				f.living())
		}
	}
	want := []string{
		"t-0 subnet-a 3-3", "t-1 subnet-b 3-3", "t-p0 subnet-a 1-3", "t-p1 subnet-b 1-3", "t-p1 subnet-b 1-3",
	}
	if got := tokens(f); !slices.Equal(got, want) {
		t.Errorf("requests: got %q, want %q", got, want)
	}
}

func TestLostAnswerStartsNothingMore(t *testing.T) {
	t.Parallel()
	f, c := world(t, twoSubnets)
	f.places["subnet-a"] = 0
	f.lose = func(string) bool { return f.byToken["t-1"] != nil }
	out, err := c.Launch(t.Context(), spec("t", 2))
	if err == nil || errors.Is(err, cloud.ErrCapacity) || len(out) != 0 || f.living() != 2 {
		t.Fatalf("got %v, error %v and %d alive, want a fault although 2 were started", out, err, f.living())
	}
	f.mu.Lock()
	f.lose = func(string) bool { return false }
	delete(f.places, "subnet-a")
	f.mu.Unlock()
	out, err = c.Launch(t.Context(), spec("t", 2))
	if err != nil || len(out) != 2 || f.living() != 2 {
		t.Errorf("again: got %d instances, error %v and %d alive, want the 2 that were started", len(out), err,
			f.living())
	}
	if out, err := c.Launch(t.Context(), spec("t", 3)); !errors.Is(err, cloud.ErrConflict) || len(out) != 0 {
		t.Errorf("with another count: got %d instances and error %v, want ErrConflict", len(out), err)
	}
	if out, err := c.Launch(t.Context(), spec("t", 2)); err != nil || len(out) != 2 || f.living() != 2 {
		t.Errorf("after the conflict: got %d instances, error %v and %d alive, want the 2 that were started",
			len(out), err, f.living())
	}
}

func TestThrottledLaunchIsAskedForAgainFirst(t *testing.T) {
	t.Parallel()
	f, c := world(t, twoSubnets)
	f.places["subnet-a"] = 0
	lost := false // the first try gets through and its answer does not; then EC2 throttles
	f.lose = func(string) bool {
		defer func() { lost = f.byToken["t-1"] != nil }()
		return f.byToken["t-1"] != nil && !lost
	}
	f.fail = func(string, url.Values) (string, string) {
		if lost {
			return "RequestLimitExceeded", "slow down"
		}
		return "", ""
	}
	if _, err := c.Launch(t.Context(), spec("t", 1)); !errors.Is(err, cloud.ErrThrottled) {
		t.Fatalf("got error %v, want ErrThrottled", err)
	}
	f.mu.Lock()
	delete(f.places, "subnet-a")
	f.fail = func(string, url.Values) (string, string) { return "", "" }
	f.mu.Unlock()
	if out, err := c.Launch(t.Context(), spec("t", 1)); err != nil || len(out) != 1 || f.living() != 1 {
		t.Errorf("again: got %d instances, error %v, %d alive, want the one that was started", len(out), err,
			f.living())
	}
}

func TestNewestImageWins(t *testing.T) {
	t.Parallel()
	f, c := world(t, ec2cloud.Options{})
	now := time.Now()
	c.SetNow(func() time.Time { return now })
	f.images = append(f.images,
		fakeImage{"ami-0000000000000002", "primes", "self", "available", "2026-02-01T00:00:00.000Z"},
		fakeImage{"ami-0000000000000003", "primes", "self", "available", "2026-03-01T00:00:00.000Z"},
		fakeImage{"ami-0000000000000004", "primes", "self", "available", "2026-01-01T00:00:00.000Z"},
		fakeImage{"ami-0000000000000005", "primes", "self", "pending", "2026-09-01T00:00:00.000Z"},
		fakeImage{"ami-0000000000000006", "primes", "other", "available", "2026-09-01T00:00:00.000Z"})
	launch := func(token, name, want string) {
		t.Helper()
		s := spec(token, 1)
		s.Image = name
		out, err := c.Launch(t.Context(), s)
		if err != nil || len(out) != 1 || out[0].Image != want {
			t.Errorf("image %s: got %v and error %v, want one instance of %s", name, out, err, want)
		}
	}
	launch("a", "primes", "ami-0000000000000003")
	f.mu.Lock()
	f.images[4].state = "available"
	f.mu.Unlock()
	launch("b", "primes", "ami-0000000000000003") // remembered
	now = now.Add(time.Minute)
	launch("c", "primes", "ami-0000000000000005")
	launch("a", "primes", "ami-0000000000000003") // what the token stands for
	launch("d", "ssm:/images/primes", "ami-0000000000000005")
	if got := len(f.requests("DescribeImages")); got != 2 {
		t.Errorf("got %d DescribeImages, want 2", got)
	}
	f.mu.Lock()
	f.images = f.images[:2]
	f.mu.Unlock()
	s := spec("e", 1)
	s.Image = "primes"
	if _, err := c.Launch(t.Context(), s); !errors.Is(err, cloud.ErrNotFound) {
		t.Errorf("deregistered image: got error %v, want ErrNotFound", err)
	}
	launch("e", "primes", "ami-0000000000000002") // looked up anew at once
}

func TestMissingImageSaysWhatToDo(t *testing.T) {
	t.Parallel()
	_, c := world(t, ec2cloud.Options{ImageOwners: []string{"123456789012"}})
	s := spec("t", 1)
	s.Image = "primes"
	_, err := c.Launch(t.Context(), s)
	for _, want := range []string{`"primes"`, "123456789012", "make ami"} {
		if !errors.Is(err, cloud.ErrNotFound) || !strings.Contains(err.Error(), want) {
			t.Errorf("got error %v, want ErrNotFound with %s", err, want)
		}
	}
}

func TestUserDataLimit(t *testing.T) {
	t.Parallel()
	f, c := world(t, ec2cloud.Options{})
	for size, want := range map[int]error{16 << 10: nil, 16<<10 + 1: cloud.ErrInvalid} {
		s := spec(fmt.Sprint("t-", size), 1)
		s.UserData = func(pool.InstanceID) ([]byte, error) { return make([]byte, size), nil }
		_, err := c.Launch(t.Context(), s)
		if !errors.Is(err, want) || want != nil && !strings.Contains(err.Error(), "16385 bytes") {
			t.Errorf("%d bytes: got error %v, want %v", size, err, want)
		}
	}
	if got := len(f.requests("RunInstances")); got != 1 {
		t.Errorf("got %d requests, want 1", got)
	}
}

func TestLaunchRequest(t *testing.T) {
	t.Parallel()
	f, c := world(t, ec2cloud.Options{
		Launch: ec2cloud.Launch{
			InstanceTypes: []string{"m5.large"}, SecurityGroups: []string{"sg-2", "workers"},
			InstanceProfile: "p", KeyName: "k",
		},
		Pool: func(name pool.Name) (ec2cloud.Launch, bool) {
			return ec2cloud.Launch{
				InstanceTypes: []string{"c5.large"}, Subnets: []string{"subnet-c"},
				SecurityGroups: []string{"workers", "sg-2"}, KeyName: "k",
				InstanceProfile: "arn:aws:iam::1:instance-profile/q", Spot: 100,
			}, name == "spot"
		},
	})
	f.groups["workers"] = []string{"sg-1"}
	other := spec("u", 1)
	other.Tags = map[string]string{cloud.TagPool: "spot", cloud.TagDeployment: "not ours"}
	other.UserData = func(pool.InstanceID) ([]byte, error) { return []byte("\xfb\xff\xfe?"), nil }
	for _, s := range []cloud.Spec{spec("t", 1), other} {
		if _, err := c.Launch(t.Context(), s); err != nil {
			t.Fatalf("Launch: got error %v, want none", err)
		}
	}
	both := map[string]string{
		"SecurityGroupId.1": "sg-1", "SecurityGroupId.2": "sg-2", "KeyName": "k",
		"InstanceInitiatedShutdownBehavior": "terminate", "MetadataOptions.HttpEndpoint": "enabled",
		"MetadataOptions.HttpTokens": "required", "MetadataOptions.HttpPutResponseHopLimit": "1",
		"TagSpecification.1.ResourceType": "instance", "TagSpecification.2.ResourceType": "volume",
	}
	wants := []map[string]string{
		{
			"InstanceType": "m5.large", "UserData": "cG9vbDogbWFpbgo=", "IamInstanceProfile.Name": "p", "SubnetId": "",
			"InstanceMarketOptions.MarketType": "",
		},
		{
			"InstanceType": "c5.large", "UserData": "+//+Pw==",
			"IamInstanceProfile.Arn":           "arn:aws:iam::1:instance-profile/q",
			"SubnetId":                         "subnet-c",
			"InstanceMarketOptions.MarketType": "spot",
			"InstanceMarketOptions.SpotOptions.SpotInstanceType": "one-time",
		},
	}
	for i, form := range f.requests("RunInstances") {
		maps.Copy(wants[i], both)
		for key, want := range wants[i] {
			if got := form.Get(key); got != want {
				t.Errorf("request %d: %s: got %q, want %q", i, key, got, want)
			}
		}
		name := []string{"main", "spot"}[i]
		want := map[string]string{cloud.TagDeployment: "d", cloud.TagPool: name, "Name": "cloudmaster-d-" + name}
		for _, n := range []string{"1", "2"} {
			if got := tagsOf(form, "TagSpecification."+n+".Tag"); !maps.Equal(got, want) {
				t.Errorf("request %d: tags: got %v, want %v", i, got, want)
			}
		}
	}
	if got := len(f.requests("DescribeSecurityGroups")); got != 1 {
		t.Errorf("got %d DescribeSecurityGroups, want 1", got)
	}
}

func TestSecurityGroupsThatCannotBe(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]error{"none": cloud.ErrNotFound, "twice": cloud.ErrInvalid} {
		f, c := world(t, ec2cloud.Options{Launch: ec2cloud.Launch{SecurityGroups: []string{name}}})
		f.groups["twice"] = []string{"sg-1", "sg-2"}
		if _, err := c.Launch(t.Context(), spec("t", 1)); !errors.Is(err, want) ||
			!strings.Contains(err.Error(), name) {
			t.Errorf("group %q: got error %v, want %v with its name", name, err, want)
		}
	}
}

func TestClientTokens(t *testing.T) {
	t.Parallel()
	f, c := world(t, ec2cloud.Options{})
	long := strings.Repeat("a", 63)
	for _, token := range []string{long[:62], long, long + "b", long + "c"} {
		if out, err := c.Launch(t.Context(), spec(token, 1)); err != nil || len(out) != 1 {
			t.Errorf("token %s: got %v and error %v, want an instance", token, out, err)
		}
	}
	seen := map[string]bool{}
	for _, form := range f.requests("RunInstances") {
		got := form.Get("ClientToken")
		if len(got) > 64 || seen[got] || !strings.HasSuffix(got, "-0") {
			t.Errorf("client token: got %q, want one of its own, of at most 64 characters, that ends in -0", got)
		}
		seen[got] = true
	}
}

func TestMemoryOfAttemptsIsBounded(t *testing.T) {
	t.Parallel()
	f, c := world(t, ec2cloud.Options{})
	f.fail = func(string, url.Values) (string, string) { return "", "" }
	for i := range ec2cloud.MaxAttempts + 5 {
		if _, err := c.Launch(t.Context(), spec(fmt.Sprint("t-", i), 1)); err != nil {
			t.Fatal(err)
		}
	}
	if n, ages := c.Remembered(); n != ec2cloud.MaxAttempts || ages != n {
		t.Errorf("got %d attempts and %d ages, want %d of each", n, ages, ec2cloud.MaxAttempts)
	}
}

// TestRefusedLaunchIsSettled: what EC2 refuses with an error of the request has started nothing, whatever its code,
// so that its token can be let go.
func TestRefusedLaunchIsSettled(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]error{
		"IdempotentInstanceTerminated": cloud.ErrConflict, "InvalidInstanceType": cloud.ErrInvalid,
		"InvalidSubnet": cloud.ErrInvalid, "InvalidVpcID.NotFound": cloud.ErrInvalid,
		"VPCIdNotSpecified":    cloud.ErrInvalid,
		"MaxIOPSLimitExceeded": cloud.ErrCapacity, "UnfulfillableCapacity": cloud.ErrCapacity,
		"PrivateIpAddressLimitExceeded": cloud.ErrCapacity, "ResourceCountExceeded": cloud.ErrCapacity,
		"AuthFailure.ServiceLinkedRoleCreationNotPermitted": cloud.ErrDenied, "CodeOfNextYear": cloud.ErrInvalid,
	} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			if err := refused(t, code); !errors.Is(err, want) {
				t.Errorf("got %v, want %v", err, want)
			}
		})
	}
}

// TestFaultOfEC2LeavesALaunchOpen: it may have taken effect.
func TestFaultOfEC2LeavesALaunchOpen(t *testing.T) {
	t.Parallel()
	for _, code := range []string{"InternalError", "Unavailable", "ServiceUnavailable"} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			err := refused(t, code)
			for _, sure := range []error{
				cloud.ErrCapacity, cloud.ErrConflict, cloud.ErrDenied, cloud.ErrNotFound, cloud.ErrInvalid,
			} {
				if err == nil || errors.Is(err, sure) {
					t.Errorf("got %v, want an error that settles nothing", err)
				}
			}
		})
	}
}

// refused returns the error of a launch to which EC2 answers with a code.
func refused(t *testing.T, code string) error {
	t.Helper()
	f, c := world(t, twoSubnets)
	f.fail = func(action string, _ url.Values) (string, string) {
		if action == "RunInstances" {
			return code, "no"
		}
		return "", ""
	}
	_, err := c.Launch(t.Context(), spec("t", 1))
	return err
}
