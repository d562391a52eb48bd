package policy_test

import (
	"fmt"
	"testing"
	"time"

	"cloudmaster/internal/policy"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/pool/pooltest"
)

// lifetimes are the default lifetimes of the configuration.
var lifetimes = pool.Limits{MinimumLifetime: 5 * time.Minute, MinimumActiveTime: 2 * time.Minute}

var jobDefaults = policy.JobSettings{StartThreshold: 2, StopThreshold: 0, IdleThreshold: 1}

func newJob(tb testing.TB, set policy.JobSettings) policy.Policy {
	tb.Helper()
	p, err := policy.NewJob(set)
	if err != nil {
		tb.Fatalf("job policy of %+v: %v", set, err)
	}
	return p
}

// ask returns what a policy decides under limits. The test fails if the policy returns an error.
func ask(tb testing.TB, p policy.Policy, limits pool.Limits, s *pool.Snapshot) pool.Decision {
	tb.Helper()
	s.Limits = limits
	d, err := p.Decide(s)
	if err != nil {
		tb.Fatalf("got %v, want a decision", err)
	}
	return d
}

// acts returns the acts of a decision, without its reasons.
func acts(d pool.Decision) string {
	d.Reason, d.Clamps = "", nil
	return d.String()
}

func ExampleJob_Decide() {
	job, err := policy.NewJob(policy.JobSettings{StartThreshold: 2, StopThreshold: 0, IdleThreshold: 1})
	if err != nil {
		fmt.Println(err)
		return
	}
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	busy := pool.Instance{ID: "i-1", State: pool.Active, ReportedAt: now, Busy: true}
	idle := pool.Instance{ID: "i-2", State: pool.Active, ReportedAt: now}
	for _, s := range []pool.Snapshot{
		{Now: now, Backlog: pool.Backlog{Known: true, Visible: 6, InFlight: 1}, Instances: []pool.Instance{busy}},
		{Now: now, Backlog: pool.Backlog{Known: true, InFlight: 1}, Instances: []pool.Instance{busy, idle}},
		{Now: now, Instances: []pool.Instance{busy, idle}},
	} {
		d, err := job.Decide(&s)
		fmt.Println(&d, err)
	}
	// Output:
	// launch 2: 6 messages need 3 instances, 1 counted <nil>
	// stop [i-2]: 1 idle, 1 to stop <nil>
	// nothing: the backlog is unknown: holding <nil>
}

type jobCase struct {
	set     policy.JobSettings // zero: the defaults
	fleet   string
	backlog pool.Backlog
	want    string
}

func visible(v int) pool.Backlog { return pool.Backlog{Known: true, Visible: v} }

func inFlight(v, f int) pool.Backlog { return pool.Backlog{Known: true, Visible: v, InFlight: f} }

func runJob(t *testing.T, cases map[string]jobCase) {
	t.Helper()
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.set == (policy.JobSettings{}) {
				c.set = jobDefaults
			}
			s := pool.Snapshot{Now: pooltest.Now, Backlog: c.backlog, Instances: pooltest.Fleet(t, c.fleet)}
			got := ask(t, newJob(t, c.set), lifetimes, &s)
			if acts(got) != c.want {
				t.Errorf("%q, %+v, %+v: got %s, want %s", c.fleet, c.backlog, c.set, &got, c.want)
			}
			if !got.Empty() && got.Reason == "" {
				t.Errorf("%q, %+v: got %s, want a reason", c.fleet, c.backlog, &got)
			}
		})
	}
}

// TestJobTable checks the table of examples in docs/policies.md.
func TestJobTable(t *testing.T) {
	t.Parallel()
	runJob(t, map[string]jobCase{
		"quiet":                 {fleet: "", backlog: visible(0), want: "nothing"},
		"first job":             {fleet: "", backlog: visible(1), want: "launch 1"},
		"4 jobs, nothing runs":  {fleet: "", backlog: visible(4), want: "launch 2"},
		"6 jobs, one runs":      {fleet: "busy", backlog: inFlight(6, 1), want: "launch 2"},
		"1 job, two run":        {fleet: "busy busy", backlog: inFlight(1, 2), want: "nothing"},
		"empty, two idle":       {fleet: "idle idle", backlog: visible(0), want: "stop [i-1 i-2]"},
		"6 jobs, one starts":    {fleet: "starting", backlog: visible(6), want: "launch 2"},
		"5 jobs: floor of 2.5":  {fleet: "", backlog: visible(5), want: "launch 2"},
		"enough are counted":    {fleet: "starting busy busy", backlog: inFlight(6, 2), want: "nothing"},
		"more than enough":      {fleet: "busy busy busy busy", backlog: inFlight(6, 4), want: "nothing"},
		"a stopping one is not": {fleet: "stopping", backlog: visible(1), want: "launch 1"},
	})
}

func TestJobUp(t *testing.T) {
	t.Parallel()
	ten := policy.JobSettings{StartThreshold: 10, StopThreshold: 0, IdleThreshold: 1}
	runJob(t, map[string]jobCase{
		"below the threshold, nothing counted": {set: ten, backlog: visible(9), want: "launch 1"},
		"below the threshold, one counted":     {set: ten, fleet: "busy", backlog: inFlight(9, 1), want: "nothing"},
		"at the threshold":                     {set: ten, backlog: visible(10), want: "launch 1"},
		"at the threshold, one counted":        {set: ten, fleet: "busy", backlog: inFlight(10, 1), want: "nothing"},
		"twice the threshold":                  {set: ten, fleet: "busy", backlog: inFlight(20, 1), want: "launch 1"},
		"threshold 1": {
			set: policy.JobSettings{StartThreshold: 1, IdleThreshold: 1}, backlog: visible(3), want: "launch 3",
		},
		"in flight does not count as visible": {fleet: "busy", backlog: inFlight(1, 40), want: "nothing"},
		"unknown backlog":                     {backlog: pool.Backlog{Visible: 40, InFlight: 40}, want: "nothing"},
		"unknown backlog is not zero":         {fleet: "idle idle", want: "nothing"},
		"up and down meet: up wins": {
			set: policy.JobSettings{StartThreshold: 2, StopThreshold: 9, IdleThreshold: 1}, fleet: "idle",
			backlog: visible(4), want: "launch 1",
		},
		"in flight and nobody there to hold them": {backlog: inFlight(0, 5), want: "launch 2"},
		"one in flight and nobody":                {backlog: inFlight(0, 1), want: "launch 1"},
		"in flight, but one is starting":          {fleet: "starting", backlog: inFlight(0, 5), want: "nothing"},
		"in flight, held by one that stops":       {fleet: "stopping", backlog: inFlight(0, 5), want: "nothing"},
		"in flight, held by one that drains":      {fleet: "draining:1", backlog: inFlight(0, 5), want: "nothing"},
		"in flight beside visible ones":           {backlog: inFlight(2, 9), want: "launch 1"},
	})
}

func TestJobDown(t *testing.T) {
	t.Parallel()
	every := func(n int) policy.JobSettings {
		return policy.JobSettings{StartThreshold: 2, StopThreshold: 0, IdleThreshold: n}
	}
	patient := policy.JobSettings{StartThreshold: 9, StopThreshold: 3, IdleThreshold: 1}
	runJob(t, map[string]jobCase{
		"above the stop threshold":    {fleet: "idle idle", backlog: visible(1), want: "nothing"},
		"at a stop threshold of 3":    {set: patient, fleet: "idle idle", backlog: visible(3), want: "stop [i-1]"},
		"above a stop threshold of 3": {set: patient, fleet: "idle idle", backlog: visible(4), want: "nothing"},
		"busy ones and starting ones are no victims": {
			fleet: "busy starting idle 0.5 starting", backlog: inFlight(0, 2), want: "stop [i-3]",
		},
		"only busy ones": {fleet: "busy busy", backlog: inFlight(0, 2), want: "nothing"},
		"never reported: neither idle nor a victim": {fleet: "mute mute", backlog: visible(0), want: "nothing"},
		"draining and stopping ones are left alone": {
			fleet: "draining stopping idle", backlog: visible(0), want: "stop [i-3]",
		},
		"in flight, accounted for by the busy ones": {fleet: "busy idle", backlog: inFlight(0, 1), want: "stop [i-2]"},
		"one in flight that nobody accounts for":    {fleet: "idle idle", backlog: inFlight(0, 1), want: "stop [i-1]"},
		"one more in flight than busy": {
			fleet: "busy idle idle", backlog: inFlight(0, 2), want: "stop [i-2]",
		},
		"more in flight than all":  {fleet: "idle idle", backlog: inFlight(0, 9), want: "nothing"},
		"more busy than in flight": {fleet: "busy busy idle", backlog: inFlight(0, 0), want: "stop [i-3]"},
		"idle threshold 2, one idle: half rounds up": {
			set: every(2), fleet: "idle", backlog: visible(0), want: "stop [i-1]",
		},
		"idle threshold 2, three idle": {
			set: every(2), fleet: "idle idle idle", backlog: visible(0), want: "stop [i-1 i-2]",
		},
		"idle threshold 3, one idle: a third is none": {
			set: every(3), fleet: "idle", backlog: visible(0), want: "nothing",
		},
		"idle threshold 3, four idle": {
			set: every(3), fleet: "idle idle idle idle", backlog: visible(0), want: "stop [i-1]",
		},
		"idle threshold 3, five idle": {
			set: every(3), fleet: "idle idle idle idle idle", backlog: visible(0), want: "stop [i-1 i-2]",
		},
		"idle threshold 2 after k": {
			set: every(2), fleet: "idle idle idle", backlog: inFlight(0, 2), want: "stop [i-1]",
		},
		"lifetimes over first": {fleet: "idle/young idle/fresh idle", backlog: inFlight(0, 2), want: "stop [i-3]"},
		"all too young":        {fleet: "idle/young idle/fresh", backlog: visible(0), want: "nothing"},
	})
}

func TestJobVictims(t *testing.T) {
	t.Parallel()
	s := pool.Snapshot{
		Now: pooltest.Now, Backlog: inFlight(0, 3), Instances: pooltest.Fleet(t, "idle idle idle idle idle"),
	}
	s.Instances[1].Launched = s.Instances[1].Launched.Add(-time.Minute)   // second: older than i-1, i-4 and i-5
	s.Instances[2].IdleSince = s.Instances[2].IdleSince.Add(-time.Second) // first: idle longest
	job := newJob(t, jobDefaults)
	if got, want := acts(ask(t, job, lifetimes, &s)), "stop [i-3 i-2]"; got != want {
		t.Errorf("idle longest, then oldest: got %s, want %s", got, want)
	}
	s.Backlog.InFlight = 2
	if got, want := acts(ask(t, job, lifetimes, &s)), "stop [i-3 i-2 i-1]"; got != want {
		t.Errorf("then id: got %s, want %s", got, want)
	}
}

func TestJobSaysWhy(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fleet   string
		backlog pool.Backlog
		want    string
	}{
		"unknown": {"idle", pool.Backlog{}, "nothing: the backlog is unknown: holding"},
		"lost": {
			"", inFlight(0, 1),
			"launch 1: 1 messages in flight that no instance holds; 1 messages need 1 instances, 0 counted",
		},
		"kept": {
			"idle idle", inFlight(0, 1), "stop [i-1]: 2 idle, 1 kept for messages that may come back, 1 to stop",
		},
		"too young": {"idle/young idle", visible(0), "stop [i-2]: 2 idle, 2 to stop; 1 of them too young"},
	} {
		s := pool.Snapshot{Now: pooltest.Now, Backlog: c.backlog, Instances: pooltest.Fleet(t, c.fleet)}
		got := ask(t, newJob(t, jobDefaults), lifetimes, &s)
		if got.String() != c.want {
			t.Errorf("%s: %q, %+v: got %s, want %s", name, c.fleet, c.backlog, &got, c.want)
		}
	}
}

func TestJobSettings(t *testing.T) {
	t.Parallel()
	_, err := policy.NewJob(policy.JobSettings{StartThreshold: 0, StopThreshold: -1, IdleThreshold: 0})
	want := "start_threshold is 0, the least is 1\nstop_threshold is -1, the least is 0\n" +
		"idle_threshold is 0, the least is 1"
	if err == nil || err.Error() != want {
		t.Errorf("all wrong: got %v, want %s", err, want)
	}
	_, err = policy.NewJob(policy.JobSettings{StartThreshold: 1, IdleThreshold: -3})
	if want = "idle_threshold is -3, the least is 1"; err == nil || err.Error() != want {
		t.Errorf("one wrong: got %v, want %s", err, want)
	}
	if err := jobDefaults.Validate(); err != nil {
		t.Errorf("the defaults: got %v, want none", err)
	}
}
