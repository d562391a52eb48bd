package pool_test

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"cloudmaster/internal/pool"
	"cloudmaster/internal/pool/pooltest"
)

// TestApplySpends checks what a decision takes from the budget: the controller subtracts it from what is left.
func TestApplySpends(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		fleet  string
		limits pool.Limits
		ask    pool.Decision
		want   pool.Budget
	}{
		"launches":        {"", pool.Limits{Maximum: 9}, pool.Decision{Launch: 2}, pool.Budget{Starts: 2}},
		"minimum is free": {"", pool.Limits{Minimum: 2, Maximum: 9}, pool.Decision{}, pool.Budget{}},
		"what is above minimum": {
			"", pool.Limits{Minimum: 2, Maximum: 9}, pool.Decision{Launch: 3}, pool.Budget{Starts: 1},
		},
		"reactivations are free": {
			"draining", pool.Limits{Maximum: 9}, pool.Decision{Launch: 3}, pool.Budget{Starts: 2},
		},
		"clamped ones are not paid": {
			"", pool.Limits{Maximum: 1}, pool.Decision{Launch: 3}, pool.Budget{Starts: 1},
		},
		"stops and shut downs": {
			"idle idle",
			pool.Limits{Maximum: 9},
			pool.Decision{ShutDown: ends("i-1"), Stop: ends("i-2")},
			pool.Budget{Stops: 2},
		},
		"the end of a drain is free": {
			"draining", pool.Limits{Maximum: 9}, pool.Decision{Stop: ends("i-1")}, pool.Budget{},
		},
		"a surplus is free": {
			"idle idle idle", pool.Limits{Maximum: 1}, pool.Decision{Stop: ends("i-1")}, pool.Budget{Stops: 1},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := pool.Snapshot{Now: pooltest.Now, Instances: pooltest.Fleet(t, c.fleet)}
			c.ask.Spent = pool.Budget{Starts: 7, Stops: 7} // whatever a policy writes there
			if got := c.limits.Apply(&s, c.ask, plenty); got.Spent != c.want {
				t.Errorf("%q, asked %s: got %+v, want %+v (%s)", c.fleet, &c.ask, got.Spent, c.want, &got)
			}
		})
	}
}

func TestApplyChangesNeitherSnapshotNorDecision(t *testing.T) {
	t.Parallel()
	const fleet = "idle idle/young draining draining:0.3 busy starting idle"
	s := pool.Snapshot{Now: pooltest.Now, Instances: pooltest.Fleet(t, fleet)}
	// The lists have spare capacity, so that an append in place would be noticed.
	ask := pool.Decision{
		Launch:     3,
		Reactivate: append(make([]pool.InstanceID, 0, 9), "x", "i-3"),
		ShutDown:   append(make([]pool.Ending, 0, 9), ends("i-5", "i-1")...),
		Stop:       append(make([]pool.Ending, 0, 9), ends("i-2", "i-7", "i-4")...),
		Clamps:     []pool.Clamp{{Limit: pool.ByMaximum, By: 1, Text: "the policy's own"}},
		Reason:     "test",
	}
	before := ask
	before.Reactivate, before.ShutDown, before.Stop = slices.Clone(ask.Reactivate), slices.Clone(ask.ShutDown),
		slices.Clone(ask.Stop)
	limits := pool.Limits{Minimum: 2, Maximum: 2, Drain: true, MinimumLifetime: 5 * time.Minute}
	got := limits.Apply(&s, ask, pool.Budget{Starts: 1, Stops: 1})
	if !reflect.DeepEqual(ask, before) {
		t.Errorf("decision: got %+v, want it unchanged, %+v", ask, before)
	}
	if want := pooltest.Fleet(t, fleet); !reflect.DeepEqual(s.Instances, want) {
		t.Errorf("snapshot: got %+v, want it unchanged, %+v", s.Instances, want)
	}
	if behind := ask.Stop[:9]; slices.ContainsFunc(behind[3:], func(e pool.Ending) bool { return e.Instance != "" }) {
		t.Errorf("behind the decision's stops: got %v, want nothing written", behind)
	}
	if want := (pool.Ask{Launch: 3, Reactivate: 2, ShutDown: 2, Stop: 3}); got.Asked != want {
		t.Errorf("asked: got %+v, want %+v", got.Asked, want)
	}
	if got.Reason != "test" || len(got.Clamps) < 2 || got.Clamps[0] != ask.Clamps[0] {
		t.Errorf("got reason %q, clamps %+v, want the policy's own, and then the limits'", got.Reason, got.Clamps)
	}
}
