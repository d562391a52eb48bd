package ec2cloud_test

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/smithy-go"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/cloud/ec2cloud"
	"cloudmaster/internal/pool"
)

func TestManyInstances(t *testing.T) {
	t.Parallel()
	f, c := world(t, ec2cloud.Options{})
	f.page = 50
	if _, err := c.Launch(t.Context(), spec("t", 151)); err != nil {
		t.Fatal(err)
	}
	c = open(t, f.url, "d", ec2cloud.Options{}) // knows none of them
	all, err := c.List(t.Context())
	if err != nil || len(all) != 151 || len(f.requests("DescribeInstances")) != 4 {
		t.Fatalf("got %d instances in %d requests and error %v, want 151 in 4", len(all),
			len(f.requests("DescribeInstances")), err)
	}
	ids := make([]pool.InstanceID, len(all))
	for i, inst := range all {
		ids[i] = inst.ID
	}
	if err := c.Terminate(t.Context(), ids...); err != nil || f.living() != 0 {
		t.Errorf("Terminate: got error %v and %d alive, want none", err, f.living())
	}
	if got := len(f.requests("TerminateInstances")); got != 2 {
		t.Errorf("got %d TerminateInstances, want 2", got)
	}
	if got := len(f.requests("DescribeInstances")); got != 4 {
		t.Errorf("got %d DescribeInstances, want still 4: what was listed is known", got)
	}
}

func TestInstanceOnTwoPagesIsListedOnce(t *testing.T) {
	t.Parallel()
	f, c := world(t, ec2cloud.Options{})
	if _, err := c.Launch(t.Context(), spec("t", 2)); err != nil {
		t.Fatal(err)
	}
	f.page = 1
	f.instances = append(f.instances, f.instances[0])
	if all, err := c.List(t.Context()); err != nil || len(all) != 2 {
		t.Errorf("got %d instances and error %v, want 2", len(all), err)
	}
}

// TestUnlistedInstancesAreLookedUp: who has just been opened acts on its deployment's instances, and on no others.
func TestUnlistedInstancesAreLookedUp(t *testing.T) {
	t.Parallel()
	f, c := world(t, ec2cloud.Options{})
	out, err := c.Launch(t.Context(), spec("t", 1))
	if err != nil {
		t.Fatal(err)
	}
	for deployment, want := range map[string]error{"other": cloud.ErrNotFound, "d": nil} {
		c := open(t, f.url, deployment, ec2cloud.Options{})
		if err := c.Tag(t.Context(), map[string]string{"by": deployment}, out[0].ID); !errors.Is(err, want) {
			t.Errorf("Tag by deployment %s: got error %v, want %v", deployment, err, want)
		}
	}
	for _, deployment := range []string{"other", "d"} {
		if f.living() != 1 {
			t.Errorf("before Terminate by deployment %s: got %d alive, want 1", deployment, f.living())
		}
		if err := open(t, f.url, deployment, ec2cloud.Options{}).Terminate(t.Context(), out[0].ID); err != nil {
			t.Errorf("Terminate by deployment %s: got error %v, want none", deployment, err)
		}
	}
	if by := f.instances[0].tags["by"]; f.living() != 0 || by != "d" {
		t.Errorf("got %d alive, tagged by %q, want none, by d", f.living(), by)
	}
}

func TestInstancesThatHaveGoneAreForgotten(t *testing.T) {
	t.Parallel()
	f, c := world(t, ec2cloud.Options{})
	now := time.Now()
	c.SetNow(func() time.Time { return now })
	if _, err := c.Launch(t.Context(), spec("t", 3)); err != nil {
		t.Fatal(err)
	}
	f.instances[0].state = "terminated"
	for _, step := range []struct {
		pass time.Duration
		want int
	}{{time.Hour, 3}, {time.Hour + time.Minute, 2}} {
		now = now.Add(step.pass)
		if _, err := c.List(t.Context()); err != nil || c.Seen() != step.want {
			t.Errorf("after another %s: got %d known instances and error %v, want %d", step.pass, c.Seen(), err,
				step.want)
		}
	}
}

// TestTerminateDespiteMissing: of instances that are known, some have gone meanwhile.
func TestTerminateDespiteMissing(t *testing.T) {
	t.Parallel()
	for name, message := range map[string]string{"named": "", "not named": "some do not exist"} {
		f, c := world(t, ec2cloud.Options{})
		out, err := c.Launch(t.Context(), spec("t", 5))
		if err != nil {
			t.Fatal(err)
		}
		f.instances[1].state, f.instances[3].state = "terminated", "terminated"
		f.fail = func(action string, form url.Values) (string, string) {
			_, missing := f.find(listOf(form, "InstanceId"))
			if action == "TerminateInstances" && len(missing) > 0 && message != "" {
				return "InvalidInstanceID.NotFound", message
			}
			return "", ""
		}
		var ids []pool.InstanceID
		for _, inst := range out {
			ids = append(ids, inst.ID)
		}
		ids = append(ids, "rubbish", unknown)
		if err := c.Terminate(t.Context(), ids...); err != nil || f.living() != 0 {
			t.Errorf("%s: got error %v and %d alive, want none", name, err, f.living())
		}
		if got := len(f.requests("TerminateInstances")); message == "" && got != 2 {
			t.Errorf("%s: got %d requests, want 2", name, got)
		}
	}
}

// TestTagDespiteMissing: one that was known has gone meanwhile; the others are tagged.
func TestTagDespiteMissing(t *testing.T) {
	t.Parallel()
	f, c := world(t, ec2cloud.Options{})
	out, err := c.Launch(t.Context(), spec("t", 3))
	if err != nil {
		t.Fatal(err)
	}
	f.instances[1].state = "terminated"
	err = c.Tag(t.Context(), map[string]string{"a": "b"}, out[0].ID, out[1].ID, unknown, out[2].ID)
	for _, gone := range []pool.InstanceID{out[1].ID, unknown} {
		if !errors.Is(err, cloud.ErrNotFound) || !strings.Contains(err.Error(), string(gone)) {
			t.Errorf("got error %v, want ErrNotFound with %s", err, gone)
		}
	}
	for i, want := range []string{"b", "", "b"} {
		if got := f.instances[i].tags["a"]; got != want {
			t.Errorf("instance %d: got tag %q, want %q", i, got, want)
		}
	}
	if got := len(f.requests("CreateTags")); got != 2 {
		t.Errorf("got %d CreateTags, want 2", got)
	}
}

func TestTerminateDespiteProtection(t *testing.T) {
	t.Parallel()
	f, c := world(t, ec2cloud.Options{})
	out, err := c.Launch(t.Context(), spec("t", 3))
	if err != nil {
		t.Fatal(err)
	}
	f.fail = func(action string, form url.Values) (string, string) {
		if action == "TerminateInstances" && strings.Contains(form.Encode(), string(out[1].ID)) {
			return "OperationNotPermitted", "protected"
		}
		return "", ""
	}
	err = c.Terminate(t.Context(), out[0].ID, out[1].ID, out[2].ID)
	if !errors.Is(err, cloud.ErrDenied) || !strings.Contains(err.Error(), string(out[1].ID)) || f.living() != 1 {
		t.Errorf("got error %v and %d alive, want ErrDenied for %s alone", err, f.living(), out[1].ID)
	}
}

func TestThrottledAndDenied(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]error{
		"RequestLimitExceeded":  cloud.ErrThrottled,
		"UnauthorizedOperation": cloud.ErrDenied,
	} {
		f, c := world(t, ec2cloud.Options{})
		out, err := c.Launch(t.Context(), spec("t", 1))
		if err != nil {
			t.Fatal(err)
		}
		f.fail = func(string, url.Values) (string, string) { return code, "no" }
		_, listErr := c.List(t.Context())
		_, launchErr := c.Launch(t.Context(), spec("u", 1))
		for name, err := range map[string]error{
			"List": listErr, "Launch": launchErr, "Terminate": c.Terminate(t.Context(), out[0].ID, unknown),
			"Tag": c.Tag(t.Context(), map[string]string{"a": "b"}, out[0].ID),
		} {
			if !errors.Is(err, want) {
				t.Errorf("%s: got error %v, want %v", name, err, want)
			}
		}
	}
}

func TestPhasesAndAddresses(t *testing.T) {
	t.Parallel()
	f, c := world(t, ec2cloud.Options{Launch: ec2cloud.Launch{Public: true}})
	if _, err := c.Launch(t.Context(), spec("t", 6)); err != nil {
		t.Fatal(err)
	}
	want := map[string]cloud.Phase{
		"pending": cloud.Pending, "running": cloud.Running, "shutting-down": cloud.Terminating,
		"stopping": cloud.Halting, "stopped": cloud.Stopped, "terminated": cloud.Terminated,
	}
	states := map[pool.InstanceID]string{}
	for i, state := range []string{"pending", "running", "shutting-down", "stopping", "stopped", "terminated"} {
		f.instances[i].state, f.instances[i].dns = state, state+".example"
		states[pool.InstanceID(f.instances[i].id)] = state
	}
	all, err := c.List(t.Context())
	if err != nil || len(all) != len(want) {
		t.Fatalf("got %d instances and error %v, want %d", len(all), err, len(want))
	}
	for _, inst := range all {
		state := states[inst.ID]
		if inst.Phase != want[state] || inst.Address != state+".example" {
			t.Errorf("%s: got phase %s and address %q, want %s and the public name", state, inst.Phase, inst.Address,
				want[state])
		}
		if ends := inst.Phase > cloud.Running; ends != (inst.Reason == "because of "+state) {
			t.Errorf("%s: got reason %q, want EC2's if and only if it does not run", state, inst.Reason)
		}
	}
}

// TestPrivateAddress: clients in the network are sent to the private address, which needs no DNS, though there is a
// public one. Each pool has a choice of its own.
func TestPrivateAddress(t *testing.T) {
	t.Parallel()
	outside := pool.Name("outside")
	f, c := world(t, ec2cloud.Options{Pool: func(name pool.Name) (ec2cloud.Launch, bool) {
		return ec2cloud.Launch{Public: name == outside}, true
	}})
	for _, name := range []string{"inside", string(outside)} {
		s := spec(name, 1)
		s.Tags[cloud.TagPool] = name
		if _, err := c.Launch(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range f.instances {
		m.dns, m.ip, m.privateDNS, m.privateIP = "public.example", "192.0.2.1", "private.example", "10.0.0.1"
	}
	want := map[string]string{"inside": "10.0.0.1", "outside": "public.example"}
	all, err := c.List(t.Context())
	if err != nil || len(all) != 2 {
		t.Fatalf("got %v, %v, want both", all, err)
	}
	for _, inst := range all {
		if name := inst.Tags[cloud.TagPool]; inst.Address != want[name] {
			t.Errorf("pool %s: got %q, want %q", name, inst.Address, want[name])
		}
	}
}

func TestAddressIsWhatReachesFurthest(t *testing.T) {
	t.Parallel()
	f, c := world(t, ec2cloud.Options{Launch: ec2cloud.Launch{Public: true}})
	if _, err := c.Launch(t.Context(), spec("t", 1)); err != nil {
		t.Fatal(err)
	}
	m := f.instances[0]
	m.state, m.dns, m.ip = "running", "public.example", "192.0.2.1"
	m.privateDNS, m.privateIP = "private.example", "10.0.0.1"
	for _, next := range []*string{&m.dns, &m.ip, &m.privateDNS, &m.privateIP, nil} {
		want := ""
		if next != nil {
			want = *next
		}
		all, err := c.List(t.Context())
		if err != nil || len(all) != 1 || all[0].Address != want {
			t.Errorf("got %v and error %v, want one instance at %q", all, err, want)
		}
		if next != nil {
			*next = ""
		}
	}
}

func TestErrorTable(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]error{
		"InsufficientInstanceCapacity": cloud.ErrCapacity, "InstanceLimitExceeded": cloud.ErrCapacity,
		"VcpuLimitExceeded":            cloud.ErrCapacity,
		"MaxSpotInstanceCountExceeded": cloud.ErrCapacity, "SpotMaxPriceTooLow": cloud.ErrCapacity,
		"InsufficientHostCapacity":          cloud.ErrCapacity,
		"InsufficientFreeAddressesInSubnet": cloud.ErrCapacity, "Unsupported": cloud.ErrCapacity,
		"IdempotentParameterMismatch": cloud.ErrConflict,
		"InvalidAMIID.NotFound":       cloud.ErrNotFound, "InvalidAMIID.Malformed": cloud.ErrInvalid,
		"InvalidAMIID.Unavailable": cloud.ErrNotFound,
		"InvalidSubnetID.NotFound": cloud.ErrNotFound, "InvalidGroup.NotFound": cloud.ErrNotFound,
		"InvalidKeyPair.NotFound":     cloud.ErrNotFound,
		"InvalidInstanceID.Malformed": cloud.ErrNotFound, "InvalidParameterValue": cloud.ErrInvalid,
		"InvalidParameterCombination": cloud.ErrInvalid,
		"InvalidUserData.Malformed":   cloud.ErrInvalid, "RequestLimitExceeded": cloud.ErrThrottled,
		"UnauthorizedOperation": cloud.ErrDenied,
		"ParameterNotFound":     cloud.ErrNotFound, "NoSuchEntity": cloud.ErrNotFound,
		"UnsupportedOperation":        cloud.ErrInvalid,
		"ReservationCapacityExceeded": cloud.ErrCapacity, "PendingVerification": cloud.ErrDenied,
		"InvalidID": cloud.ErrNotFound, "InvalidIDs": nil, "ValidationException": cloud.ErrInvalid,
		"InternalError": nil,
		"Unavailable":   nil, "": nil,
	} {
		cause := fmt.Errorf("call: %w", &smithy.GenericAPIError{Code: code})
		got := ec2cloud.Classify(cause)
		if !errors.Is(got, cause) {
			t.Errorf("%q: got %v, want the cause in it", code, got)
		}
		for _, known := range []error{
			cloud.ErrCapacity, cloud.ErrThrottled, cloud.ErrDenied, cloud.ErrNotFound,
			cloud.ErrConflict, cloud.ErrInvalid,
		} {
			if is := errors.Is(got, known); is != (known == want) { //nolint:errorlint // both are the port's own
				t.Errorf("%q is %v: got %t, want %t", code, known, is, !is)
			}
		}
	}
}

func TestMissingProfileNamesTheNextStep(t *testing.T) {
	t.Parallel()
	for _, cause := range []*smithy.GenericAPIError{
		{
			Code:    "InvalidParameterValue",
			Message: "Value (x) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name",
		},
		{Code: "NoSuchEntity", Message: "Instance profile x not found"},
	} {
		err := ec2cloud.Classify(cause)
		if !strings.Contains(err.Error(), "run controller setup") || !errors.Is(err, cause) ||
			!errors.Is(err, cloud.ErrInvalid) && !errors.Is(err, cloud.ErrNotFound) {
			t.Errorf("got %v, want it to name controller setup", err)
		}
	}
	if err := ec2cloud.Classify(&smithy.GenericAPIError{
		Code:    "InvalidParameterValue",
		Message: "size",
	}); strings.Contains(err.Error(), "setup") {
		t.Errorf("got %v, want no advice about profiles", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		deployment string
		opts       ec2cloud.Options
		want       string
	}{
		"deployment": {"a*", ec2cloud.Options{}, `deployment "a*"`},
		"subnet": {
			"a", ec2cloud.Options{Launch: ec2cloud.Launch{Subnets: []string{"main"}}}, `open EC2 cloud: subnet "main"`,
		},
		"group": {
			"a", ec2cloud.Options{Launch: ec2cloud.Launch{SecurityGroups: []string{""}}}, "a security group is empty",
		},
		"type": {
			"a",
			ec2cloud.Options{Launch: ec2cloud.Launch{InstanceTypes: []string{"t3 micro"}}},
			`instance type "t3 micro"`,
		},
	} {
		_, err := ec2cloud.Open(t.Context(), config(t, "http://localhost", "test"), tc.deployment, tc.opts)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got error %v, want %q in it", name, err, tc.want)
		}
	}
}

func TestEmptyDeploymentIsDefault(t *testing.T) {
	t.Parallel()
	f, _ := world(t, ec2cloud.Options{})
	c := open(t, f.url, "", ec2cloud.Options{})
	out, err := c.Launch(t.Context(), spec("t", 1))
	if err != nil || out[0].Tags[cloud.TagDeployment] != "default" {
		t.Errorf("got %v and error %v, want the deployment default", out, err)
	}
}
