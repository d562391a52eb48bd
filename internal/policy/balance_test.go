package policy_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"cloudmaster/internal/policy"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/pool/pooltest"
)

// placed is a fleet whose instances are in places, one letter for each.
func placed(t *testing.T, fleet, places string) pool.Snapshot {
	t.Helper()
	s := pool.Snapshot{Now: pooltest.Now, Instances: pooltest.Fleet(t, fleet)}
	for i := range s.Instances {
		s.Instances[i].Place = places[i : i+1]
	}
	return s
}

func TestLevel(t *testing.T) {
	t.Parallel()
	both := []string{"a", "b"}
	for name, c := range map[string]struct {
		fleet, places string
		open          []string
		balance       policy.Balance
		want          string
		unlevel       bool
	}{
		"level":                 {fleet: "idle idle", places: "ab", open: both, want: "[]"},
		"one more is level":     {fleet: "idle idle idle", places: "aab", open: both, want: "[]"},
		"two more are not":      {fleet: "idle idle", places: "aa", open: both, want: "[i-1]"},
		"four more":             {fleet: "idle idle idle idle", places: "aaaa", open: both, want: "[i-1 i-2]"},
		"busy ones last":        {fleet: "busy 0.5 idle", places: "aaa", open: both, want: "[i-3]"},
		"the other is closed":   {fleet: "idle idle", places: "aa", open: []string{"a"}, want: "[]"},
		"none is open":          {fleet: "idle idle", places: "aa", open: []string{}, want: "[]"},
		"it need not be level":  {fleet: "idle idle", places: "aa", want: "[]"},
		"something is outdated": {fleet: "idle idle idle/old", places: "aaa", open: both, want: "[i-3]"},
		"successors do not count": {
			fleet: "idle idle idle/surge", places: "aab", open: both, want: "[i-1]",
		},
		"the move that has begun goes on": {
			fleet: "idle idle idle/surge", places: "aab", open: []string{"a"}, balance: policy.Balance{Open: both},
			want: "[i-1]",
		},
		"the last move did not help": {
			fleet: "idle idle", places: "aa", open: both, want: "[i-1]", unlevel: true,
			balance: policy.Balance{Gap: 2, Last: pooltest.Now.Add(-time.Minute), Pause: 10 * time.Minute},
		},
		"the last move has helped": {
			fleet: "idle idle", places: "aa", open: both, want: "[i-1]",
			balance: policy.Balance{Gap: 4, Last: pooltest.Now.Add(-time.Minute), Pause: 10 * time.Minute},
		},
	} {
		s := placed(t, c.fleet, c.places)
		c.balance.Level(&s, c.open)
		got := []pool.InstanceID{}
		for i := range s.Instances {
			if s.Instances[i].Drift != "" {
				got = append(got, s.Instances[i].ID)
			}
		}
		if fmt.Sprint(got) != c.want || s.Unlevel != c.unlevel {
			t.Errorf("%s: got %v, waits %v, want %s, waits %v", name, got, s.Unlevel, c.want, c.unlevel)
		}
	}
}

// TestBusyOnesAreNotMoved, nor is a successor launched for them.
func TestBusyOnesAreNotMoved(t *testing.T) {
	t.Parallel()
	for _, drain := range []bool{false, true} {
		j := policy.Judge{
			Policy: policy.Fixed{}, Limits: pool.Limits{Minimum: 2, Maximum: 9, Drain: drain}, Rollout: oneByOne,
		}
		for _, fleet := range []string{"0.5 0.5", "0.5 0.5 idle/surge"} {
			s := placed(t, fleet, "aab")
			s.Limits = j.Limits
			policy.Balance{}.Level(&s, []string{"a", "b"})
			if d, _ := j.Decide(&s, pool.Budget{Starts: 9, Stops: 9}); !d.Empty() {
				t.Errorf("%s, drain %v: got %s, want nothing", fleet, drain, &d)
			}
		}
	}
}

// flap is a pool over two places, of which b comes and goes every minute.
type flap struct {
	snapshot pool.Snapshot
	balance  policy.Balance
	judge    policy.Judge
	deadly   bool // what runs in b dies with it
	lies     bool // b seems open all the time, and nothing can be launched there
	next     int
	moves    int
	up       bool
}

// step is one pass, ten seconds after the last one.
func (f *flap) step(n int) {
	s := &f.snapshot
	s.Now = s.Now.Add(10 * time.Second)
	f.up = n/6%2 == 0 || f.lies
	s.Instances = slices.DeleteFunc(s.Instances, func(in pool.Instance) bool {
		return in.State == pool.Stopping || f.deadly && !f.up && in.Place == "b"
	})
	for i := range s.Instances {
		in := &s.Instances[i]
		in.Drift = ""
		if in.State == pool.Startup && s.Now.Sub(in.Launched) >= 20*time.Second {
			in.State, in.ActiveAt, in.ReportedAt, in.IdleSince = pool.Active, s.Now, s.Now, s.Now
		}
	}
	open := []string{"a"}
	if f.up {
		open = append(open, "b")
	}
	s.Unlevel, s.Limits = false, f.judge.Limits
	gap := f.balance.Level(s, open)
	d, v := f.judge.Decide(s, pool.Budget{Starts: 1, Stops: 1})
	s.Trial = v.Trial
	f.carryOut(&d)
	if d.Surge {
		f.moves++
		f.balance = f.balance.Moved(s.Now, gap, open)
	}
}

func (f *flap) carryOut(d *pool.Decision) {
	s := &f.snapshot
	for _, e := range d.Stop {
		s.Find(e.Instance).State = pool.Stopping
		if in := s.Find(e.Successor); in != nil {
			in.Surge = false
		}
	}
	for _, id := range d.Succeed {
		s.Find(id).Surge = false
	}
	for range d.Launch {
		f.next++
		place := "a"
		if f.up && d.Surge && !f.lies {
			place = "b"
		}
		s.Instances = append(s.Instances, pool.Instance{
			ID: pool.InstanceID(fmt.Sprintf("i-%05d", f.next)), State: pool.Startup, Launched: s.Now, StateSince: s.Now,
			HeardAt: s.Now, Surge: d.Surge, Place: place, Current: true,
		})
	}
}

// TestPlaceThatComesAndGoes every minute for a day moves few instances.
func TestPlaceThatComesAndGoes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		deadly, lies bool
		most         int
	}{{false, false, 3}, {true, false, 20}, {false, true, 10}} {
		f := flap{
			snapshot: pool.Snapshot{Now: pooltest.Now, Version: "v"}, deadly: c.deadly, lies: c.lies,
			judge: policy.Judge{
				Policy: policy.Fixed{}, Limits: pool.Limits{Minimum: 6, Maximum: 8}, Rollout: oneByOne,
			},
		}
		for n := range 24 * 60 * 6 {
			f.step(n)
			if got := f.snapshot.Counted(); got > 7 || n > 60 && got < 3 {
				t.Fatalf("step %d: got %d instances", n, got)
			}
		}
		t.Logf("%+v: %d moves, %d launches in a day", c, f.moves, f.next)
		if f.moves == 0 || f.moves > c.most {
			t.Errorf("%+v: got %d moves in a day", c, f.moves)
		}
	}
}
