package policy_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"cloudmaster/internal/policy"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/pool/pooltest"
)

// oneByOne is how outdated instances are replaced by default.
var oneByOne = pool.Rollout{MaxSurge: 1}

// rollCase is a pool, and what one decision does about its outdated instances.
type rollCase struct {
	fleet   string
	rollout pool.Rollout // the zero value stands for oneByOne
	limits  pool.Limits  // the zero value: minimum 2, maximum 4
	trial   pool.Trial
	left    *pool.Budget // nil: plenty
	off     bool         // outdated instances are never replaced
	stale   bool
	resting bool

	want    string // acts
	surge   bool
	succeed string
	state   policy.RollingState
}

var (
	proven = pool.Trial{Version: "v", Proven: true}
	trying = pool.Trial{Version: "v", Trying: []pool.InstanceID{"i-3"}}
)

func rollCases() map[string]rollCase {
	drain := pool.Limits{Minimum: 2, Maximum: 4, Drain: true}
	return map[string]rollCase{
		"nothing is outdated":  {fleet: "idle/new idle", want: "nothing"},
		"the successor first":  {fleet: "idle/old idle/old", want: "launch 1", surge: true, state: policy.Rolls},
		"it is waited for":     {fleet: "idle/old idle/old starting/new/surge", want: "nothing", state: policy.Rolls},
		"then one of them end": {fleet: "idle/old idle/old idle/new/surge", want: "stop [i-1]", state: policy.Rolls},
		"a busy one never": {
			fleet: "busy/old busy/old busy/new/surge", want: "nothing", state: policy.Rolls,
		},
		"the idle one of them": {fleet: "busy/old idle/old busy/new/surge", want: "stop [i-2]", state: policy.Rolls},
		"the next one": {
			fleet: "idle/old idle/new", want: "launch 1", surge: true, state: policy.Rolls,
		},
		"too young ones have no successor yet": {
			fleet: "idle/old/young idle/old/young", limits: pool.Limits{Maximum: 4, MinimumLifetime: time.Hour},
			want: "nothing", state: policy.Rolls,
		},
		"drained, if the pool drains": {
			fleet: "0.9/old 0.5/old 0.1/new/surge", limits: drain, want: "shut down [i-2]", state: policy.Rolls,
		},
		"two at once": {
			fleet: "idle/old idle/old", rollout: pool.Rollout{MaxSurge: 2}, trial: proven, want: "launch 2",
			surge: true, state: policy.Rolls,
		},
		"two at once, but one until it has reported": {
			fleet: "idle/old idle/old", rollout: pool.Rollout{MaxSurge: 2}, want: "launch 1", surge: true,
			state: policy.Rolls,
		},
		"no more while that one starts": {
			fleet: "idle/old idle/old idle/old starting/new/surge", rollout: pool.Rollout{MaxSurge: 3},
			limits: pool.Limits{Minimum: 3, Maximum: 9}, want: "nothing", state: policy.Rolls,
		},
		"both at once have come": {
			fleet: "idle/old idle/old idle/new/surge idle/new/surge", rollout: pool.Rollout{MaxSurge: 2}, trial: proven,
			want: "stop [i-1 i-2]", state: policy.Rolls,
		},
		"the stop limit holds": {
			fleet: "idle/old idle/old idle/new/surge idle/new/surge", rollout: pool.Rollout{MaxSurge: 2}, trial: proven,
			left: &pool.Budget{Starts: 9, Stops: 1}, want: "stop [i-1]", state: policy.Rolls,
		},
		"the start limit holds": {
			fleet: "idle/old idle/old", left: &pool.Budget{Stops: 9}, want: "nothing", state: policy.Rolls,
		},
		"at the maximum": {
			fleet: "idle/old idle/old", limits: pool.Limits{Minimum: 2, Maximum: 2}, want: "nothing",
			state: policy.RolloutStuck,
		},
		"at the maximum, one may be missing": {
			fleet: "idle/old idle/old", limits: pool.Limits{Minimum: 2, Maximum: 2},
			rollout: pool.Rollout{MaxUnavailable: 1}, want: "launch 1, stop [i-1]", state: policy.Rolls,
		},
		"one is missing": {
			fleet: "stopping/old idle/old starting/new", limits: pool.Limits{Minimum: 2, Maximum: 2}, trial: proven,
			rollout: pool.Rollout{MaxUnavailable: 1}, want: "nothing", state: policy.Rolls,
		},
		"paused": {
			fleet: "idle/old idle/old idle/new/surge", rollout: pool.Rollout{MaxSurge: 1, Paused: true},
			want: "nothing", state: policy.RolloutPaused,
		},
		"stale":          {fleet: "idle/old idle/old", stale: true, want: "nothing", state: policy.Rolls},
		"launches pause": {fleet: "idle/old idle/old", resting: true, want: "nothing", state: policy.Rolls},
		"the breaker": {
			fleet: "idle/old/silent idle/old/silent idle/old/silent idle", want: "nothing", state: policy.Rolls,
		},
		"the trial fails": {
			fleet: "idle/old idle/old starting/new/surge/silent", trial: trying,
			want: "stop [i-3]", state: policy.RolloutHalted,
		},
		"it has gone by itself": {
			fleet: "idle/old idle/old", trial: trying, want: "nothing",
			state: policy.RolloutHalted,
		},
		"it has failed before": {
			fleet: "idle/old idle/old", trial: pool.Trial{Version: "v", Failed: "i-3"}, want: "nothing",
			state: policy.RolloutHalted,
		},
		"another version has failed": {
			fleet: "idle/old idle/old", trial: pool.Trial{Version: "u", Failed: "i-3"}, want: "launch 1", surge: true,
			state: policy.Rolls,
		},
		"single failures of a proven one": {
			fleet: "idle/old idle/old idle/new", trial: proven, want: "launch 1", surge: true,
			limits: pool.Limits{Minimum: 3, Maximum: 4}, state: policy.Rolls,
		},
		"undone: the successor goes": {
			fleet: "idle/new idle/new idle/old/surge", want: "stop [i-3]",
		},
		"undone in the middle": {
			fleet: "idle/new idle/old", trial: proven, want: "launch 1", surge: true, state: policy.Rolls,
		},
		"an outdated one died by itself": {
			fleet: "idle/old idle/new/surge", want: "nothing", succeed: "i-2", state: policy.Rolls,
		},
		"a hung one is replaced by the successor": {
			fleet: "idle/old busy/old/silent idle/new/surge", want: "stop [i-2]", succeed: "i-3", state: policy.Rolls,
		},
		"above the maximum outdated ones go": {
			fleet: "idle/new idle/old idle/new", limits: pool.Limits{Maximum: 2}, want: "stop [i-2]",
			state: policy.Rolls,
		},
		"growth comes before successors": {
			fleet: "idle/old", want: "launch 1", state: policy.Rolls,
		},
		"what is too old is replaced": {
			fleet: "idle/aged idle/new", want: "launch 1", surge: true, state: policy.Rolls,
		},
		"off": {
			fleet: "idle/old", off: true, limits: pool.Limits{Maximum: 2}, want: "nothing", state: policy.RolloutOff,
		},
	}
}

func TestRollout(t *testing.T) {
	t.Parallel()
	for name, c := range rollCases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, v := c.decide(t)
			if got := acts(d); got != c.want || d.Surge != c.surge {
				t.Errorf("got %s, surge %v, want %s, surge %v", &d, d.Surge, c.want, c.surge)
			}
			if got := strings.Join(words(d.Succeed), " "); got != c.succeed {
				t.Errorf("got %q succeed, want %q", got, c.succeed)
			}
			if v.Rolling.State != c.state {
				t.Errorf("got rollout %+v, want %s", v.Rolling, c.state)
			}
			for _, e := range slices.Concat(d.Stop, d.ShutDown) {
				if e.Cause == pool.Outdated && e.Drift == "" {
					t.Errorf("got %+v, want why it is outdated", e)
				}
			}
		})
	}
}

func words(ids []pool.InstanceID) (out []string) {
	for _, id := range ids {
		out = append(out, string(id))
	}
	return out
}

func (c *rollCase) decide(t *testing.T) (pool.Decision, policy.Verdict) {
	t.Helper()
	j := policy.Judge{
		Policy: policy.Fixed{}, Limits: c.limits, Rollout: c.rollout,
		Watchdog: policy.Watchdog{Interval: 10 * time.Minute, BreakerRatio: 0.5},
	}
	if c.rollout == (pool.Rollout{}) && !c.off {
		j.Rollout = oneByOne
	}
	if c.limits == (pool.Limits{}) {
		j.Limits = pool.Limits{Minimum: 2, Maximum: 4}
	}
	left := pool.Budget{Starts: 9, Stops: 9}
	if c.left != nil {
		left = *c.left
	}
	return j.Decide(&pool.Snapshot{
		Now: pooltest.Now, Instances: pooltest.Fleet(t, c.fleet), Version: "v", Trial: c.trial, Stale: c.stale,
		Resting: c.resting,
	}, left)
}

// TestSuccessorIsNamed: the ending says which instance has taken the place, so that this one counts from then on.
func TestSuccessorIsNamed(t *testing.T) {
	t.Parallel()
	c := rollCase{fleet: "idle/old idle/old idle/new/surge"}
	d, v := c.decide(t)
	if len(d.Stop) != 1 || d.Stop[0].Successor != "i-3" || d.Stop[0].Cause != pool.Outdated {
		t.Errorf("got %+v, want one ending with its successor", d.Stop)
	}
	if got, want := d.Stop[0].Detail(), "image; i-3 has taken its place"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if v.Rolling.Text != "rollout 0 of 2" {
		t.Errorf("got %q", v.Rolling.Text)
	}
}

// TestOutdatedGoFirst: whoever ends something ends outdated ones first.
func TestOutdatedGoFirst(t *testing.T) {
	t.Parallel()
	job, err := policy.NewJob(policy.JobSettings{StartThreshold: 2, IdleThreshold: 1})
	if err != nil {
		t.Fatal(err)
	}
	j := policy.Judge{Policy: job, Limits: pool.Limits{Minimum: 1, Maximum: 4}, Rollout: oneByOne}
	s := pool.Snapshot{
		Now: pooltest.Now, Backlog: visible(0), Instances: pooltest.Fleet(t, "idle/new idle/old idle/new"),
	}
	d, _ := j.Decide(&s, pool.Budget{Starts: 1, Stops: 1})
	if acts(d) != "stop [i-2]" || d.Stop[0].Cause != pool.IdleSurplus {
		t.Errorf("got %s, want the outdated one to go as surplus", &d)
	}
}

// TestDrainingOutdatedIsNotReactivated, or a rollout would never end; but while the new version is not wanted either,
// it is.
func TestDrainingOutdatedIsNotReactivated(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		rollout pool.Rollout
		want    string
	}{
		"rolls":  {pool.Rollout{MaxSurge: 1}, "launch 1"},
		"paused": {pool.Rollout{MaxSurge: 1, Paused: true}, "reactivate [i-2]"},
	} {
		j := policy.Judge{
			Policy: policy.Fixed{}, Limits: pool.Limits{Minimum: 2, Maximum: 4, Drain: true}, Rollout: c.rollout,
		}
		s := pool.Snapshot{Now: pooltest.Now, Version: "v", Instances: pooltest.Fleet(t, "0.5/old draining:0.5/old")}
		if d, _ := j.Decide(&s, pool.Budget{Starts: 9, Stops: 9}); acts(d) != c.want {
			t.Errorf("%s: got %s, want %s", name, &d, c.want)
		}
	}
}
