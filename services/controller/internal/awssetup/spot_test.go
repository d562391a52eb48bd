package awssetup_test

import (
	"slices"
	"strings"
	"testing"
)

const spotRole = "AWSServiceRoleForEC2Spot"

// TestSpotRole: an account that never used spot instances has no service-linked role for them, and the first launch
// by somebody who may not make it fails.
func TestSpotRole(t *testing.T) {
	f := newFake(t)
	onDemand, spot := f.config("d", "eu-west-1", ""), f.config("d", "eu-west-1", ", market: spot")
	if out := f.mustSetUp(onDemand); strings.Contains(out, spotRole) || f.roles[spotRole] != nil {
		t.Errorf("without spot:\n%s\nwant no role for it", out)
	}
	wants(t, f.mustSetUp(spot), "create service-linked role "+spotRole, "created service-linked role "+spotRole)
	if f.roles[spotRole] == nil {
		t.Fatal("there is no role for spot")
	}
	if out := f.mustSetUp(spot); !strings.Contains(out, "keep service-linked role "+spotRole+"\n") ||
		!strings.HasSuffix(out, nothingToDo) || f.called("CreateServiceLinkedRole") != 1 {
		t.Errorf("again:\n%s\nwant nothing done", out)
	}
	if out := f.mustTearDown(spot); strings.Contains(out, spotRole) || f.roles[spotRole] == nil {
		t.Errorf("teardown:\n%s\nwant it to leave the role, which others may use", out)
	}
}

// TestSpotRoleIsMadeMeanwhile: AWS makes it, too, at the first launch of somebody who may.
func TestSpotRoleIsMadeMeanwhile(t *testing.T) {
	f := newFake(t)
	f.roles[spotRole] = &fakeRole{Name: spotRole, Path: "/aws-service-role/spot.amazonaws.com/"}
	f.faults["GetRole"] = slices.Repeat([]string{"NoSuchEntity"}, 5) // the last is spot's
	wants(t, f.mustSetUp(f.config("d", "eu-west-1", ", market: spot")), "created service-linked role "+spotRole)
}

// TestSpotRoleThatCannotBeMade: the same error code has another reason, too.
func TestSpotRoleThatCannotBeMade(t *testing.T) {
	f := newFake(t)
	f.faults["CreateServiceLinkedRole"] = []string{"InvalidInput"}
	if out, err := f.setup(f.config("d", "eu-west-1", ", market: spot")); err == nil ||
		!strings.Contains(err.Error(), "could not create service-linked role "+spotRole) {
		t.Errorf("got %v and:\n%s\nwant the error", err, out)
	}
}
