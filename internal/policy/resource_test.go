package policy_test

import (
	"math"
	"testing"
	"time"

	"cloudmaster/internal/policy"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/pool/pooltest"
)

var resourceDefaults = policy.ResourceSettings{
	UpperLoad: 0.75, LowerLoad: 0.25, QueueLoadFactor: 2,
	ShutDownInterval: time.Hour + time.Minute, ShutDownGrace: 10 * time.Second, // fleets drain for an hour
}

func newResource(tb testing.TB, set policy.ResourceSettings) policy.Policy {
	tb.Helper()
	p, err := policy.NewResource(set)
	if err != nil {
		tb.Fatalf("resource policy of %+v: %v", set, err)
	}
	return p
}

type resourceCase struct {
	fleet    string
	requests int
	change   func(*policy.ResourceSettings)
	want     string
}

func runResource(t *testing.T, cases map[string]resourceCase) {
	t.Helper()
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set := resourceDefaults
			if c.change != nil {
				c.change(&set)
			}
			s := pool.Snapshot{
				Now: pooltest.Now, Backlog: visible(0), Requests: c.requests, Instances: pooltest.Fleet(t, c.fleet),
			}
			got := ask(t, newResource(t, set), lifetimes, &s)
			if acts(got) != c.want {
				t.Errorf("%q, %d requests, %+v: got %s, want %s", c.fleet, c.requests, set, &got, c.want)
			}
			if !got.Empty() && got.Reason == "" {
				t.Errorf("%q, %d requests: got %s, want a reason", c.fleet, c.requests, &got)
			}
		})
	}
}

func TestResourceNoneActive(t *testing.T) {
	t.Parallel()
	ten := func(r *policy.ResourceSettings) { r.QueueLoadFactor = 10 }
	runResource(t, map[string]resourceCase{
		"no requests":                       {want: "nothing"},
		"factor 10, 1 request":              {requests: 1, change: ten, want: "launch 1"},
		"factor 10, 7 requests":             {requests: 7, change: ten, want: "launch 1"},
		"factor 10, 8 requests":             {requests: 8, change: ten, want: "launch 2"},
		"factor 10, 15 requests: exactly 2": {requests: 15, change: ten, want: "launch 2"},
		"factor 2, 1 request":               {requests: 1, want: "launch 1"},
		"factor 2, 2 requests":              {requests: 2, want: "launch 2"},
		"those in startup count":            {fleet: "starting", requests: 3, want: "launch 1"},
		"enough in startup":                 {fleet: "starting starting", requests: 3, want: "nothing"},
		"more than enough in startup":       {fleet: "starting starting", requests: 1, want: "nothing"},
		"stopping ones do not":              {fleet: "stopping", requests: 1, want: "launch 1"},
		"reactivate before launching":       {fleet: "draining:0.3", requests: 3, want: "launch 1, reactivate [i-1]"},
		"exactly as many as needed": {
			fleet: "draining:0.3 draining:0.5", requests: 1, want: "reactivate [i-2]",
		},
		"startup, then draining": {
			fleet: "starting draining:0.3 draining:0.5", requests: 3, want: "reactivate [i-3]",
		},
		"never zero for a request": {
			requests: 1, change: func(r *policy.ResourceSettings) { r.QueueLoadFactor = 1e12 }, want: "launch 1",
		},
		"a factor that makes infinity": {
			requests: 1, change: func(r *policy.ResourceSettings) { r.QueueLoadFactor = math.SmallestNonzeroFloat64 },
			want: "launch 2147483647",
		},
	})
}

func TestResourceNoRoom(t *testing.T) {
	t.Parallel()
	runResource(t, map[string]resourceCase{
		"two at 0.8":                       {fleet: "0.8 0.8", want: "launch 1"},
		"two at exactly 0.75":              {fleet: "0.75 0.75", want: "nothing"},
		"one at 0.75, one above":           {fleet: "0.75 0.8", want: "launch 1"},
		"one above, one below":             {fleet: "1.5 0.74", want: "nothing"},
		"one above":                        {fleet: "0.76", want: "launch 1"},
		"far above: 0.75 over is one more": {fleet: "1.5", want: "launch 1"},
		"further above":                    {fleet: "1.51", want: "launch 2"},
		"the sum over all":                 {fleet: "1.5 1.5 0.8", want: "launch 3"},
		"those in startup count":           {fleet: "0.8 0.8 starting", want: "nothing"},
		"requests add nothing":             {fleet: "0.8 0.8", requests: 40, want: "launch 1"},
		"reactivate, highest load first":   {fleet: "0.8 0.8 draining:0.1 draining:0.4", want: "reactivate [i-4]"},
		"exactly as many as needed, then new": {
			fleet: "1.5 1.5 1.5 draining:0.1 draining:0.2",
			want:  "launch 1, reactivate [i-5 i-4]",
		},
		"a drained one is taken back": {fleet: "0.8 draining", want: "reactivate [i-2], stop [i-2]"},
		// if there is no room for it
		"only one of two drained is": {
			fleet: "0.8 draining draining",
			want:  "reactivate [i-2], stop [i-2 i-3]",
		},
		"one that never reported may be empty": {fleet: "0.9 0.9 mute", want: "nothing"},
		"three times 0.1 over 0.3 is one": {
			fleet: "0.4 0.4 0.4", change: func(r *policy.ResourceSettings) { r.UpperLoad = 0.3 }, want: "launch 1",
		},
	})
}

func TestResourceTooMany(t *testing.T) {
	t.Parallel()
	runResource(t, map[string]resourceCase{
		"two at 0.5":                        {fleet: "0.5 0.5", want: "nothing"},
		"two at 0":                          {fleet: "0 0", want: "shut down [i-1 i-2]"},
		"two at 0 and a request":            {fleet: "0 0", requests: 1, want: "nothing"},
		"one at 0":                          {fleet: "idle", want: "shut down [i-1]"},
		"one at 0.1":                        {fleet: "0.1", want: "nothing"},
		"lowest load first":                 {fleet: "0.2 0.05 0.1", want: "shut down [i-2]"},
		"exactly at the lower target":       {fleet: "0.25 0.25 0.25", want: "nothing"},
		"a little below":                    {fleet: "0.25 0.25 0.24 0", want: "shut down [i-4]"},
		"0.1 + 0.2 is 0.3":                  {fleet: "0.1 0.2 0.2 0", want: "shut down [i-4 i-1]"},
		"only those long enough active":     {fleet: "0/fresh 0 0.3", want: "shut down [i-2]"},
		"lifetimes over before lowest load": {fleet: "0/fresh 0 0.1", want: "shut down [i-2 i-3]"},
		// An instance that is /young is active for a minute, too.
		"their age does not matter":       {fleet: "0/young 0", want: "shut down [i-2]"},
		"all too fresh":                   {fleet: "0/fresh 0/fresh", want: "nothing"},
		"not those that start":            {fleet: "0 0 starting", want: "shut down [i-1 i-2]"},
		"one load unknown: hold":          {fleet: "0 0 mute", want: "nothing"},
		"idle longest breaks the tie":     {fleet: "0 idle 0.3", want: "shut down [i-2]"},
		"no load, busy all the same":      {fleet: "busy 0.3 0", want: "shut down [i-1]"}, // a drain, not a stop
		"draining beside it changes none": {fleet: "0.5 0.5 draining:0.3", want: "nothing"},
	})
}

func TestResourceDraining(t *testing.T) {
	t.Parallel()
	some := func(r *policy.ResourceSettings) { r.ShutDownThreshold = 0.1 }
	soon := func(r *policy.ResourceSettings) { r.ShutDownInterval = time.Hour }
	sooner := func(r *policy.ResourceSettings) { r.ShutDownInterval = time.Second }
	runResource(t, map[string]resourceCase{
		"empty":               {fleet: "draining", want: "stop [i-1]"},
		"loaded":              {fleet: "draining:0.1", want: "nothing"},
		"at the threshold":    {fleet: "draining:0.1", change: some, want: "stop [i-1]"},
		"above the threshold": {fleet: "draining:0.11", change: some, want: "nothing"},
		"empty by a status older than the shut-down": {fleet: "draining/stale", want: "nothing"},
		"within the grace":                           {fleet: "draining/now", want: "nothing"},
		"interval over, whatever the load":           {fleet: "draining:2", change: soon, want: "stop [i-1]"},
		"interval over, no status since":             {fleet: "draining:2/stale", change: soon, want: "stop [i-1]"},
		"interval not over":                          {fleet: "draining:2/fresh", change: soon, want: "nothing"},
		"interval over within the grace":             {fleet: "draining:2/now", change: sooner, want: "nothing"},
		"beside an active one": {
			fleet: "0.5 draining draining:0.2 draining", want: "stop [i-2 i-4]",
		},
	})
	s := pool.Snapshot{Now: pooltest.Now, Backlog: visible(0), Instances: pooltest.Fleet(t, "draining")}
	s.Instances[0].ReportedAt = s.Instances[0].StateSince
	if got := ask(t, newResource(t, resourceDefaults), lifetimes, &s); !got.Empty() {
		t.Errorf("a status of the very moment of the shut-down is not newer: got %s, want nothing", &got)
	}
	s.Instances[0].StateSince, s.Instances[0].ReportedAt = s.Now.Add(-10*time.Second), s.Now
	if got := ask(t, newResource(t, resourceDefaults), lifetimes, &s); acts(got) != "stop [i-1]" {
		t.Errorf("grace just over: got %s, want stop [i-1]", &got)
	}
}

// TestResourceMinimumIsOfActive checks that a pool with a minimum always has an active server for the next
// client.
func TestResourceMinimumIsOfActive(t *testing.T) {
	t.Parallel()
	limits := lifetimes
	limits.Minimum, limits.Maximum, limits.Drain = 1, 9, true
	judge := policy.Judge{Policy: newResource(t, resourceDefaults), Limits: limits}
	for fleet, want := range map[string]string{
		"":                  "launch 1",
		"starting":          "nothing",
		"draining:0.1":      "reactivate [i-1]",
		"draining":          "reactivate [i-1]",
		"idle":              "nothing",
		"idle starting":     "nothing",
		"idle idle":         "shut down [i-1]",
		"idle draining":     "stop [i-2]",
		"idle draining:0.1": "nothing",
	} {
		s := pool.Snapshot{Now: pooltest.Now, Backlog: visible(0), Instances: pooltest.Fleet(t, fleet)}
		if got, _ := judge.Decide(&s, pool.Budget{Starts: 9, Stops: 9}); acts(got) != want {
			t.Errorf("%q: got %s, want %s", fleet, &got, want)
		}
	}
}

// TestResourceBadLoads checks that a load that is not a valid number counts as unknown.
func TestResourceBadLoads(t *testing.T) {
	t.Parallel()
	for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), -1} {
		for fleet, want := range map[string]string{
			"0 0": "nothing", "0.9 0.9": "nothing", "0": "nothing", "draining 0.5": "nothing",
		} {
			s := pool.Snapshot{Now: pooltest.Now, Backlog: visible(0), Instances: pooltest.Fleet(t, fleet)}
			s.Instances[0].Load = bad
			if s.Instances[0].State == pool.ShutDown && bad < 0 {
				continue // it is below every threshold; ValidLoad rejects it when it arrives
			}
			if got := ask(t, newResource(t, resourceDefaults), lifetimes, &s); acts(got) != want {
				t.Errorf("%q, the first at %v: got %s, want %s", fleet, bad, &got, want)
			}
		}
	}
	s := pool.Snapshot{Now: pooltest.Now, Backlog: visible(0), Instances: pooltest.Fleet(t, "0.9 0.9")}
	s.Instances[0].Load, s.Instances[1].Load = math.MaxFloat64, math.MaxFloat64
	if got := ask(t, newResource(t, resourceDefaults), lifetimes, &s); got.Launch != math.MaxInt32 {
		t.Errorf("a sum past all numbers: got %s, want launch %d", &got, math.MaxInt32)
	}
}

func TestResourceSaysWhy(t *testing.T) {
	t.Parallel()
	soon := resourceDefaults
	soon.ShutDownInterval = time.Hour
	for fleet, want := range map[string]string{
		"":                "nothing",
		"starting":        "launch 1: 3 requests and no active server: 2 needed; 1 starting",
		"0.8 0.8":         "launch 1: all 2 active servers at or above load 0.75: 1 more",
		"0.75 0.75":       "nothing",
		"0.5 mute":        "nothing: load of i-2 is unknown: holding",
		"0.5 draining:1":  "stop [i-2]: 1 draining for 1h0m0s or more",
		"0.5 draining":    "stop [i-2]: 1 drained",
		"0.2 0":           "shut down [i-2]: load 0.20 needs 1 of 2 active servers",
		"0.2/fresh 0/now": "shut down [i-2]: load 0.20 needs 1 of 2 active servers",
	} {
		s := pool.Snapshot{Now: pooltest.Now, Backlog: visible(0), Instances: pooltest.Fleet(t, fleet)}
		if fleet == "starting" {
			s.Requests = 3
		}
		if got := ask(t, newResource(t, soon), lifetimes, &s); got.String() != want {
			t.Errorf("%q: got %s, want %s", fleet, &got, want)
		}
	}
}

func TestResourceSettings(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		change func(*policy.ResourceSettings)
		want   string
	}{
		"defaults": {func(*policy.ResourceSettings) {}, ""},
		"not above 0": {
			func(r *policy.ResourceSettings) { r.UpperLoad, r.LowerLoad, r.QueueLoadFactor = 0, -1, math.NaN() },
			"target_upper_load is 0, not a number above 0\ntarget_lower_load is -1, not a number above 0\n" +
				"queue_load_factor is NaN, not a number above 0",
		},
		"infinite": {
			func(r *policy.ResourceSettings) { r.UpperLoad = math.Inf(1) },
			"target_upper_load is +Inf, not a number above 0",
		},
		"lower is upper": {
			func(r *policy.ResourceSettings) { r.LowerLoad = 0.75 },
			"target_lower_load is 0.75, not below target_upper_load, 0.75",
		},
		"threshold": {
			func(r *policy.ResourceSettings) { r.ShutDownThreshold = -0.5 },
			"shut_down_threshold is -0.5, not a number from 0 up",
		},
		"times": {
			func(r *policy.ResourceSettings) { r.ShutDownInterval, r.ShutDownGrace = -time.Second, -time.Minute },
			"shut_down_interval is -1s and shut_down_grace -1m0s: neither may be less than 0",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set := resourceDefaults
			c.change(&set)
			got := ""
			if _, err := policy.NewResource(set); err != nil {
				got = err.Error()
			}
			if got != c.want {
				t.Errorf("%+v: got %q, want %q", set, got, c.want)
			}
		})
	}
}

// TestResourceUnknownRequests checks that servers are not shut down while the work queue cannot be read,
// because requests may be waiting there. A drain still ends when the server has reported that it is empty.
func TestResourceUnknownRequests(t *testing.T) {
	t.Parallel()
	for fleet, want := range map[string]string{
		"0 0":          "nothing",
		"0.9 0.9":      "launch 1",
		"0.9 draining": "reactivate [i-2], stop [i-2]", // if there is no room for it
		"0.3 draining": "stop [i-2]",
	} {
		s := pool.Snapshot{Now: pooltest.Now, Instances: pooltest.Fleet(t, fleet)}
		if got := ask(t, newResource(t, resourceDefaults), lifetimes, &s); acts(got) != want {
			t.Errorf("%q: got %s, want %s", fleet, &got, want)
		}
	}
}

// TestShutDownTakesThoseFirstWhoseLifetimesAreOver: then the least loaded.
func TestShutDownTakesThoseFirstWhoseLifetimesAreOver(t *testing.T) {
	t.Parallel()
	limits := lifetimes
	limits.MinimumLifetime, limits.MinimumActiveTime, limits.Maximum, limits.Drain = 5*time.Minute, 0, 9, true
	s := pool.Snapshot{Now: pooltest.Now, Backlog: visible(0), Instances: pooltest.Fleet(t, "0.1 0/young")}
	if got := ask(t, newResource(t, resourceDefaults), limits, &s); acts(got) != "shut down [i-1]" {
		t.Errorf("got %s, want shut down [i-1]", &got)
	}
}

// TestResourceShrinksNotWhileRequestsWait: somebody needs room, whether or not the request has been taken yet.
func TestResourceShrinksNotWhileRequestsWait(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		visible, taken int
		want           string
	}{
		"none":        {0, 0, "shut down [i-1]"},
		"one waits":   {1, 0, "nothing"},
		"one is here": {0, 1, "nothing"},
	} {
		s := pool.Snapshot{
			Now: pooltest.Now, Backlog: visible(c.visible), Requests: c.taken, Instances: pooltest.Fleet(t, "0.1 0.1"),
		}
		if got := ask(t, newResource(t, resourceDefaults), lifetimes, &s); acts(got) != c.want {
			t.Errorf("%s: got %s, want %s", name, &got, c.want)
		}
	}
}
