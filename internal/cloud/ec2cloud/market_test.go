package ec2cloud_test

import (
	"fmt"
	"net/url"
	"testing"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/cloud/ec2cloud"
)

// TestSpotShare: of a hundred instances of the pool so many are spot, whatever the launches that make it up; without
// capacity for spot, the rest waits, or runs on demand if the pool says so.
func TestSpotShare(t *testing.T) {
	t.Parallel()
	m := newMarket(t, func(l *ec2cloud.Launch) { l.Spot = 60 })
	for _, n := range []int{1, 3, 5, 1} {
		m.want(fmt.Sprint(n), n, n, nil)
	}
	if got := m.spread(byMarket); got["spot"] != 6 || got[""] != 4 {
		t.Errorf("got %v, want 6 spot and 4 on demand", got)
	}
	for _, fallback := range []bool{false, true} {
		m := newMarket(t, func(l *ec2cloud.Launch) {
			l.Spot, l.Fallback, l.InstanceTypes = 100, fallback, l.InstanceTypes[:1]
		})
		m.offers["c7g.large subnet-a spot"], m.offers["c7g.large subnet-b spot"] = 0, 0
		if !fallback {
			m.want("no fallback", 2, 0, cloud.ErrCapacity)
			continue
		}
		m.want("fallback", 2, 2, nil)
		m.wantAsked("fallback",
			"c7g.large subnet-a spot 2-2", "c7g.large subnet-b spot 2-2", "c7g.large subnet-a 2-2")
	}
}

// TestSpotThatIsNotAllowed runs on demand if the pool says so: the account lacks the role for it.
func TestSpotThatIsNotAllowed(t *testing.T) {
	t.Parallel()
	m := newMarket(t, func(l *ec2cloud.Launch) { l.Spot, l.Fallback = 100, true })
	m.fail = func(_ string, form url.Values) (string, string) {
		if byMarket(form) == "spot" {
			return "AuthFailure.ServiceLinkedRoleCreationNotPermitted", "no"
		}
		return "", ""
	}
	m.want("on demand", 1, 1, nil)
	if got := m.spread(byMarket); got[""] != 1 {
		t.Errorf("got %v, want one on demand", got)
	}
}

// TestBothMarketsAreLevelTogether: what is placed as spot counts when the rest is placed on demand.
func TestBothMarketsAreLevelTogether(t *testing.T) {
	t.Parallel()
	m := newMarket(t, func(l *ec2cloud.Launch) { l.Balanced, l.Spot = true, 50 })
	m.want("two", 2, 2, nil)
	if got := m.spread(bySubnet); got["subnet-a"] != 1 || got["subnet-b"] != 1 {
		t.Errorf("got %v, want one in each", got)
	}
}
