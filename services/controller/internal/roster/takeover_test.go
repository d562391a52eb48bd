package roster_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cloudmaster/internal/activeset"
	"cloudmaster/internal/cloud"
	"cloudmaster/internal/pool"
	"cloudmaster/services/controller/internal/roster"
)

func TestTakeOver(t *testing.T) {
	t.Parallel()
	since := "2026-11-22T10:05:00.25Z"
	sinceTime := at(300.25)
	now := at(600)
	cases := map[string]struct {
		in     cloud.Instance
		state  pool.State
		since  time.Time
		active time.Time
		retag  bool
	}{
		"active":         {listed("i-1", "active", since), pool.Active, sinceTime, sinceTime, false},
		"shut_down":      {listed("i-1", "shut_down", since), pool.ShutDown, sinceTime, time.Time{}, false},
		"startup":        {listed("i-1", "startup", since), pool.Startup, sinceTime, time.Time{}, false},
		"no since":       {listed("i-1", "active"), pool.Active, t0, t0, false},
		"since is noise": {listed("i-1", "shut_down", "noon"), pool.ShutDown, t0, time.Time{}, false},
		"no tags":        {listed("i-1"), pool.Startup, t0, time.Time{}, true},
		"unknown state":  {listed("i-1", "asleep", since), pool.Startup, sinceTime, time.Time{}, true},
		"stopping, a tag that we never write": {
			listed("i-1", "stopping", since), pool.Startup, sinceTime, time.Time{}, true,
		},
		"ending": {ending(listed("i-1", "active", since)), pool.Stopping, now, sinceTime, false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRoster()
			r.Listening(now)
			changes := r.Observe([]cloud.Instance{c.in}, now, now)
			wantIDs(t, "adopted", changes.Adopted, "i-1")
			wantIDs(t, "gone", pool.IDs(changes.Gone))
			want := pool.Instance{
				ID: "i-1", Cloud: "mem", Address: "i-1.example:20808", State: c.state, StateSince: c.since,
				Launched: t0, ActiveAt: c.active, HeardAt: now,
			}
			if diff := cmp.Diff(want, only(t, r, now)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if got := len(r.Mistagged()) == 1; got != c.retag {
				t.Errorf("mistagged: got %v, want %v", got, c.retag)
			}
		})
	}
}

func TestAdoptedIsWhatTheFirstListHas(t *testing.T) {
	t.Parallel()
	r := newRoster()
	adopted := r.Observe([]cloud.Instance{listed("i-2"), listed("i-1")}, at(1), at(1)).Adopted
	wantIDs(t, "first list", adopted, "i-1", "i-2")
	adopted = r.Observe([]cloud.Instance{listed("i-2"), listed("i-1"), listed("i-3")}, at(2), at(2)).Adopted
	wantIDs(t, "second list", adopted)
	wantIDs(t, "instances", ids(r.Instances(at(2))), "i-1", "i-2", "i-3")
}

func TestSeed(t *testing.T) {
	t.Parallel()
	now := at(100)
	seed := func(in activeset.Instance) activeset.Set {
		return activeset.Set{
			Pool: "fib", Instances: []activeset.Instance{{ID: "i-0", Address: "x:1", ReportedAt: now}, in},
		}
	}
	good := activeset.Instance{ID: "i-1", Address: "10.0.0.1:81", Load: 0.3, ReportedAt: at(50)}
	take := func(r *roster.Roster) { r.Observe([]cloud.Instance{listed("i-1", "active")}, at(60), at(60)) }
	t.Run("fills in", func(t *testing.T) {
		t.Parallel()
		r := newRoster()
		take(r)
		r.Seed(seed(good), now)
		if got := r.Serving(); len(got) != 1 || got[0] != good {
			t.Errorf("got %+v, want it published as before: %+v", got, good)
		}
		if in := only(t, r, now); !in.ReportedAt.IsZero() || in.Idle() {
			t.Errorf("got %+v, want a load that policies do not know: it may have taken work since", in)
		}
		if got := r.Hear(says("i-1", 0, 50), now); got != roster.Outdated {
			t.Errorf("the status that the set is from: got %s, want outdated", got)
		}
		r.Hear(says("i-1", 0, 51), now)
		if in := only(t, r, now); !in.Idle() || in.IdleSince != at(51) {
			t.Errorf("by its own word: got idle %v since %s, want since %s", in.Idle(), in.IdleSince, at(51))
		}
	})
	t.Run("does not override what it said itself", func(t *testing.T) {
		t.Parallel()
		r := newRoster()
		take(r)
		r.Hear(says("i-1", 0.5, 40), now)
		r.Seed(seed(good), now)
		if in := only(t, r, now); in.Load != 0.5 || in.Address != "i-1.example:20808" {
			t.Errorf("got load %v at %s", in.Load, in.Address)
		}
	})
	for name, reported := range map[string]time.Time{"never reported": {}, "from the future": now.Add(time.Hour)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRoster()
			take(r)
			set := good
			set.ReportedAt = reported
			r.Seed(seed(set), now)
			if got := r.Serving(); len(got) != 1 || !got[0].ReportedAt.IsZero() ||
				got[0].Address != "i-1.example:20808" {
				t.Errorf("got %+v", got)
			}
		})
	}
}
