package policy_test

import (
	"testing"
	"time"

	"cloudmaster/internal/policy"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/pool/pooltest"
)

// TestRetire checks that a removed pool launches nothing, whatever its minimum and its backlog are, and ends the
// instances that may end.
func TestRetire(t *testing.T) {
	t.Parallel()
	limits := pool.Limits{
		Minimum: 2, Maximum: 4, StopLimit: 1, MinimumLifetime: 24 * time.Hour, MinimumActiveTime: 24 * time.Hour,
	}
	for name, c := range map[string]struct {
		base   policy.Policy
		drain  bool
		fleets map[string]string
	}{
		"workers": {newJob(t, jobDefaults), false, map[string]string{
			"":                        "nothing",
			"idle/young busy idle":    "stop [i-1 i-3]",
			"starting stopping mute":  "stop [i-1]",
			"busy busy busy busy":     "nothing",
			"idle/silent busy/silent": "stop [i-1 i-2]",
		}},
		"servers": {newResource(t, resourceDefaults), true, map[string]string{
			"0.5/young idle":          "shut down [i-1 i-2]",
			"draining draining:0.4":   "stop [i-1]",
			"draining:0.4/now mute":   "shut down [i-2]",
			"starting draining:0.1":   "stop [i-1]",
			"0.9 0.9 0.9 draining:.2": "shut down [i-1 i-2 i-3]",
		}},
	} {
		judge := policy.Judge{
			Policy: c.base, Limits: limits, Watchdog: policy.Watchdog{Interval: 10 * time.Minute, BreakerRatio: 0.5},
		}
		judge.Limits.Drain = c.drain
		for fleet, want := range c.fleets {
			s := pool.Snapshot{Now: pooltest.Now, Backlog: visible(9), Requests: 9, Instances: pooltest.Fleet(t, fleet)}
			got, _ := policy.Retire(judge).Decide(&s, pool.Budget{Stops: 9})
			if acts(got) != want {
				t.Errorf("%s, %q: got %s, want %s", name, fleet, &got, want)
			}
			for _, e := range append(got.Stop, got.ShutDown...) {
				if e.Cause != pool.PoolRemoved && e.Cause != pool.Drained && !e.Cause.Failed() {
					t.Errorf("%s, %q: got cause %s", name, fleet, e.Cause)
				}
			}
		}
	}
}
