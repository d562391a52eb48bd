package awssetup_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"cloudmaster/internal/awsconf"
	"cloudmaster/services/controller/internal/awssetup"
)

const itsRole = "cloudmaster-d-eu-west-1-controller"

func TestControllerGetsARoleOnRequestAlone(t *testing.T) {
	f := newFake(t)
	f.mustSetUp(f.cloudKeys(""))
	if roles, profiles := f.names(); slices.Contains(roles, itsRole) || slices.Contains(profiles, itsRole) {
		t.Errorf("got roles %q and profiles %q, want none for the controller: nothing asks for it", roles, profiles)
	}
	cfg := f.cloudKeys(", controller_role: true")
	wants(t, f.mustSetUp(cfg), "create role "+itsRole, "create instance profile "+itsRole)
	f.mu.Lock()
	role, profile := f.roles[itsRole], f.profiles[itsRole]
	f.mu.Unlock()
	if role == nil || profile == nil || profile.Role != itsRole {
		t.Fatalf("got role %+v in profile %+v", role, profile)
	}
	p, err := awssetup.NewPolicies(t.Context(), cfg, account, region, "cloudmaster-d-"+account+"-"+region)
	try(t, err)
	if want, err := json.Marshal(p.Controller()); err != nil || role.Policy != string(want) {
		t.Errorf("got policy\n%s\nwant that of controller policy controller (%v)\n%s", role.Policy, err, want)
	}
	if !strings.Contains(role.Trust, `"Service":"ec2.amazonaws.com"`) || role.Tags["cloudmaster:region"] != region {
		t.Errorf("got trust %s and tags %v", role.Trust, role.Tags)
	}
	if out := f.mustSetUp(cfg); !strings.HasSuffix(out, nothingToDo) {
		t.Errorf("second setup: got\n%s\nwant nothing done", out)
	}
	f.mustTearDown(f.cloudKeys("")) // also when the key has gone meanwhile
	if roles, profiles := f.names(); len(roles)+len(profiles) > 0 {
		t.Errorf("after teardown: got roles %q and profiles %q, want none", roles, profiles)
	}
}

// TestControllerRoleAfterLostAnswers: each call that makes something takes effect, and its answer is an error. Setup is
// run until it succeeds.
func TestControllerRoleAfterLostAnswers(t *testing.T) {
	for _, action := range []string{
		"CreateRole", "PutRolePolicy", "CreateInstanceProfile", "AddRoleToInstanceProfile",
	} {
		t.Run(action, func(t *testing.T) {
			f := newFake(t)
			cfg := f.cloudKeys(", controller_role: true")
			f.mustSetUp(f.cloudKeys(""))
			f.lost[action] = 1
			_, err := f.setup(cfg)
			if err == nil || !strings.Contains(err.Error(), "run controller setup again: it goes on from there") {
				t.Fatalf("got %v, want to be told to run it again", err)
			}
			f.mustSetUp(cfg)
			if out := f.mustSetUp(cfg); !strings.HasSuffix(out, nothingToDo) || f.profiles[itsRole].Role != itsRole ||
				f.roles[itsRole].Policy == "" {
				t.Errorf("got\n%s\nprofile %+v, role %+v; want all made", out, f.profiles[itsRole], f.roles[itsRole])
			}
		})
	}
}

func TestControllerRoleOfAnotherDeployment(t *testing.T) {
	f := newFake(t)
	f.roles[itsRole] = &fakeRole{Name: itsRole, Path: "/", Tags: awsconf.SetupTagsIn("e", region)}
	_, err := f.setup(f.cloudKeys(", controller_role: true"))
	if err == nil || !strings.Contains(err.Error(), "role "+itsRole+` belongs to deployment "e"`) {
		t.Errorf("got %v, want the role of the other deployment refused", err)
	}
}

func TestPoolOfTheControllersName(t *testing.T) {
	t.Parallel()
	cfg := parsed(t, "deployment: d\nbackend: aws://eu-west-1\nclouds: {c: {type: ec2, controller_role: true}}\n"+
		"pools: {controller: {image: i, cloud: c}}\n")
	err := awssetup.Check(t.Context(), cfg)
	if err == nil || !strings.Contains(err.Error(), "pools.controller: its role would have the name") {
		t.Errorf("got %v, want the pool's name refused", err)
	}
}

func TestPoolsWithTheControllersProfile(t *testing.T) {
	t.Parallel()
	const path = "arn:aws:iam::123456789012:instance-profile/path/cloudmaster-d-eu-west-1-controller"
	cfg := parsed(t, "deployment: d\nbackend: aws://eu-west-1\nclouds: {c: {type: ec2, controller_role: true}}\n"+
		"pools:\n  a: {image: i, cloud: c, instance_profile: cloudmaster-d-eu-west-1-controller}\n"+
		"  b: {image: i, cloud: c, instance_profile: \""+path+"\"}\n"+
		"  ok: {image: i, cloud: c, instance_profile: cloudmaster-d-eu-west-1-b}\n")
	err := awssetup.Check(t.Context(), cfg)
	for _, name := range []string{"a", "b"} {
		want := "pools." + name + ".instance_profile: cloudmaster-d-eu-west-1-controller is the controller's"
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if err != nil && strings.Contains(err.Error(), "pools.ok") {
		t.Errorf("got %v, want no word about pool ok", err)
	}
}

func TestADeploymentTooLongForRules(t *testing.T) {
	t.Parallel()
	name := strings.Repeat("d", 32)
	cfg := parsed(t, "deployment: "+name+"\nbackend: aws://eu-west-1?bucket=bucket\nclouds: {c: {type: ec2}}\n"+
		"pools: {a: {image: i, cloud: c}}\n")
	want := "deployment: " + name + " is 1 characters too long for the name of an EventBridge rule"
	if err := awssetup.Check(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
}

func TestVPCBindsLaunches(t *testing.T) {
	t.Parallel()
	const head = "deployment: d\nbackend: aws://eu-west-1\nclouds: {c: {type: ec2"
	const tail = "}}\npools: {a: {image: i, cloud: c}}\n"
	vpc := awssetup.Values{"arn:aws:ec2:eu-west-1:" + account + ":vpc/vpc-0123456789abcdef0"}
	cfg := parsed(t, head+", vpc: vpc-0123456789abcdef0"+tail)
	p, err := awssetup.NewPolicies(t.Context(), cfg, account, region, "b")
	try(t, err)
	for _, s := range p.Controller().Statement {
		for _, r := range s.Resource {
			placed := strings.Contains(r, ":subnet/") || strings.Contains(r, ":network-interface/")
			if placed && slices.Contains(s.Action, "ec2:RunInstances") &&
				!slices.Equal(s.Condition["StringEquals"]["ec2:Vpc"], vpc) {
				t.Errorf("%s: %s with condition %v, want it in the VPC alone", s.Sid, r, s.Condition)
			}
		}
	}
	if got := statement(p.Setup(), "MakeGroupsInVPC").Resource; !slices.Equal(got, vpc) {
		t.Errorf("setup may make security groups in %q, want %q", got, vpc)
	}
}

func TestPoolOutsideTheNamedVPC(t *testing.T) {
	f := newFake(t)
	_, err := f.setup(f.cloudKeys(", vpc: vpc-0123456789abcdef0"))
	want := "clouds.aws.vpc: it is vpc-0123456789abcdef0, and instances of pool"
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want the pool's VPC refused", err)
	}
}
