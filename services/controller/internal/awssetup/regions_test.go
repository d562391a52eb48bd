package awssetup_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"cloudmaster/internal/pool"
)

// TestTwoRegionsOfOneAccount: IAM is one for all regions, and what it has for one of them is not changed or removed
// from another.
func TestTwoRegionsOfOneAccount(t *testing.T) {
	f := newFake(t)
	west, north := f.config("d", "eu-west-1", ""), f.config("d", "eu-north-1", "")
	f.mustSetUp(west)
	before := *f.roles["cloudmaster-d-eu-west-1-fib"]
	wants(t, f.mustSetUp(north), "created role cloudmaster-d-eu-north-1-fib",
		"created instance profile cloudmaster-d-eu-north-1-fib")
	if after := f.roles["cloudmaster-d-eu-west-1-fib"]; after.Policy != before.Policy || after.Trust != before.Trust ||
		!maps.Equal(after.Tags, before.Tags) {
		t.Errorf("the role of eu-west-1 was %+v and is %+v after the setup of eu-north-1", before, *after)
	}
	f.mustTearDown(north)
	want := []string{"cloudmaster-d-eu-west-1-fib", "cloudmaster-d-eu-west-1-primes"}
	if roles, profiles := f.names(); !slices.Equal(roles, want) || !slices.Equal(profiles, want) {
		t.Errorf("after teardown of eu-north-1: got roles %q and profiles %q, want those of eu-west-1", roles, profiles)
	}
	if again := f.mustSetUp(west); !strings.HasSuffix(again, nothingToDo) {
		t.Errorf("eu-west-1 after teardown of eu-north-1:\n%s\nwant all there", again)
	}
	f.mustTearDown(west)
	if roles, profiles := f.names(); len(roles)+len(profiles) > 0 {
		t.Errorf("after both teardowns: got roles %q and profiles %q, want none", roles, profiles)
	}
}

// TestAnotherRegionsTagIsRefused: a role whose tag names another region is neither changed nor removed, whatever its
// name.
func TestAnotherRegionsTagIsRefused(t *testing.T) {
	f := newFake(t)
	cfg := f.config("d", "eu-west-1", "")
	f.mustSetUp(cfg)
	const name = "cloudmaster-d-eu-west-1-fib"
	f.roles[name].Tags["cloudmaster:region"] = "eu-north-1"
	f.profiles[name].Tags["cloudmaster:region"] = "eu-north-1"
	f.roles[name].Policy = "theirs"
	out, err := f.setup(cfg)
	for _, want := range []string{
		`instance profile ` + name + ` was made for region "eu-north-1", and this is eu-west-1`,
		"name another one in instance_profile",
	} {
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(out, "changed") {
			t.Errorf("got %v and:\n%s\nwant a refusal with %q", err, out, want)
		}
	}
	out = f.mustTearDown(cfg)
	wants(t, out, "leave instance profile "+name+" (made for region eu-north-1)",
		"leave role "+name+" (made for region eu-north-1)")
	if f.roles[name] == nil || f.roles[name].Policy != "theirs" || f.profiles[name] == nil {
		t.Errorf("got roles %v and profiles %v, want those of the other region untouched", f.roles, f.profiles)
	}
}

// TestNamesWithoutRegion: what an earlier version made has no region in its name and no tag of one. Setup makes new
// ones, and says what is left over; teardown leaves it, because another region may use it.
func TestNamesWithoutRegion(t *testing.T) {
	f := newFake(t)
	cfg := f.config("d", "eu-west-1", "")
	old := map[string]string{"cloudmaster:deployment": "d", "cloudmaster:made-by": "setup"}
	f.roles["cloudmaster-d-fib"] = &fakeRole{Name: "cloudmaster-d-fib", Path: "/", Tags: old, Policy: "old"}
	f.profiles["cloudmaster-d-fib"] = &fakeProfile{Name: "cloudmaster-d-fib", Role: "cloudmaster-d-fib", Tags: old}
	const note = " (an earlier version made it, and it may be in use in any region: " +
		"delete it by hand when no instance uses it any more)"
	wants(t, f.mustSetUp(cfg), "create role cloudmaster-d-eu-west-1-fib",
		"create instance profile cloudmaster-d-eu-west-1-fib",
		"leave instance profile cloudmaster-d-fib"+note, "leave role cloudmaster-d-fib"+note,
		"created role cloudmaster-d-eu-west-1-fib")
	wants(t, f.mustTearDown(cfg), "leave instance profile cloudmaster-d-fib"+note, "leave role cloudmaster-d-fib"+note)
	if roles, _ := f.names(); !slices.Equal(roles, []string{"cloudmaster-d-fib"}) ||
		f.roles["cloudmaster-d-fib"].Policy != "old" {
		t.Errorf("got roles %q, want the old one as it was", roles)
	}
}

// TestLongNames: IAM takes 64 characters. Longer names are cut, and stay different and ours.
func TestLongNames(t *testing.T) {
	f := newFake(t)
	cfg := f.config(strings.Repeat("d", 32), "ap-southeast-1", "")
	for i := range 2 {
		p := cfg.Pools["primes"]
		p.Name = pool.Name(strings.Repeat("p", 20) + fmt.Sprint(i))
		cfg.Pools[p.Name] = p
	}
	f.mustSetUp(cfg)
	roles, profiles := f.names()
	if len(roles) != 4 || !slices.Equal(roles, profiles) {
		t.Errorf("got roles %q and profiles %q, want one of each for each of 4 pools", roles, profiles)
	}
	for _, name := range roles {
		if len(name) > 64 {
			t.Errorf("%s has %d characters, and IAM takes 64", name, len(name))
		}
	}
	if again := f.mustSetUp(cfg); !strings.HasSuffix(again, nothingToDo) {
		t.Errorf("the second setup:\n%s\nwant it to find all by their names", again)
	}
	f.mustTearDown(cfg)
	if roles, _ := f.names(); len(roles) > 0 {
		t.Errorf("got %q, want none after teardown", roles)
	}
}
