package desired_test

import (
	"testing"
	"time"

	"cloudmaster/internal/cloud"
)

// TestAPoolThatIsWantedAgainDuringItsLastPassStays: the pass has found that nothing is left, and then it was added
// again.
func TestAPoolThatIsWantedAgainDuringItsLastPassStays(t *testing.T) {
	directly(t, func(_ *testing.T, d *direct) {
		d.only(drains(0))
		d.run(d.tasks, 10*time.Second)
		d.only()
		d.passed = func() {
			d.passed = nil
			d.only(drains(0))
		}
		d.run(d.tasks, time.Minute)
		d.wantTasks("later", "intake/a inventory/mem pool/a")
	})
}

// TestARemovedPoolThatHearsNothingStays until it has heard what its instances say.
func TestARemovedPoolThatHearsNothingStays(t *testing.T) {
	directly(t, func(t *testing.T, d *direct) {
		d.only(drains(0))
		d.only()
		for range 3 {
			time.Sleep(time.Second)
			d.tasks.Step(t.Context(), "inventory/mem", time.Now())
			d.tasks.Step(t.Context(), "pool/a", time.Now())
		}
		d.wantTasks("before it hears", "intake/a inventory/mem pool/a")
		d.run(d.tasks, time.Minute)
		d.wantTasks("later", "inventory/mem")
	})
}

// TestStraysAreThoseOfACloud: a pool that runs on one cloud has no instances on another one. What has ended is no
// stray.
func TestStraysAreThoseOfACloud(t *testing.T) {
	directly(t, func(t *testing.T, d *direct) {
		d.listed = []cloud.Instance{{
			ID: "i-ended", Phase: cloud.Terminated, Tags: map[string]string{cloud.TagPool: "gone"},
		}}
		other := want("b", 0, 1)
		other.Cloud = "moon"
		d.only(want("a", 1, 4), other)
		d.run(d.tasks, time.Minute) // both clouds show the same instances
		if d.said("cloud=moon pool=a instances=[i-") != 1 || d.said("cloud=mem pool=a") != 0 || d.said("gone") != 0 {
			t.Errorf("got %s, want the instance of a said once, on the cloud that a does not run on", d.log.String())
		}
	})
}
