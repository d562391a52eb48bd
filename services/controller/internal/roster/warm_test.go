package roster_test

import (
	"testing"
	"time"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/message"
	"cloudmaster/internal/pool"
	"cloudmaster/services/controller/internal/roster"
)

// stopped returns an instance as a cloud lists it that was stopped to be warm.
func stopped() cloud.Instance {
	in := listed("i-1", "warm")
	in.Phase = cloud.Stopped
	return in
}

// nth returns a status with a sequence.
func nth(s message.Status, seq uint64) message.Status {
	s.Sequence = seq
	return s
}

// roused returns a roster of one instance that said its last word so far, idle and the 40th, at 10, was stopped at 20,
// and is started again at 100.
func roused(t *testing.T) *roster.Roster {
	t.Helper()
	r := newRoster()
	r.Listening(t0)
	r.Observe([]cloud.Instance{listed("i-1", "active")}, at(1), at(1))
	r.Hear(nth(says("i-1", 0, 10), 40), at(10))
	if !r.Cool(pool.Ending{Instance: "i-1", Cause: pool.IdleSurplus}, r.Heard(), at(20)) {
		t.Fatal("it was not made warm")
	}
	r.Stopped(at(20), "i-1")
	r.Observe([]cloud.Instance{stopped()}, at(90), at(90))
	wantIDs(t, "startable", r.Startable(at(90)), "i-1")
	if !r.Rouse("i-1", at(100)) {
		t.Fatal("it was not started")
	}
	r.Roused("i-1")
	return r
}

// TestAFormerLifeSaysNothing: what an instance said before it was stopped arrives after it was started. It does not
// make it active, nor about to end, before or after it has reported in its new life. What the new life says counts,
// also if its clock is behind.
func TestAFormerLifeSaysNothing(t *testing.T) {
	t.Parallel()
	last := nth(leaves("i-1", 21), 41)
	last.Load = 0 // of one that says that it works nobody can be sure: it is believed that, and no more
	for name, c := range map[string]struct {
		words []message.Status
		want  []roster.Outcome
		ready bool
	}{
		"its last word, late": {[]message.Status{last}, []roster.Outcome{roster.Outdated}, false},
		"a word that was heard": {
			[]message.Status{nth(says("i-1", 0, 10), 40)}, []roster.Outcome{roster.Outdated}, false,
		},
		"a new word": {
			[]message.Status{nth(says("i-1", 0, 110), 1)}, []roster.Outcome{roster.Accepted}, true,
		},
		"a new word with a clock that is behind": {
			[]message.Status{nth(says("i-1", 0, 70), 1)}, []roster.Outcome{roster.Accepted}, true,
		},
		"the last word after a new one": {
			[]message.Status{nth(says("i-1", 0, 110), 1), last, nth(says("i-1", 0, 10), 40)},
			[]roster.Outcome{roster.Accepted, roster.Outdated, roster.Outdated},
			true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := roused(t)
			for i, s := range c.words {
				if got := r.Hear(s, at(115)); got != c.want[i] {
					t.Errorf("word %d: got it %s, want %s", i, got, c.want[i])
				}
			}
			in := only(t, r, at(115))
			if in.Interrupted || in.State != pool.Startup || in.Load != 0 {
				t.Errorf("got %+v, want it starting and not about to end", in)
			}
			if got := len(r.Ready()) == 1; got != c.ready {
				t.Errorf("got it ready: %v, want %v", got, c.ready)
			}
		})
	}
}

// TestTheLastWordOfAWarmOne: that an instance which is to stop says so means nothing.
func TestTheLastWordOfAWarmOne(t *testing.T) {
	t.Parallel()
	r := newRoster()
	r.Observe([]cloud.Instance{listed("i-1", "warm")}, at(1), at(1))
	r.Hear(leaves("i-1", 2), at(2))
	if got := r.Reserve(at(2)); len(got) != 1 || got[0].Interrupted || got[0].State != pool.Warm {
		t.Errorf("got %+v, want it warm and not interrupted", got)
	}
	if got := r.Mistagged(); len(got) != 0 {
		t.Errorf("got tags to write: %+v, want none", got)
	}
}

// TestASuccessorKnowsOfTheStart: it does not believe words of the life before either, asks for the start again until
// lists show it, and counts the boot from the start.
func TestASuccessorKnowsOfTheStart(t *testing.T) {
	t.Parallel()
	r := newRoster()
	in := listed("i-1", "startup", at(100).Format(time.RFC3339Nano))
	in.Tags[cloud.TagStarted], in.Phase = at(100).Format(time.RFC3339Nano), cloud.Stopped
	r.Observe([]cloud.Instance{in}, at(101), at(101))
	if got := only(t, r, at(101)); got.State != pool.Startup || !got.Launched.Equal(at(100)) || r.Present() != 1 {
		t.Errorf("got %+v and %d present, want it starting since the start", got, r.Present())
	}
	if got := r.Hear(nth(leaves("i-1", 99), 41), at(102)); got != roster.Outdated {
		t.Errorf("got its last word %s, want it outdated", got)
	}
	wantIDs(t, "unstarted", r.Unstarted(at(102)), "i-1")
	wantIDs(t, "unstarted at once again", r.Unstarted(at(103)))
	in.Phase = cloud.Running
	r.Observe([]cloud.Instance{in}, at(110), at(110))
	wantIDs(t, "unstarted when it runs", r.Unstarted(at(120)))
	if got := r.Hear(nth(says("i-1", 0, 115), 1), at(115)); got != roster.Accepted || len(r.Ready()) != 1 {
		t.Errorf("got its first word %s, want it accepted", got)
	}
}

// TestListsThatAreBehindAStart: they show an instance as stopped that was started, also when it has reported. When
// they must show that it runs, one that never did is warm again, and one that did has been stopped by somebody.
func TestListsThatAreBehindAStart(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		woke bool
		want pool.State
	}{"it never ran": {false, pool.Warm}, "it ran": {true, pool.Stopping}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := roused(t)
			if changes := r.Observe([]cloud.Instance{stopped()}, at(125), at(125)); len(changes.Outside) != 0 {
				t.Errorf("got %+v from outside, want nothing", changes.Outside)
			}
			if got := only(t, r, at(125)).State; got != pool.Startup || r.Present() != 1 {
				t.Errorf("got it %s and %d present, want it starting, and one", got, r.Present())
			}
			if c.woke {
				r.Observe([]cloud.Instance{listed("i-1", "startup")}, at(130), at(130))
			}
			changes := r.Observe([]cloud.Instance{stopped()}, at(161), at(161))
			all := append(r.Instances(at(161)), r.Reserve(at(161))...)
			if len(all) != 1 || all[0].State != c.want || len(changes.Outside) == 1 != c.woke {
				t.Errorf("got %+v, from outside %+v; want it %s", all, changes.Outside, c.want)
			}
			if !c.woke && r.Present() != 0 {
				t.Errorf("got %d present, want none", r.Present())
			}
			wantIDs(t, "startable at once", r.Startable(at(162)))
		})
	}
}

// TestARefusedStartRests: it is warm, and left alone for three minutes.
func TestARefusedStartRests(t *testing.T) {
	t.Parallel()
	r := roused(t)
	r.Unroused("i-1", at(100))
	wantIDs(t, "startable", r.Startable(at(279)))
	wantIDs(t, "startable after three minutes", r.Startable(at(280)), "i-1")
}

// TestUncooled: a warm one that runs is to be stopped again, but not while the list may be behind, nor while it
// works or may work, unless it is lost.
func TestUncooled(t *testing.T) {
	t.Parallel()
	lost := func(*pool.Instance) bool { return true }
	r := newRoster()
	r.Observe([]cloud.Instance{listed("i-1", "warm")}, at(1), at(1))
	wantIDs(t, "before it has reported", r.Uncooled(at(2), nobody))
	wantIDs(t, "lost", r.Uncooled(at(2), lost), "i-1")
	r.Hear(says("i-1", 0.5, 3), at(3))
	wantIDs(t, "while it works", r.Uncooled(at(4), nobody))
	wantIDs(t, "occupied", r.Occupied(at(4), nobody), "i-1")
	r.Hear(says("i-1", 0, 5), at(5))
	wantIDs(t, "idle", r.Uncooled(at(6), nobody), "i-1")
	if r.Present() != 1 {
		t.Errorf("got %d present, want it to count until it stops", r.Present())
	}
	r.Stopped(at(6), "i-1")
	wantIDs(t, "told", r.Uncooled(at(36), nobody))
	wantIDs(t, "told long ago", r.Uncooled(at(36.5), nobody), "i-1")
	if r.Present() != 0 {
		t.Errorf("got %d present, want none", r.Present())
	}
}

// TestWarmOnesAreHidden: policies see neither those that are warm nor those that boot for it; one that was
// launched to be stopped and finds work is one of the pool.
func TestWarmOnesAreHidden(t *testing.T) {
	t.Parallel()
	r := newRoster()
	r.Observe([]cloud.Instance{stopped(), listed("i-2", "warming"), listed("i-3", "warming")}, at(1), at(1))
	if got := r.Instances(at(1)); len(got) != 0 || len(r.Reserve(at(1))) != 3 || len(r.Serving()) != 0 {
		t.Errorf("got %v, want none in sight", ids(got))
	}
	r.Hear(says("i-2", 0, 2), at(2))
	r.Hear(says("i-3", 0.5, 2), at(2))
	wantIDs(t, "warmed", r.Warmed(), "i-2")
	wantIDs(t, "ready", r.Ready(), "i-3")
	if r.Cool(pool.Ending{Instance: "i-2"}, r.Heard()-2, at(3)) {
		t.Error("one that has reported since was made warm")
	}
	changes := r.Observe([]cloud.Instance{ending(stopped())}, at(100), at(100))
	if got := r.Instances(at(100)); len(changes.Outside) != 1 || len(got) != 1 || got[0].State != pool.Stopping {
		t.Errorf("got %v from outside and %+v, want the one that somebody ends", changes.Outside, got)
	}
}
