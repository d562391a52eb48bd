package pool_test

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"cloudmaster/internal/pool"
	"cloudmaster/internal/pool/pooltest"
)

// TestStateMachine tries every pair of states, and two numbers that are none.
func TestStateMachine(t *testing.T) {
	t.Parallel()
	edges := map[[2]pool.State]bool{
		{pool.Unknown, pool.Startup}:   true,
		{pool.Startup, pool.Active}:    true,
		{pool.Startup, pool.Stopping}:  true,
		{pool.Active, pool.ShutDown}:   true,
		{pool.Active, pool.Stopping}:   true,
		{pool.ShutDown, pool.Active}:   true,
		{pool.ShutDown, pool.Stopping}: true,

		{pool.Unknown, pool.Warming}:  true,
		{pool.Warming, pool.Warm}:     true,
		{pool.Warming, pool.Startup}:  true,
		{pool.Warming, pool.Active}:   true,
		{pool.Warming, pool.Stopping}: true,
		{pool.Active, pool.Warm}:      true,
		{pool.ShutDown, pool.Warm}:    true,
		{pool.Warm, pool.Startup}:     true,
		{pool.Startup, pool.Warm}:     true,
		{pool.Warm, pool.Stopping}:    true,
	}
	for from := pool.State(-1); from <= pool.Warm+1; from++ {
		for to := pool.State(-1); to <= pool.Warm+1; to++ {
			if got, want := from.CanBecome(to), edges[[2]pool.State{from, to}]; got != want {
				t.Errorf("%s (%d) to %s (%d): got %v, want %v", from, from, to, to, got, want)
			}
		}
	}
}

func TestStateNames(t *testing.T) {
	t.Parallel()
	for state, name := range map[pool.State]string{
		pool.Unknown: "unknown", pool.Startup: "startup", pool.Active: "active", pool.ShutDown: "shut_down",
		pool.Stopping: "stopping", pool.Warming: "warming", pool.Warm: "warm", -1: "unknown", pool.Warm + 1: "unknown",
	} {
		if got := state.String(); got != name {
			t.Errorf("state %d: got %s, want %s", state, got, name)
		}
	}
	for name, state := range map[string]pool.State{
		"startup": pool.Startup, "active": pool.Active, "shut_down": pool.ShutDown, "stopping": pool.Stopping,
		"warming": pool.Warming, "warm": pool.Warm, "unknown": pool.Unknown, "": pool.Unknown,
		"Active": pool.Unknown, "shutdown": pool.Unknown,
	} {
		if got := pool.ParseState(name); got != state {
			t.Errorf("ParseState(%q): got %s, want %s", name, got, state)
		}
	}
}

func TestInstance(t *testing.T) {
	t.Parallel()
	for word, want := range map[string]struct{ counted, idle bool }{
		"starting":   {counted: true},
		"idle":       {counted: true, idle: true},
		"0":          {counted: true, idle: true},
		"busy":       {counted: true},
		"0.1":        {counted: true},
		"mute":       {counted: true}, // nobody knows what it does, so it is not idle
		"draining":   {},
		"draining:1": {},
		"stopping":   {},
	} {
		i := pooltest.Fleet(t, word)[0]
		if i.Counted() != want.counted || i.Idle() != want.idle {
			t.Errorf("%s: got counted %v, idle %v, want %+v", word, i.Counted(), i.Idle(), want)
		}
	}
}

func TestSnapshotCounts(t *testing.T) {
	t.Parallel()
	s := pool.Snapshot{Instances: pooltest.Fleet(t, "starting idle busy draining stopping idle")}
	if got := s.Counted(); got != 4 {
		t.Errorf("counted: got %d, want 4", got)
	}
	if got := s.Count(pool.ShutDown, pool.Stopping); got != 2 {
		t.Errorf("shut_down and stopping: got %d, want 2", got)
	}
	if got := s.Count(); got != 0 {
		t.Errorf("no states: got %d, want 0", got)
	}
	want := []pool.InstanceID{"i-2", "i-6"}
	if got := s.Pick(9, (*pool.Instance).Idle, pool.ByVictim); !slices.Equal(got, want) {
		t.Errorf("idle: got %v, want %v", got, want)
	}
}

func TestPickBounds(t *testing.T) {
	t.Parallel()
	s := pool.Snapshot{Instances: pooltest.Fleet(t, "idle idle idle")}
	all := func(*pool.Instance) bool { return true }
	for n, want := range map[int]string{
		-1: "[]", 0: "[]", 1: "[i-1]", 3: "[i-1 i-2 i-3]", math.MaxInt: "[i-1 i-2 i-3]",
	} {
		if got := fmt.Sprint(s.Pick(n, all, pool.ByVictim)); got != want {
			t.Errorf("first %d: got %s, want %s", n, got, want)
		}
	}
}

// TestOrders compares two instances for each criterion. The second one would come first by every criterion
// that comes later, so the test fails if the criterion is left out.
func TestOrders(t *testing.T) {
	t.Parallel()
	early, late := pooltest.Now.Add(-2*time.Hour), pooltest.Now.Add(-time.Hour)
	cases := map[string]struct {
		order         pool.Ranking
		first, second pool.Instance
	}{
		"victim: lowest load": {
			pool.ByVictim,
			pool.Instance{Load: 0.1, Launched: late, ID: "b"},
			pool.Instance{Load: 0.2, IdleSince: early, Launched: early, ID: "a"},
		},
		"victim: idle longest": {
			pool.ByVictim,
			pool.Instance{IdleSince: early, Launched: late, ID: "b"},
			pool.Instance{IdleSince: late, Launched: early, ID: "a"},
		},
		"victim: idle before not idle": {
			pool.ByVictim,
			pool.Instance{IdleSince: late, Launched: late, ID: "b"},
			pool.Instance{Launched: early, ID: "a"},
		},
		"victim: oldest launch": {
			pool.ByVictim, pool.Instance{Launched: early, ID: "b"}, pool.Instance{Launched: late, ID: "a"},
		},
		"victim: id": {pool.ByVictim, pool.Instance{ID: "a"}, pool.Instance{ID: "b"}},
		"reactivate: highest load": {
			pool.ByLoadDescending,
			pool.Instance{Load: 0.2, Launched: late, ID: "b"},
			pool.Instance{Load: 0.1, Launched: early, ID: "a"},
		},
		"reactivate: oldest launch": {
			pool.ByLoadDescending, pool.Instance{Launched: early, ID: "b"}, pool.Instance{Launched: late, ID: "a"},
		},
		"reactivate: id": {pool.ByLoadDescending, pool.Instance{ID: "a"}, pool.Instance{ID: "b"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := pool.Snapshot{Instances: []pool.Instance{c.second, c.first}}
			pool.SortInstances(s.Instances)
			got := s.Pick(2, func(*pool.Instance) bool { return true }, c.order)
			if want := []pool.InstanceID{c.first.ID, c.second.ID}; !slices.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

func TestValidLoad(t *testing.T) {
	t.Parallel()
	for load, want := range map[float64]bool{
		0: true, math.Copysign(0, -1): true, 0.1: true, 1: true, 7.5: true, math.MaxFloat64: true,
		-0.1: false, math.Inf(1): false, math.Inf(-1): false,
	} {
		if got := pool.ValidLoad(load); got != want {
			t.Errorf("load %v: got %v, want %v", load, got, want)
		}
	}
	if pool.ValidLoad(math.NaN()) {
		t.Error("load NaN: got true, want false")
	}
}
