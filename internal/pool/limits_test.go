package pool_test

import (
	"math"
	"testing"
	"time"

	"cloudmaster/internal/pool"
	"cloudmaster/internal/pool/pooltest"
)

func TestLimitsValidate(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		limits pool.Limits
		want   string
	}{
		"zero": {pool.Limits{}, ""},
		"defaults": {
			pool.Limits{
				Maximum: 2, StartLimit: 1, StopLimit: 1, MinimumLifetime: 5 * time.Minute,
				MinimumActiveTime: 2 * time.Minute,
			}, "",
		},
		"minimum is maximum": {pool.Limits{Minimum: 3, Maximum: 3}, ""},
		"minimum over maximum": {
			pool.Limits{Minimum: 3, Maximum: 2},
			"minimum_number_of_instances is 3, more than maximum_number_of_instances, 2",
		},
		"all at once": {
			pool.Limits{
				Minimum: -1, Maximum: -2, StartLimit: -3, StopLimit: -4, MinimumLifetime: -time.Second,
				MinimumActiveTime: -time.Minute,
			},
			"minimum_number_of_instances is -1, less than 0\nmaximum_number_of_instances is -2, less than 0\n" +
				"start_limit is -3, less than 0\nstop_limit is -4, less than 0\n" +
				"minimum_lifetime is -1s, less than 0\nminimum_active_time is -1m0s, less than 0",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := ""
			if err := c.limits.Validate(); err != nil {
				got = err.Error()
			}
			if got != c.want {
				t.Errorf("%+v: got %q, want %q", c.limits, got, c.want)
			}
		})
	}
}

func TestLifetimes(t *testing.T) {
	t.Parallel()
	limits := pool.Limits{MinimumLifetime: 5 * time.Minute, MinimumActiveTime: 2 * time.Minute}
	for word, want := range map[string]struct{ mature, settled bool }{
		"idle":           {true, true},
		"idle/fresh":     {false, false},
		"idle/young":     {false, false},
		"starting":       {true, false}, // it has not been active, so only its age counts
		"starting/young": {false, false},
		"draining":       {true, false}, // its active time mattered when it was shut down
		"draining/fresh": {true, false},
		"draining/young": {false, false},
	} {
		i := pooltest.Fleet(t, word)[0]
		if got := limits.Mature(pooltest.Now, &i); got != want.mature {
			t.Errorf("%s mature: got %v, want %v", word, got, want.mature)
		}
		if got := limits.Settled(pooltest.Now, &i); got != want.settled {
			t.Errorf("%s settled: got %v, want %v", word, got, want.settled)
		}
	}
	exact := pool.Instance{
		State: pool.Active, Launched: pooltest.Now.Add(-5 * time.Minute), ActiveAt: pooltest.Now.Add(-2 * time.Minute),
	}
	if !limits.Mature(pooltest.Now, &exact) || !limits.Settled(pooltest.Now, &exact) {
		t.Error("at exactly the lifetimes: got too young, want mature and settled")
	}
	exact.Launched = exact.Launched.Add(1)
	if limits.Mature(pooltest.Now, &exact) {
		t.Error("a nanosecond short of the lifetime: got mature, want too young")
	}
}

// ids makes the tables of tests shorter.
func ids(list ...pool.InstanceID) []pool.InstanceID { return list }

// ends returns endings of these instances.
func ends(list ...pool.InstanceID) (out []pool.Ending) {
	for _, id := range list {
		out = append(out, pool.Ending{Instance: id, Cause: pool.IdleSurplus})
	}
	return out
}

// plenty is a budget that allows everything that the tests ask for.
var plenty = pool.Budget{Starts: 99, Stops: 99}

type applyCase struct {
	fleet  string
	limits pool.Limits
	ask    pool.Decision
	left   pool.Budget
	stale  bool
	want   string
}

func TestApplyMinimumAndMaximum(t *testing.T) {
	t.Parallel()
	runApply(t, map[string]applyCase{
		"nothing asked, within the limits": {
			fleet: "idle", limits: pool.Limits{Minimum: 1, Maximum: 2}, left: plenty, want: "nothing",
		},
		"below minimum: up to it at once": {
			limits: pool.Limits{Minimum: 3, Maximum: 5}, left: plenty, want: "launch 3 (minimum 3 adds 3)",
		},
		"minimum beats start limit": {
			limits: pool.Limits{Minimum: 3, Maximum: 5, StartLimit: 1}, want: "launch 3 (minimum 3 adds 3)",
		},
		"launches up to the minimum leave the start limit whole": {
			limits: pool.Limits{Minimum: 3, Maximum: 9}, ask: pool.Decision{Launch: 6}, left: pool.Budget{Starts: 1},
			want: "launch 4 (start limit allows 4 of 6 launches)",
		},
		"what was asked counts towards the minimum": {
			limits: pool.Limits{Minimum: 3, Maximum: 5}, ask: pool.Decision{Launch: 2}, left: plenty,
			want: "launch 3 (minimum 3 adds 1)",
		},
		"starting ones count, stopping and draining ones do not": {
			fleet: "starting stopping stopping", limits: pool.Limits{Minimum: 2, Maximum: 2}, left: plenty,
			want: "launch 1 (minimum 2 adds 1)",
		},
		"never launches past the maximum": {
			fleet: "busy busy", limits: pool.Limits{Maximum: 3}, ask: pool.Decision{Launch: 5}, left: plenty,
			want: "launch 1 (maximum 3 allows 1 of 5 launches)",
		},
		"at maximum": {
			fleet: "busy starting", limits: pool.Limits{Maximum: 2}, ask: pool.Decision{Launch: 1}, left: plenty,
			want: "nothing (maximum 2 allows 0 of 1 launches)",
		},
		"maximum 0": {
			limits: pool.Limits{}, ask: pool.Decision{Launch: 1}, left: plenty,
			want: "nothing (maximum 0 allows 0 of 1 launches)",
		},
		"a launch beyond counting": {
			fleet: "busy", limits: pool.Limits{Minimum: 2, Maximum: 3}, ask: pool.Decision{Launch: math.MaxInt},
			left: plenty,
			want: "launch 2 (maximum 3 allows 2 of 9223372036854775807 launches)",
		},
		"above maximum: idle first, whatever the budget and age": {
			fleet: "starting busy idle/young", limits: pool.Limits{Maximum: 2, MinimumLifetime: time.Hour},
			want: "stop [i-3] (maximum 2: 1 over, 0 shut down, 1 stopped)",
		},
		"above maximum: then those that start": {
			fleet: "busy starting idle", limits: pool.Limits{Maximum: 1},
			want: "stop [i-3 i-2] (maximum 1: 2 over, 0 shut down, 2 stopped)",
		},
		"above maximum: busy ones wait": {
			fleet: "busy 0.5 mute", limits: pool.Limits{Maximum: 1}, left: plenty,
			want: "nothing (maximum 1: 2 over, 0 shut down, 0 stopped)",
		},
		"above maximum: what the policy stops counts": {
			fleet: "idle idle idle", limits: pool.Limits{Maximum: 1}, ask: pool.Decision{Stop: ends("i-3")},
			left: plenty,
			want: "stop [i-3 i-1] (maximum 1: 1 over, 0 shut down, 1 stopped)",
		},
		"above maximum, asked to launch": {
			fleet: "busy busy", limits: pool.Limits{Maximum: 1}, ask: pool.Decision{Launch: 1}, left: plenty,
			want: "nothing (maximum 1: 1 over, 0 shut down, 0 stopped; maximum 1 allows 0 of 1 launches)",
		},
		"above maximum, servers: shut down, least loaded first, busy or not": {
			fleet: "0.9 0.2 0.5", limits: pool.Limits{Maximum: 1, Drain: true, MinimumActiveTime: 2 * time.Hour},
			want: "shut down [i-2 i-3] (maximum 1: 2 over, 2 shut down, 0 stopped)",
		},
		"above maximum, servers: those that start are stopped": {
			fleet: "0.9 starting", limits: pool.Limits{Maximum: 1, Drain: true},
			want: "stop [i-2] (maximum 1: 1 over, 0 shut down, 1 stopped)",
		},
		"above maximum, servers: the minimum is of active ones": {
			fleet: "idle starting starting", limits: pool.Limits{Minimum: 1, Maximum: 1, Drain: true},
			want: "stop [i-2 i-3] (maximum 1: 2 over, 0 shut down, 2 stopped)",
		},
		"draining ones are instances: no launch beside them past the maximum": {
			fleet: "busy draining", limits: pool.Limits{Maximum: 2}, ask: pool.Decision{Launch: 2}, left: plenty,
			want: "reactivate [i-2] (maximum 2 allows 1 of 2 launches; 1 reactivated before launching)",
		},
		"nor beside those that begin to drain": {
			fleet: "0.1 0.2", limits: pool.Limits{Maximum: 2, Drain: true},
			ask: pool.Decision{Launch: 1, ShutDown: ends("i-1")}, left: plenty,
			want: "shut down [i-1] (maximum 2 allows 0 of 1 launches)",
		},
	})
}

func TestApplyBudget(t *testing.T) {
	t.Parallel()
	wide := pool.Limits{Maximum: 9}
	runApply(t, map[string]applyCase{
		"start limit": {
			limits: wide, ask: pool.Decision{Launch: 5}, left: pool.Budget{Starts: 2},
			want: "launch 2 (start limit allows 2 of 5 launches)",
		},
		"nothing left to start": {
			limits: wide, ask: pool.Decision{Launch: 1}, left: pool.Budget{},
			want: "nothing (start limit allows 0 of 1 launches)",
		},
		"overspent": {
			fleet: "idle", limits: wide, ask: pool.Decision{Launch: 1, Stop: ends("i-1")},
			left: pool.Budget{Starts: -3, Stops: -3},
			want: "nothing (stop limit keeps 1; start limit allows 0 of 1 launches)",
		},
		"reactivations are no starts": {
			fleet: "draining draining", limits: wide, ask: pool.Decision{Reactivate: ids("i-1", "i-2")},
			want: "reactivate [i-1 i-2]",
		},
		"stop limit keeps those named last": {
			fleet: "idle idle idle", limits: wide, ask: pool.Decision{Stop: ends("i-2", "i-3", "i-1")},
			left: pool.Budget{Stops: 2},
			want: "stop [i-2 i-3] (stop limit keeps 1)",
		},
		"stops and shut downs share the limit": {
			fleet: "idle idle", limits: wide, ask: pool.Decision{Stop: ends("i-1"), ShutDown: ends("i-2")},
			left: pool.Budget{Stops: 1},
			want: "stop [i-1] (stop limit keeps 1)",
		},
		"the end of a drain is free": {
			fleet: "idle draining draining", limits: pool.Limits{Minimum: 1, Maximum: 9},
			ask: pool.Decision{Stop: ends("i-2", "i-3")}, want: "stop [i-2 i-3]",
		},
		"minimum keeps": {
			fleet: "idle idle starting", limits: pool.Limits{Minimum: 2, Maximum: 9},
			ask: pool.Decision{Stop: ends("i-1", "i-2")}, left: plenty,
			want: "stop [i-1] (minimum 2 keeps 1)",
		},
		"minimum and stop limit": {
			fleet: "idle idle idle idle", limits: pool.Limits{Minimum: 2, Maximum: 9},
			ask: pool.Decision{Stop: ends("i-1", "i-2", "i-3", "i-4")}, left: pool.Budget{Stops: 1},
			want: "stop [i-1] (stop limit keeps 3)",
		},
		"below minimum and asked to stop": {
			fleet: "idle", limits: pool.Limits{Minimum: 2, Maximum: 9}, ask: pool.Decision{Stop: ends("i-1")},
			left: plenty,
			want: "launch 1 (minimum 2 keeps 1; minimum 2 adds 1)",
		},
		"servers: the minimum is of active ones": {
			fleet: "idle starting", limits: pool.Limits{Minimum: 1, Maximum: 9, Drain: true},
			ask: pool.Decision{ShutDown: ends("i-1")}, left: plenty,
			want: "nothing (minimum 1 keeps 1)",
		},
		"servers: one that starts may go instead": {
			fleet: "idle starting", limits: pool.Limits{Minimum: 1, Maximum: 9, Drain: true},
			ask: pool.Decision{Stop: ends("i-2")}, left: plenty,
			want: "stop [i-2]",
		},
		"too young to stop": {
			fleet:  "idle/young idle/fresh idle",
			limits: pool.Limits{Maximum: 9, MinimumLifetime: 5 * time.Minute, MinimumActiveTime: 2 * time.Minute},
			ask:    pool.Decision{Stop: ends("i-1", "i-2", "i-3")}, left: plenty,
			want: "stop [i-3] (2 too young to stop)",
		},
		"shut down asks for active time, not for age": {
			fleet:  "idle/young idle/fresh",
			limits: pool.Limits{Maximum: 9, MinimumLifetime: 5 * time.Hour, MinimumActiveTime: 30 * time.Second},
			ask:    pool.Decision{ShutDown: ends("i-1", "i-2")}, left: plenty, want: "shut down [i-1 i-2]",
		},
		"a drained one must reach its age": {
			fleet: "draining/young draining", limits: pool.Limits{Maximum: 9, MinimumLifetime: 5 * time.Minute},
			ask: pool.Decision{Stop: ends("i-1", "i-2")}, left: plenty, want: "stop [i-2] (1 too young to stop)",
		},
	})
}

func TestApplyReactivatesFirst(t *testing.T) {
	t.Parallel()
	runApply(t, map[string]applyCase{
		"for the minimum, highest load first": {
			fleet: "draining:0.1 draining:0.5 draining:0.3", limits: pool.Limits{Minimum: 2, Maximum: 9}, left: plenty,
			want: "reactivate [i-2 i-3] (minimum 2 adds 2; 2 reactivated before launching)",
		},
		"exactly as many as needed, then launches": {
			fleet: "idle draining", limits: pool.Limits{Minimum: 4, Maximum: 9}, left: plenty,
			want: "launch 2, reactivate [i-2] (minimum 4 adds 3; 1 reactivated before launching)",
		},
		"one that was about to be stopped": {
			fleet: "draining", limits: pool.Limits{Minimum: 1, Maximum: 9}, ask: pool.Decision{Stop: ends("i-1")},
			left: plenty,
			want: "reactivate [i-1] (minimum 1 adds 1; 1 reactivated before launching)",
		},
		"only one of two that were about to be stopped": {
			fleet: "draining draining:0.1", limits: pool.Limits{Minimum: 1, Maximum: 9},
			ask: pool.Decision{Stop: ends("i-1", "i-2")}, left: plenty,
			want: "reactivate [i-2], stop [i-1] (minimum 1 adds 1; 1 reactivated before launching)",
		},
		"what the policy reactivates counts": {
			fleet: "draining draining:0.1", limits: pool.Limits{Minimum: 1, Maximum: 9},
			ask: pool.Decision{Reactivate: ids("i-1")}, left: plenty,
			want: "reactivate [i-1]",
		},
		"also for a policy that only launches": {
			fleet: "draining draining:0.1", limits: pool.Limits{Maximum: 9}, ask: pool.Decision{Launch: 1},
			want: "reactivate [i-2] (1 reactivated before launching)",
		},
		"the start limit bounds the rest": {
			fleet: "draining", limits: pool.Limits{Maximum: 9}, ask: pool.Decision{Launch: 4},
			left: pool.Budget{Starts: 1},
			want: "launch 1, reactivate [i-1] (1 reactivated before launching; start limit allows 1 of 3 launches)",
		},
		"not past the maximum": {
			fleet: "0.9 draining draining", limits: pool.Limits{Maximum: 2},
			ask: pool.Decision{Reactivate: ids("i-3", "i-2")}, left: plenty,
			want: "reactivate [i-3] (maximum 2 allows 1 of 2 reactivations)",
		},
		"not what the maximum puts out": {
			fleet: "0.9 0.8 draining", limits: pool.Limits{Maximum: 1, Drain: true},
			ask: pool.Decision{Reactivate: ids("i-3")}, left: plenty,
			want: "shut down [i-2] (maximum 1: 1 over, 1 shut down, 0 stopped; maximum 1 allows 0 of 1 reactivations)",
		},
	})
}

func TestApplyRefuses(t *testing.T) {
	t.Parallel()
	wide := pool.Limits{Maximum: 99}
	runApply(t, map[string]applyCase{
		"unknown ids": {
			fleet: "idle", limits: wide,
			ask: pool.Decision{Reactivate: ids("x"), ShutDown: ends("y"), Stop: ends("z", "")}, left: plenty,
			want: "nothing (x cannot be reactivated; y cannot be shut down; z cannot be stopped;  cannot be stopped)",
		},
		"an id twice": {
			fleet: "idle idle", limits: wide, ask: pool.Decision{Stop: ends("i-1", "i-2", "i-1")}, left: plenty,
			want: "stop [i-1 i-2] (i-1 cannot be stopped)",
		},
		"an id in two lists: the gentler one wins": {
			fleet: "idle draining", limits: wide,
			ask: pool.Decision{Reactivate: ids("i-2"), ShutDown: ends("i-1"), Stop: ends("i-1", "i-2")}, left: plenty,
			want: "reactivate [i-2], shut down [i-1] (i-1 cannot be stopped)",
		},
		"one that is wanted back and may be stopped is stopped without room": {
			fleet: "idle draining", limits: pool.Limits{Maximum: 1}, ask: pool.Decision{
				Reactivate: ids("i-2"),
				Stop:       ends("i-2"),
			}, left: plenty,
			want: "stop [i-2] (maximum 1 allows 0 of 1 reactivations)",
		},
		"launching less than nothing": {
			fleet: "idle", limits: pool.Limits{Minimum: 1, Maximum: 9}, ask: pool.Decision{Launch: -2}, left: plenty,
			want: "nothing (-2 cannot be launched)",
		},
		"stopping what is busy, loaded or has not reported": {
			fleet: "busy 0.1 mute", limits: wide, ask: pool.Decision{Stop: ends("i-1", "i-2", "i-3")}, left: plenty,
			want: "nothing (i-1 cannot be stopped; i-2 cannot be stopped; i-3 cannot be stopped)",
		},
		"shutting down what is busy is fine": {
			fleet: "busy 0.9", limits: wide, ask: pool.Decision{ShutDown: ends("i-1", "i-2")}, left: plenty,
			want: "shut down [i-1 i-2]",
		},
		"edges that the state machine lacks": {
			fleet: "starting idle draining stopping", limits: wide,
			ask: pool.Decision{
				Reactivate: ids("i-1", "i-2", "i-4"), ShutDown: ends("i-1", "i-3", "i-4"), Stop: ends("i-4"),
			},
			left: plenty,
			want: "nothing (i-1 cannot be reactivated; i-2 cannot be reactivated; i-4 cannot be reactivated; " +
				"i-1 cannot be shut down; i-3 cannot be shut down; i-4 cannot be shut down; i-4 cannot be stopped)",
		},
		"stale: nothing shrinks": {
			fleet: "idle idle idle draining", limits: pool.Limits{Maximum: 1},
			ask:  pool.Decision{ShutDown: ends("i-1"), Stop: ends("i-2", "i-4")},
			left: plenty, stale: true, want: "nothing (the view of the pool is stale: nothing shrinks)",
		},
		"stale: growth goes on": {
			fleet: "draining", limits: pool.Limits{Minimum: 1, Maximum: 9}, ask: pool.Decision{Launch: 2}, left: plenty,
			stale: true,
			want:  "launch 1, reactivate [i-1] (1 reactivated before launching)",
		},
		"stale and nothing asked": {
			fleet: "idle idle", limits: pool.Limits{Maximum: 1}, left: plenty, stale: true, want: "nothing",
		},
	})
}

func runApply(t *testing.T, cases map[string]applyCase) {
	t.Helper()
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := pool.Snapshot{Now: pooltest.Now, Instances: pooltest.Fleet(t, c.fleet), Stale: c.stale}
			got := c.limits.Apply(&s, c.ask, c.left)
			if got.String() != c.want {
				t.Errorf("%q, asked %s, left %+v, %+v:\n got %s\nwant %s", c.fleet, &c.ask, c.left, c.limits, &got,
					c.want)
			}
		})
	}
}
