package awssetup_test

import (
	"slices"
	"strings"
	"testing"
)

// TestWhatIsNotKnownYetIsTriedAgain: IAM and EC2 do not know everywhere at once what was made or changed.
func TestWhatIsNotKnownYetIsTriedAgain(t *testing.T) {
	f := newFake(t)
	cfg := f.config("d", "eu-west-1", "")
	lag := map[string]string{
		"UpdateAssumeRolePolicy":        "ConcurrentModification",
		"CreateRole":                    "EntityTemporarilyUnmodifiable",
		"CreateInstanceProfile":         "ConcurrentModification",
		"AddRoleToInstanceProfile":      "NoSuchEntity",
		"AuthorizeSecurityGroupIngress": "InvalidGroup.NotFound",
		"RemoveRoleFromInstanceProfile": "ConcurrentModification",
		"DeleteInstanceProfile":         "DeleteConflict",
		"DeleteRole":                    "DeleteConflict",
		"DeleteSecurityGroup":           "DependencyViolation",
	}
	for action, code := range lag {
		f.faults[action] = []string{code}
	}
	f.mustSetUp(cfg)
	f.roles["cloudmaster-d-eu-west-1-fib"].Trust = `{}`
	wants(t, f.mustSetUp(cfg), "changed role cloudmaster-d-eu-west-1-fib")
	if again := f.mustSetUp(cfg); !strings.HasSuffix(again, nothingToDo) {
		t.Errorf("after all that:\n%s\nwant everything there", again)
	}
	f.mustTearDown(cfg)
	if roles, profiles := f.names(); len(roles)+len(profiles)+len(f.groups) > 0 {
		t.Errorf("after teardown: got roles %q, profiles %q and %d groups", roles, profiles, len(f.groups))
	}
	for action, code := range lag {
		if len(f.faults[action]) > 0 {
			t.Errorf("%s was never answered with %s", action, code)
		}
	}
}

// TestRulesOfOperatorsStay: setup closes what it opened itself, and nothing that somebody else opened.
func TestRulesOfOperatorsStay(t *testing.T) {
	f := newFake(t)
	cfg := f.config("d", "eu-west-1", "")
	f.mustSetUp(cfg)
	const name, mine = "cloudmaster-d-fib", " (opened by controller setup)"
	if got := f.rules("eu-west-1", name); !slices.Equal(got, []string{"tcp 20808 10.0.0.0/8" + mine}) {
		t.Fatalf("got %q", got)
	}
	g := f.group("eu-west-1", name)
	g.Rules = append(g.Rules, fakeRule{Proto: "tcp", From: "22", To: "22", Block: "192.0.2.7/32", Description: "ops"})
	if out := f.mustSetUp(cfg); !strings.HasSuffix(out, nothingToDo) ||
		!strings.Contains(out, "keep security group "+name+" (also open, and left so: tcp 22 from 192.0.2.7/32)") {
		t.Errorf("with a rule of an operator:\n%s\nwant it named and kept", out)
	}
	pl := cfg.Pools["fib"]
	pl.ServicePort = 20809
	cfg.Pools["fib"] = pl
	wants(t, f.mustSetUp(cfg), "change security group "+name+": open tcp 20809 from 10.0.0.0/8, "+
		"close tcp 20808 from 10.0.0.0/8; also open, and left so: tcp 22 from 192.0.2.7/32")
	if got := f.rules("eu-west-1", name); !slices.Equal(got,
		[]string{"tcp 20809 10.0.0.0/8" + mine, "tcp 22 192.0.2.7/32 (ops)"}) {
		t.Errorf("with another port: got %q, want the operator's rule and the new one", got)
	}
}

// TestRulesOfEarlierVersions: they did not describe their rules. One that is still wanted is described, so that it is
// closed when it is not wanted any more.
func TestRulesOfEarlierVersions(t *testing.T) {
	f := newFake(t)
	cfg := f.config("d", "eu-west-1", "")
	f.mustSetUp(cfg)
	f.group("eu-west-1", "cloudmaster-d-fib").Rules[0].Description = ""
	wants(t, f.mustSetUp(cfg), "change security group cloudmaster-d-fib: describe tcp 20808 from 10.0.0.0/8")
	if out := f.mustSetUp(cfg); !strings.HasSuffix(out, nothingToDo) {
		t.Errorf("got:\n%s\nwant nothing more to do", out)
	}
	pl := cfg.Pools["fib"]
	pl.ServicePort = 0
	cfg.Pools["fib"] = pl
	f.mustSetUp(cfg)
	if got := f.rules("eu-west-1", "cloudmaster-d-fib"); len(got) > 0 {
		t.Errorf("without a port: got %q, want nothing open", got)
	}
}
