package awssetup_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"cloudmaster/services/controller/internal/app"
	"cloudmaster/services/controller/internal/awssetup"
	"cloudmaster/services/controller/internal/config"
)

const boundaryARN = "arn:aws:iam::" + account + ":policy/limits"

// cloudKeys are two pools on a cloud with these keys.
func (f *fakeAWS) cloudKeys(keys string) *config.Config {
	f.t.Helper()
	text := fmt.Sprintf(`deployment: d
backend: nats://127.0.0.1:4222
clouds: {aws: {type: ec2, region: eu-west-1, endpoint: %q%s}}
pools:
  primes: {policy: job, image: p, cloud: aws}
  fib: {policy: resource, image: f, cloud: aws, service_port: 20808, client_cidrs: [10.0.0.0/8]}
`, f.endpoint, keys)
	return parsed(f.t, text)
}

func parsed(t *testing.T, text string) *config.Config {
	t.Helper()
	cfg, err := config.Parse("c.yaml", []byte(text), app.Kinds())
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// boundaries are those of all roles that instances may have, by name.
func (f *fakeAWS) boundaries() map[string]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make(map[string]string)
	for name, r := range f.roles {
		if r.Path == "/" {
			out[name] = r.Boundary
		}
	}
	return out
}

func TestRolesAreMadeWithBoundary(t *testing.T) {
	f := newFake(t)
	f.managed[boundaryARN] = true
	cfg := f.cloudKeys(", controller_role: true, permissions_boundary: " + boundaryARN)
	f.mustSetUp(cfg)
	want := map[string]string{
		"cloudmaster-d-eu-west-1-controller": boundaryARN, "cloudmaster-d-eu-west-1-fib": boundaryARN,
		"cloudmaster-d-eu-west-1-primes": boundaryARN,
	}
	if got := f.boundaries(); !reflect.DeepEqual(got, want) {
		t.Errorf("got boundaries %v, want %v", got, want)
	}
	if f.called("PutRolePermissionsBoundary") != 0 {
		t.Error("the boundary was put on a role later, want roles made with it: before that they have no limits")
	}
	if out := f.mustSetUp(cfg); !strings.HasSuffix(out, nothingToDo) {
		t.Errorf("second setup: got\n%s\nwant nothing done", out)
	}
}

func TestBoundaryOfRolesThatAreThere(t *testing.T) {
	f := newFake(t)
	other := boundaryARN + "2"
	f.managed[boundaryARN], f.managed[other] = true, true
	f.mustSetUp(f.cloudKeys(""))
	role := "cloudmaster-d-eu-west-1-fib"
	for _, step := range []struct{ keys, note, boundary string }{
		{", permissions_boundary: " + boundaryARN, "change role " + role +
			": it has no permissions boundary, and should have " + boundaryARN, boundaryARN},
		{", permissions_boundary: " + other, "change role " + role +
			": its permissions boundary is " + boundaryARN + ", not " + other, other},
		{"", "keep role " + role + " (its permissions boundary " + other + " stays, although permissions_boundary " +
			"does not name it; to take it off: aws iam delete-role-permissions-boundary --role-name " + role +
			")", other},
	} {
		out := f.mustSetUp(f.cloudKeys(step.keys))
		wants(t, out, step.note)
		if got := f.boundaries()[role]; got != step.boundary {
			t.Errorf("keys %q: got boundary %q, want %q", step.keys, got, step.boundary)
		}
	}
}

// TestBoundaryComesBeforeThePolicy: IAM refuses a change of the policy of a role without the boundary.
func TestBoundaryComesBeforeThePolicy(t *testing.T) {
	f := newFake(t)
	f.managed[boundaryARN] = true
	f.mustSetUp(f.cloudKeys(", controller_role: true"))
	f.mu.Lock()
	f.roles["cloudmaster-d-eu-west-1-controller"].Policy = "{}"
	f.calls = nil
	f.mu.Unlock()
	f.mustSetUp(f.cloudKeys(", controller_role: true, permissions_boundary: " + boundaryARN))
	put, change := slices.Index(f.calls, "PutRolePermissionsBoundary"), slices.Index(f.calls, "PutRolePolicy")
	if put < 0 || change < put {
		t.Errorf("got calls %q, want the boundary put before the policy", f.calls)
	}
}

func TestBoundaryThatDoesNotExist(t *testing.T) {
	f := newFake(t)
	_, err := f.setup(f.cloudKeys(", permissions_boundary: " + boundaryARN))
	want := "permissions_boundary: there is no managed policy " + boundaryARN + ": make it (aws iam create-policy)"
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q in it", err, want)
	}
	if roles, _ := f.names(); len(roles) > 0 {
		t.Errorf("got roles %q, want nothing made", roles)
	}
}

func TestBadBoundaries(t *testing.T) {
	t.Parallel()
	const head = "deployment: d\nbackend: aws://eu-west-1?account=" + account + "\nclouds: {"
	const tail = "}\npools: {a: {image: i, cloud: one}}\n"
	for name, c := range map[string]struct{ clouds, want string }{
		"another partition": {
			"one: {type: ec2, permissions_boundary: arn:aws-cn:iam::" + account + ":policy/x}",
			"is of partition aws-cn, and the region is in partition aws",
		},
		"another account": {
			"one: {type: ec2, permissions_boundary: arn:aws:iam::999999999999:policy/x}",
			"is of account 999999999999, and this is account " + account,
		},
		"another one in another cloud": {
			"one: {type: ec2, permissions_boundary: " + boundaryARN + "}, two: {type: ec2}",
			"clouds one and two have",
		},
	} {
		cfg := parsed(t, head+c.clouds+tail)
		_, err := awssetup.NewPolicies(t.Context(), cfg, account, region, "b")
		for what, err := range map[string]error{"check": awssetup.Check(t.Context(), cfg), "policies": err} {
			if err == nil || !strings.Contains(err.Error(), "permissions_boundary: ") ||
				!strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %s: got %v, want %q in it", name, what, err, c.want)
			}
		}
	}
	cfg := parsed(t, head+"one: {type: ec2, permissions_boundary: arn:aws:iam::aws:policy/PowerUserAccess}"+tail)
	if err := awssetup.Check(t.Context(), cfg); err != nil {
		t.Errorf("got %v for one of AWS's own managed policies, want it taken", err)
	}
}

// TestSetupPolicyEnforcesBoundary: with a boundary, what gives rights to roles is granted for bounded roles alone.
func TestSetupPolicyEnforcesBoundary(t *testing.T) {
	t.Parallel()
	cfg := parsed(t, "deployment: d\nbackend: aws://eu-west-1\nclouds: {one: {type: ec2, permissions_boundary: "+
		boundaryARN+"}}\npools: {a: {image: i, cloud: one}}\n")
	p, err := awssetup.NewPolicies(t.Context(), cfg, account, region, "b")
	try(t, err)
	gives := []string{"iam:AttachRolePolicy", "iam:CreateRole", "iam:PutRolePermissionsBoundary", "iam:PutRolePolicy"}
	granted := 0
	for _, s := range p.Setup().Statement {
		for _, a := range s.Action {
			switch {
			case a == "iam:DeleteRolePermissionsBoundary" && s.Effect != "Deny":
				t.Errorf("%s grants %s", s.Sid, a)
			case !slices.Contains(gives, a):
			case !slices.Equal(s.Condition["StringEquals"]["iam:PermissionsBoundary"], awssetup.Values{boundaryARN}):
				t.Errorf("%s grants %s with condition %v, want the boundary in it", s.Sid, a, s.Condition)
			default:
				granted++
			}
		}
	}
	if granted != 3 {
		t.Errorf("got %d actions granted with the boundary, want 3", granted)
	}
	if s := statement(p.Setup(), "KeepBoundary"); s.Effect != "Deny" || len(s.Condition) > 0 ||
		!slices.Equal(s.Action, []string{"iam:DeleteRolePermissionsBoundary"}) {
		t.Errorf("got %+v, want taking the boundary off denied", s)
	}
}
