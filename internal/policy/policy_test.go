package policy_test

import (
	"fmt"
	"math"
	"reflect"
	"testing"
	"time"

	"cloudmaster/internal/policy"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/pool/pooltest"
)

func TestFixedAsksForNothing(t *testing.T) {
	t.Parallel()
	for _, fleet := range []string{"", "idle idle", "0.9 0.9", "starting draining stopping"} {
		s := pool.Snapshot{Now: pooltest.Now, Requests: 9, Backlog: visible(9), Instances: pooltest.Fleet(t, fleet)}
		if got := ask(t, policy.Fixed{}, lifetimes, &s); !got.Empty() {
			t.Errorf("%q: got %s, want nothing", fleet, &got)
		}
	}
}

// TestFixedKeepsBetweenMinimumAndMaximum asks the judge, because it is the limits that keep the number.
func TestFixedKeepsBetweenMinimumAndMaximum(t *testing.T) {
	t.Parallel()
	judge := policy.Judge{Policy: policy.Fixed{}, Limits: pool.Limits{Minimum: 2, Maximum: 3}}
	for fleet, want := range map[string]string{
		"":                    "launch 2",
		"idle":                "launch 1",
		"idle starting":       "nothing",
		"idle busy idle":      "nothing",
		"idle busy idle idle": "stop [i-1]",
		"busy busy busy busy": "nothing",
		"idle stopping":       "launch 1",
	} {
		s := pool.Snapshot{Now: pooltest.Now, Instances: pooltest.Fleet(t, fleet)}
		if got, _ := judge.Decide(&s, pool.Budget{}); acts(got) != want {
			t.Errorf("%q: got %s, want %s", fleet, &got, want)
		}
	}
}

func TestWatchdog(t *testing.T) {
	t.Parallel()
	usual := policy.Watchdog{Interval: 10 * time.Minute, BreakerRatio: 0.5} // /silent is 20 minutes
	cases := map[string]struct {
		dog   policy.Watchdog
		fleet string
		stale bool
		want  policy.Verdict
	}{
		"nobody":   {dog: usual, want: policy.Verdict{}},
		"all well": {dog: usual, fleet: "idle 0.5 starting draining", want: policy.Verdict{Active: 2}},
		"silent, idle": {
			dog: usual, fleet: "idle idle/silent", want: policy.Verdict{Active: 2, Silent: 1, Hung: ends("i-2")},
		},
		"silent, busy": {
			dog: usual, fleet: "busy/silent", want: policy.Verdict{Active: 1, Silent: 1, Hung: ends("i-1")},
		},
		// It was launched a minute ago, which is less than the interval.
		"silent, too young": {dog: usual, fleet: "idle/silent/young", want: policy.Verdict{Active: 1}},
		"silent, draining": {
			dog: usual, fleet: "idle draining:1/silent", want: policy.Verdict{Active: 1, Hung: ends("i-2")},
		},
		"silent, stopping": {dog: usual, fleet: "stopping/silent", want: policy.Verdict{}},
		"never reported, heard of": {
			// It was taken over a second ago, and its silence counts from then.
			dog: usual, fleet: "mute", want: policy.Verdict{Active: 1},
		},
		"never reported since the take-over": {
			dog: usual, fleet: "mute/silent", want: policy.Verdict{Active: 1, Silent: 1, Hung: ends("i-1")},
		},
		"off": {
			dog: policy.Watchdog{BreakerRatio: 0.5}, fleet: "busy/silent starting/silent draining/silent",
			want: policy.Verdict{Active: 1},
		},
		"boot deadline is the interval by default": {
			dog: usual, fleet: "starting/silent", want: policy.Verdict{Hung: ends("i-1")},
		},
		"boot deadline of its own, over": {
			dog: policy.Watchdog{BootDeadline: 15 * time.Minute, BreakerRatio: 1}, fleet: "starting/silent idle/silent",
			want: policy.Verdict{Active: 1, Hung: ends("i-1")},
		},
		"boot deadline of its own, not over": {
			dog:   policy.Watchdog{Interval: 10 * time.Minute, BootDeadline: 30 * time.Minute, BreakerRatio: 1},
			fleet: "starting/silent idle/silent",
			want:  policy.Verdict{Active: 1, Silent: 1, Hung: ends("i-2")},
		},
		"inventory unknown": {
			dog: usual, fleet: "idle/silent idle", stale: true, want: policy.Verdict{Active: 2, Silent: 1},
		},

		"breaker: half of 4": {
			dog: usual, fleet: "idle/silent busy/silent idle idle",
			want: policy.Verdict{Active: 4, Silent: 2, Hung: ends("i-1", "i-2")},
		},
		"breaker: more than half of 4": {
			dog: usual, fleet: "idle/silent busy/silent idle/silent idle",
			want: policy.Verdict{Active: 4, Silent: 3, Breaker: true},
		},
		"breaker: those that never started are replaced": {
			dog: usual, fleet: "starting/silent starting/silent starting/silent starting/silent idle",
			want: policy.Verdict{Active: 1, Hung: ends("i-1", "i-2", "i-3", "i-4")},
		},
		"breaker: nobody who has spoken is replaced while it is open": {
			dog: usual, fleet: "idle/silent busy/silent idle/silent idle starting/silent",
			want: policy.Verdict{Active: 4, Silent: 3, Breaker: true, Hung: ends("i-5")},
		},
		"breaker: all of 3 are too few": {
			dog: usual, fleet: "idle/silent idle/silent idle/silent",
			want: policy.Verdict{Active: 3, Silent: 3, Hung: ends("i-1", "i-2", "i-3")},
		},
		"breaker: draining ones do not count, and are spared": {
			dog: usual, fleet: "idle/silent idle/silent idle/silent idle draining/silent",
			want: policy.Verdict{Active: 4, Silent: 3, Breaker: true},
		},
		"breaker: draining ones do not open it": {
			dog: usual,
			fleet: "idle idle idle idle " +
				"draining/silent draining/silent draining/silent draining/silent draining/silent",
			want: policy.Verdict{Active: 4, Hung: ends("i-5", "i-6", "i-7", "i-8", "i-9")},
		},
		"breaker: starting ones count": {
			dog: usual, fleet: "idle/silent idle/silent idle starting/young",
			want: policy.Verdict{Active: 3, Silent: 2, Breaker: true},
		},
		"breaker: those on their way out count, or it would close by what it lets go": {
			dog: usual, fleet: "idle/silent idle/silent stopping stopping",
			want: policy.Verdict{Active: 2, Silent: 2, Breaker: true},
		},
		"probe: the one that is silent for longest": {
			dog: usual, fleet: "idle/silent idle/lost idle/silent idle",
			want: policy.Verdict{Active: 4, Silent: 3, Breaker: true, Hung: ends("i-2")},
		},
		"probe: the first of several": {
			dog: usual, fleet: "busy/lost busy/lost busy/lost busy/lost",
			want: policy.Verdict{Active: 4, Silent: 4, Breaker: true, Hung: ends("i-1")},
		},
		"probe: not while one is starting": {
			dog: usual, fleet: "idle/lost idle/lost idle/lost starting/young",
			want: policy.Verdict{Active: 3, Silent: 3, Breaker: true},
		},
		"probe: who never spoke is replaced, and nobody else": {
			dog: usual, fleet: "idle/lost idle/lost idle/lost starting/silent",
			want: policy.Verdict{Active: 3, Silent: 3, Breaker: true, Hung: ends("i-4")},
		},
		"probe: not blindly": {
			dog: usual, fleet: "idle/lost idle/lost idle/lost idle/lost", stale: true,
			want: policy.Verdict{Active: 4, Silent: 4, Breaker: true},
		},
		"breaker of another ratio": {
			dog:   policy.Watchdog{Interval: 10 * time.Minute, BreakerRatio: 0.2},
			fleet: "idle/silent idle idle idle", want: policy.Verdict{Active: 4, Silent: 1, Breaker: true},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := pool.Snapshot{Now: pooltest.Now, Stale: c.stale, Instances: pooltest.Fleet(t, c.fleet)}
			got := c.dog.Inspect(&s)
			for i := range got.Hung {
				checkCause(t, &s, &got.Hung[i])
				got.Hung[i] = pool.Ending{Instance: got.Hung[i].Instance}
			}
			if !reflect.DeepEqual(got.Hung, c.want.Hung) || got.Silent != c.want.Silent ||
				got.Active != c.want.Active ||
				got.Breaker != c.want.Breaker || got.Failed != nil {
				t.Errorf("%q, %+v: got %+v, want %+v", c.fleet, c.dog, got, c.want)
			}
		})
	}
}

// checkCause checks that an ending names the right fault, and how long the instance was silent.
func checkCause(t *testing.T, s *pool.Snapshot, e *pool.Ending) {
	t.Helper()
	for i := range s.Instances {
		in := &s.Instances[i]
		if in.ID != e.Instance {
			continue
		}
		want := pool.Hung
		if in.State == pool.Startup {
			want = pool.NeverStarted
		}
		if e.Cause != want || e.For != s.Now.Sub(in.HeardAt) || !e.Cause.Failed() {
			t.Errorf("%s, %s: got %+v, want cause %s and the time of its silence", in.ID, in.State, e, want)
		}
	}
}

func TestWatchdogAtTheVeryInterval(t *testing.T) {
	t.Parallel()
	dog := policy.Watchdog{Interval: 10 * time.Minute, BreakerRatio: 0.5}
	s := pool.Snapshot{Now: pooltest.Now, Instances: pooltest.Fleet(t, "idle")}
	for silence, want := range map[time.Duration]int{10 * time.Minute: 0, 10*time.Minute + 1: 1, -time.Hour: 0} {
		s.Instances[0].HeardAt = s.Now.Add(-silence)
		if got := dog.Inspect(&s); len(got.Hung) != want {
			t.Errorf("silent for %s: got %v hung, want %d", silence, got.Hung, want)
		}
	}
	s.Instances[0] = pool.Instance{ID: "i-1", State: pool.Startup, Launched: s.Now}
	if got := dog.Inspect(&s); len(got.Hung) != 0 {
		t.Errorf("just launched and never heard of: got %v hung, want none", got.Hung)
	}
}

func ids(list ...pool.InstanceID) []pool.InstanceID { return list }

// ends returns endings of these instances.
func ends(list ...pool.InstanceID) (out []pool.Ending) {
	for _, id := range list {
		out = append(out, pool.Ending{Instance: id})
	}
	return out
}

func TestJudge(t *testing.T) {
	t.Parallel()
	one := pool.Budget{Starts: 1, Stops: 1}
	cases := map[string]struct {
		fleet   string
		backlog pool.Backlog
		limits  pool.Limits
		left    pool.Budget
		stale   bool
		want    string
	}{
		"hung ones are replaced in the same pass": {
			fleet: "busy/silent busy", limits: pool.Limits{Minimum: 2, Maximum: 2}, want: "launch 1, stop [i-1]",
		},
		"whatever age, stop limit and minimum say": {
			fleet:  "busy/silent starting/silent mute/silent",
			limits: pool.Limits{Minimum: 3, Maximum: 3, MinimumLifetime: 24 * time.Hour},
			want:   "launch 3, stop [i-1 i-2 i-3]",
		},
		"they cost nothing of the stop limit": {
			fleet: "busy/silent idle", limits: pool.Limits{Maximum: 3}, left: one, backlog: visible(0),
			want: "stop [i-1 i-2]",
		},
		"the policy sees them as gone": {
			fleet: "busy/silent", limits: pool.Limits{Maximum: 3}, left: one, backlog: visible(1),
			want: "launch 1, stop [i-1]",
		},
		"not replaced when nothing needs them": {
			fleet: "idle/silent", limits: pool.Limits{Maximum: 3}, left: one, backlog: visible(0), want: "stop [i-1]",
		},
		"breaker open: nothing is replaced": {
			fleet: "busy/silent busy/silent busy/silent busy", limits: pool.Limits{Minimum: 4, Maximum: 9}, left: one,
			backlog: visible(0), want: "nothing",
		},
		"breaker open: nor does the policy shrink, because that would close the breaker": {
			fleet: "idle/silent idle/silent idle/silent idle", limits: pool.Limits{Maximum: 3}, left: one,
			backlog: visible(0), want: "nothing",
		},
		"breaker open for long: one is replaced, and is no capacity": {
			fleet: "busy/lost busy/lost busy/silent busy", limits: pool.Limits{Minimum: 4, Maximum: 9}, left: one,
			backlog: visible(0), want: "launch 1, stop [i-1]",
		},
		"breaker open for long, and no room for a successor: none is replaced": {
			fleet: "busy/lost busy/lost busy/lost busy draining", limits: pool.Limits{Maximum: 4}, left: one,
			backlog: visible(0), want: "nothing",
		},
		"breaker open for long, and no start left: none is replaced": {
			fleet: "busy/lost busy/lost busy/lost busy", limits: pool.Limits{Maximum: 9}, backlog: visible(0),
			want: "nothing",
		},
		"breaker open for long, nobody needs more: one is replaced all the same, not ended": {
			fleet: "idle/lost idle/lost idle/lost idle/lost idle", limits: pool.Limits{Maximum: 9}, left: one,
			backlog: visible(0), want: "launch 1, stop [i-1]",
		},
		"breaker open: growth goes on": {
			fleet: "busy/silent busy/silent busy/silent busy", limits: pool.Limits{Maximum: 9}, left: one,
			backlog: visible(10), want: "launch 1",
		},
		"inventory unknown: nothing ends, growth goes on": {
			fleet: "busy/silent idle", limits: pool.Limits{Minimum: 3, Maximum: 9}, left: one, backlog: visible(0),
			stale: true, want: "launch 1",
		},
		"backlog unknown: no shrinkage": {
			fleet: "idle idle", limits: pool.Limits{Maximum: 9}, left: one, want: "nothing",
		},
		"start limit": {limits: pool.Limits{Maximum: 9}, left: one, backlog: visible(20), want: "launch 1"},
		"stop limit": {
			fleet: "idle idle", limits: pool.Limits{Maximum: 9}, left: one, backlog: visible(0), want: "stop [i-1]",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			judge := policy.Judge{
				Policy: newJob(t, jobDefaults), Limits: c.limits,
				Watchdog: policy.Watchdog{Interval: 10 * time.Minute, BreakerRatio: 0.5},
			}
			s := pool.Snapshot{
				Now: pooltest.Now, Backlog: c.backlog, Stale: c.stale, Instances: pooltest.Fleet(t, c.fleet),
			}
			got, seen := judge.Decide(&s, c.left)
			if acts(got) != c.want {
				t.Errorf("%q, %+v, %+v, left %+v: got %s, want %s (%+v)", c.fleet, c.backlog, c.limits, c.left, &got,
					c.want, seen)
			}
			if want := pooltest.Fleet(t, c.fleet); !reflect.DeepEqual(s.Instances, want) {
				t.Errorf("%q: got the snapshot changed, %+v", c.fleet, s.Instances)
			}
		})
	}
}

func TestJudgeSaysHowManyHung(t *testing.T) {
	t.Parallel()
	judge := policy.Judge{
		Policy: policy.Fixed{}, Watchdog: policy.Watchdog{Interval: time.Minute},
		Limits: pool.Limits{Minimum: 1, Maximum: 1},
	}
	s := pool.Snapshot{Now: pooltest.Now, Instances: pooltest.Fleet(t, "busy/silent")}
	got, _ := judge.Decide(&s, pool.Budget{})
	if want := "launch 1, stop [i-1]: 1 hung (minimum 1 adds 1)"; got.String() != want {
		t.Errorf("got %s, want %s", &got, want)
	}
	if got.Asked != (pool.Ask{}) || got.Spent != (pool.Budget{}) {
		t.Errorf("got asked %+v, spent %+v, want neither: the watchdog is no policy", got.Asked, got.Spent)
	}
}

func TestJudgeSaysThatTheBreakerIsOpen(t *testing.T) {
	t.Parallel()
	judge := policy.Judge{
		Policy: policy.Fixed{}, Limits: pool.Limits{Maximum: 4},
		Watchdog: policy.Watchdog{Interval: 10 * time.Minute, BreakerRatio: 0.5},
	}
	s := pool.Snapshot{Now: pooltest.Now, Instances: pooltest.Fleet(t, "busy/silent busy/silent busy/silent idle")}
	got, seen := judge.Decide(&s, pool.Budget{})
	if want := "nothing: breaker open: 3 of 4 silent"; got.String() != want || !seen.Breaker {
		t.Errorf("got %s, %+v, want %s", &got, seen, want)
	}
}

// rude is a policy that returns any decision, also a forbidden one.
type rude struct{ d pool.Decision }

func (r rude) Decide(*pool.Snapshot) (pool.Decision, error) { return r.d, nil }

func TestJudgeHoldsAnyPolicyToTheRules(t *testing.T) {
	t.Parallel()
	judge := policy.Judge{
		Limits:   pool.Limits{Maximum: 5},
		Watchdog: policy.Watchdog{Interval: 10 * time.Minute},
	}
	for name, c := range map[string]struct {
		d    pool.Decision
		want string
	}{
		"stops the hung once more": {pool.Decision{Stop: ends("i-1")}, "stop [i-1]"},
		"reactivates the hung":     {pool.Decision{Reactivate: ids("i-4")}, "stop [i-1 i-4]"},
		"stops the busy":           {pool.Decision{Stop: ends("i-2")}, "stop [i-1 i-4]"},
		"launches without end":     {pool.Decision{Launch: math.MaxInt}, "launch 3, stop [i-1 i-4]"},
	} {
		fleet := "busy/silent busy idle draining/silent"
		if name == "stops the hung once more" {
			fleet = "busy/silent busy idle draining:1"
		}
		s := pool.Snapshot{Now: pooltest.Now, Instances: pooltest.Fleet(t, fleet)}
		judge.Policy = rude{c.d}
		if got, _ := judge.Decide(&s, pool.Budget{Starts: 9, Stops: 9}); acts(got) != c.want {
			t.Errorf("%s: %s of %q: got %s, want %s", name, &c.d, fleet, &got, c.want)
		}
	}
}

func ExampleWatchdog_Inspect() {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	s := pool.Snapshot{Now: now, Instances: []pool.Instance{
		{ID: "i-1", State: pool.Active, HeardAt: now.Add(-11 * time.Minute)},
		{ID: "i-2", State: pool.Active, HeardAt: now.Add(-time.Second)},
	}}
	v := policy.Watchdog{Interval: 10 * time.Minute, BreakerRatio: 0.5}.Inspect(&s)
	hung := v.Hung[0]
	fmt.Printf("%s is %s: silent for %s; breaker open: %t\n", hung.Instance, hung.Cause, hung.For, v.Breaker)
	// Output: i-1 is hung: silent for 11m0s; breaker open: false
}
