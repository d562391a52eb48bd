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

// TestWhatIsAboutToEndIsReplaced: it is shut down in the same pass in which others are launched, is no capacity, and
// counts under the maximum. A view that may be wrong changes nothing about that.
func TestWhatIsAboutToEndIsReplaced(t *testing.T) {
	t.Parallel()
	job := func(tb testing.TB) policy.Policy {
		return newJob(tb, policy.JobSettings{StartThreshold: 1, IdleThreshold: 1})
	}
	resource := func(tb testing.TB) policy.Policy { return newResource(tb, resourceDefaults) }
	fixed := func(testing.TB) policy.Policy { return policy.Fixed{} }
	two := pool.Limits{Minimum: 2, Maximum: 3}
	three, clients := pool.Limits{Maximum: 3}, pool.Limits{Maximum: 9, Drain: true}
	none, waiting := pool.Backlog{Known: true}, pool.Backlog{Known: true, Visible: 2}
	taken := pool.Backlog{Known: true, InFlight: 1}
	for name, c := range map[string]struct {
		policy   func(testing.TB) policy.Policy
		limits   pool.Limits
		fleet    string
		backlog  pool.Backlog
		stale    bool
		launch   int
		shutDown string
	}{
		"minimum":          {fixed, two, "idle busy/leaving", pool.Backlog{}, false, 1, "i-2"},
		"stale":            {fixed, two, "idle busy/leaving", pool.Backlog{}, true, 1, "i-2"},
		"too young":        {fixed, two, "idle busy/leaving/young", pool.Backlog{}, false, 1, "i-2"},
		"all":              {fixed, two, "idle/leaving busy/leaving", pool.Backlog{}, false, 1, "i-1 i-2"},
		"was shut down":    {fixed, two, "idle draining:0.4/leaving", pool.Backlog{}, false, 1, ""},
		"maximum":          {fixed, two, "idle draining:0.4/leaving draining:1/leaving", pool.Backlog{}, false, 0, ""},
		"others come back": {fixed, two, "busy draining draining:0.9/leaving", pool.Backlog{}, false, 0, ""},
		"jobs wait":        {job, three, "busy busy/leaving", waiting, false, 1, "i-2"},
		"job in its hands": {job, three, "busy/leaving", taken, false, 0, "i-1"},
		"idle worker":      {job, three, "idle/leaving", none, false, 0, "i-1"},
		"last server":      {resource, clients, "0.4/leaving", none, false, 1, "i-1"},
		"empty server":     {resource, clients, "0/leaving", none, false, 0, "i-1"},
		"others have room": {resource, clients, "0.4 0.3/leaving", none, false, 0, "i-2"},
		"little room":      {resource, clients, "0.5 0.3/leaving", none, false, 1, "i-2"},
		"no room":          {resource, clients, "0.8 0.8/leaving 0.8/leaving", none, false, 3, "i-2 i-3"},
		"one is starting":  {resource, clients, "starting draining:0.4/leaving", none, false, 0, ""},
		"load will move":   {resource, clients, "0.1 0.1 draining:0.4/leaving", none, false, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			judge := policy.Judge{Policy: c.policy(t), Limits: c.limits}
			s := pool.Snapshot{
				Now: pooltest.Now, Instances: pooltest.Fleet(t, c.fleet), Backlog: c.backlog, Stale: c.stale,
			}
			d, _ := judge.Decide(&s, pool.Budget{Starts: 9, Stops: 0})
			var down []string
			for _, e := range d.ShutDown {
				if down = append(down, string(e.Instance)); e.Cause != pool.Interrupted {
					t.Errorf("%s: got the cause %s, want %s", e.Instance, e.Cause, pool.Interrupted)
				}
			}
			if got := strings.Join(down, " "); d.Launch != c.launch || got != c.shutDown || len(d.Stop) > 0 {
				t.Errorf("got %s, want launch %d, shut down [%s]", &d, c.launch, c.shutDown)
			}
			if name == "others come back" && !slices.Equal(d.Reactivate, []pool.InstanceID{"i-2"}) {
				t.Errorf("got %s, want the one back that stays", &d)
			}
		})
	}
}

// TestWhatIsAboutToEndAndIsSilentIsStopped: the watchdog comes first.
func TestWhatIsAboutToEndAndIsSilentIsStopped(t *testing.T) {
	t.Parallel()
	judge := policy.Judge{
		Policy: policy.Fixed{}, Limits: pool.Limits{Maximum: 3},
		Watchdog: policy.Watchdog{Interval: 10 * time.Minute, BreakerRatio: 0.5},
	}
	s := pool.Snapshot{Now: pooltest.Now, Instances: pooltest.Fleet(t, "busy/leaving/silent busy/leaving")}
	d, _ := judge.Decide(&s, pool.Budget{})
	if got := pool.IDs(d.Stop); !slices.Equal(got, []pool.InstanceID{"i-1"}) || d.Stop[0].Cause != pool.Hung {
		t.Errorf("got %s, want the silent one stopped because it is hung", &d)
	}
	if got := pool.IDs(d.ShutDown); !slices.Equal(got, []pool.InstanceID{"i-2"}) {
		t.Errorf("got %s, want the other one shut down", &d)
	}
}

// TestWhatSaysForEverThatItEndsIsStopped at the deadline of its drain, though it never says that it is empty.
func TestWhatSaysForEverThatItEndsIsStopped(t *testing.T) {
	t.Parallel()
	settings := resourceDefaults
	settings.ShutDownInterval = time.Hour
	judge := policy.Judge{Policy: newResource(t, settings), Limits: pool.Limits{Maximum: 3, Drain: true}}
	for fleet, want := range map[string]int{"draining:0.4/leaving": 1, "draining:0.4/fresh/leaving": 0} {
		s := pool.Snapshot{
			Now: pooltest.Now, Instances: pooltest.Fleet(t, fleet), Backlog: pool.Backlog{Known: true},
		}
		d, _ := judge.Decide(&s, pool.Budget{})
		if len(d.Stop) != want || want > 0 && d.Stop[0].Cause != pool.DrainDeadline {
			t.Errorf("%s: got %s, want %d stopped", fleet, &d, want)
		}
	}
}

// TestTheBreakerDoesNotProbeWhatIsAboutToEnd: its successor would prove nothing.
func TestTheBreakerDoesNotProbeWhatIsAboutToEnd(t *testing.T) {
	t.Parallel()
	judge := policy.Judge{
		Policy: policy.Fixed{}, Limits: pool.Limits{Minimum: 4, Maximum: 9},
		Watchdog: policy.Watchdog{Interval: 10 * time.Minute, BreakerRatio: 0.5},
	}
	s := pool.Snapshot{
		Now: pooltest.Now, Instances: pooltest.Fleet(t, "busy/leaving/lost busy/lost busy/lost busy/lost busy"),
	}
	d, v := judge.Decide(&s, pool.Budget{Starts: 9})
	if !v.Breaker || v.Active != 4 || !slices.Equal(pool.IDs(d.Stop), []pool.InstanceID{"i-2"}) {
		t.Errorf("got %s, %+v, want the breaker open and one of the others replaced", &d, v)
	}
}
