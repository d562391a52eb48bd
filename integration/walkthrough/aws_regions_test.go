package walkthrough

import (
	"strings"
	"testing"

	"cloudmaster/integration/aws/iam"
)

// TestStoryTwoRegions: a deployment of one name in two regions of one account. Both work, and a teardown of one leaves
// the other working.
func TestStoryTwoRegions(t *testing.T) {
	const other = "us-east-1" // where names of buckets and hosts are made in another way
	a := newAmazon(t, iam.Options{})
	first, second := a.begin(region, plot{pools: primesPool}), a.begin(other, plot{pools: primesPool})
	first.setup()
	second.setup()
	both := []*story{first, second}
	for _, s := range both {
		s.controllerStarts()
		s.feeds("1|6573")
	}
	for _, s := range both {
		s.processed("1|6573")
		s.sees("no instances", s.empty("primes"))
	}
	first.over()
	first.controllerStops()
	first.teardown()
	for _, left := range a.left(region) {
		if strings.Contains(left, region) {
			t.Errorf("teardown in %s has left %s", region, left)
		}
	}
	second.feeds("2|6573")
	second.processed("2|6573")
	second.sees("no instances", second.empty("primes"))
	second.over()
	second.controllerStops()
	second.teardown()
	if left := a.left(region, other); len(left) > 0 {
		t.Errorf("both are torn down, and there is still %q", left)
	}
}
