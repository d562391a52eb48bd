package roster_test

import (
	"maps"
	"testing"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/message"
	"cloudmaster/internal/pool"
	"cloudmaster/services/controller/internal/roster"
)

// leaves returns a status with a load of 0.5 that says that the instance is about to end.
func leaves(id pool.InstanceID, seconds float64) message.Status {
	s := says(id, 0.5, seconds)
	s.State = message.Draining
	return s
}

func membersOf(r *roster.Roster) (out []pool.InstanceID) {
	for _, m := range r.Serving() {
		out = append(out, m.ID)
	}
	return out
}

// TestInterrupted checks that an instance that says that it is about to end is served no clients from then on and is
// not taken back, and that it can be when its program was started anew and says that it serves.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	r := newRoster()
	r.Observe([]cloud.Instance{listed("i-1", "active"), listed("i-2", "active")}, at(1), at(1))
	r.Hear(says("i-1", 0.5, 2), at(2))
	r.Hear(leaves("i-1", 3), at(3))
	if in := r.Instances(at(3))[0]; !in.Interrupted || in.State != pool.Active || in.Load != 0.5 {
		t.Errorf("got %+v, want it active, interrupted and with its load", in)
	}
	wantIDs(t, "serving", membersOf(r), "i-2")
	r.Hear(says("i-1", 0.5, 2.5), at(4)) // late
	wantIDs(t, "serving after a late status", membersOf(r), "i-2")
	if !r.Mark("i-1", pool.ShutDown, at(5)) {
		t.Error("got no shut-down")
	}
	if r.Mark("i-1", pool.Active, at(6)) {
		t.Error("it was made active again")
	}
	r.Hear(says("i-1", 0, 7), at(7))
	if !r.Mark("i-1", pool.Active, at(8)) {
		t.Error("it serves again, and was not made active")
	}
	wantIDs(t, "serving in the end", membersOf(r), "i-1", "i-2")
}

// TestAWordOfUncertainAgeInterruptsNothing: a program that ended may have sent it, whose successor was heard before.
func TestAWordOfUncertainAgeInterruptsNothing(t *testing.T) {
	t.Parallel()
	r := newRoster()
	r.Observe([]cloud.Instance{listed("i-1", "active")}, at(1), at(1))
	last := leaves("i-1", 2)
	last.Sequence = 100
	r.Hear(says("i-1", 0.1, 3), at(3)) // of the successor, whose sequence begins anew
	if got := r.Hear(last, at(4)); got != roster.Accepted {
		t.Errorf("got %s, want it believed that the instance is at work", got)
	}
	wantIDs(t, "serving", membersOf(r), "i-1")
}

// TestCauseOfAnAnnouncedEnd: whoever ended it, it has said so before.
func TestCauseOfAnAnnouncedEnd(t *testing.T) {
	t.Parallel()
	r := newRoster()
	list := []cloud.Instance{listed("i-1", "active"), listed("i-2", "active"), listed("i-3", "active")}
	r.Observe(list, at(1), at(1))
	r.Hear(leaves("i-1", 2), at(2))
	r.Hear(leaves("i-2", 2), at(2))
	r.Hear(says("i-3", 0.5, 2), at(2))
	c := r.Observe([]cloud.Instance{ending(list[1])}, at(60), at(60))
	want := pool.Ending{Instance: "i-2", Cause: pool.Interrupted, Load: 0.5}
	if len(c.Outside) != 1 || c.Outside[0] != want {
		t.Errorf("ending: got %+v, want %+v", c.Outside, want)
	}
	if len(c.Gone) != 2 || c.Gone[0].Cause != pool.Interrupted || c.Gone[1].Cause != pool.Outside {
		t.Errorf("gone: got %+v, want one interrupted and one ended from outside", c.Gone)
	}
	if !r.End(pool.Ending{Instance: "i-2", Cause: pool.Drained}, r.Heard(), at(61)) {
		c = r.Observe(nil, at(120), at(120))
		if len(c.Gone) != 1 || c.Gone[0].Cause != pool.Interrupted {
			t.Errorf("got %+v, want the cause kept", c.Gone)
		}
	}
}

// TestTagsOfTheInterruptedAreNotThoseOfOthers that are in the same state since the same time.
func TestTagsOfTheInterruptedAreNotThoseOfOthers(t *testing.T) {
	t.Parallel()
	r := newRoster()
	r.Observe([]cloud.Instance{listed("i-1"), listed("i-2")}, at(1), at(1))
	r.Hear(leaves("i-2", 2), at(2))
	wrong := r.Mistagged()
	if len(wrong) != 2 || wrong[0].Interrupted != roster.Unsaid || wrong[1].Interrupted != roster.Interrupted {
		t.Fatalf("got %+v, want each by itself", wrong)
	}
}

// TestTagsOfTheInterrupted: a controller that takes over knows from the tags alone, until it hears something else.
func TestTagsOfTheInterrupted(t *testing.T) {
	t.Parallel()
	r := newRoster()
	list := []cloud.Instance{listed("i-1", "active"), listed("i-2", "active")}
	r.Observe(list, at(1), at(1))
	r.Hear(leaves("i-1", 2), at(2))
	wrong := r.Mistagged()
	if len(wrong) != 1 || wrong[0].Interrupted != roster.Interrupted {
		t.Fatalf("got %+v, want the one that is about to end", wrong)
	}
	wantIDs(t, "mistagged", wrong[0].IDs, "i-1")
	maps.Copy(list[0].Tags, wrong[0].Tags())
	r.Tagged(wrong[0])
	if wrong = r.Mistagged(); len(wrong) != 0 {
		t.Errorf("got %+v, want nothing left to tag", wrong)
	}

	next := newRoster()
	next.Observe(list, at(10), at(10))
	wantIDs(t, "serving of the next one", membersOf(next), "i-2")
	if in := next.Instances(at(10))[0]; !in.Interrupted {
		t.Errorf("got %+v, want it interrupted", in)
	}
	next.Hear(says("i-1", 0, 11), at(11))
	wantIDs(t, "serving when it serves again", membersOf(next), "i-1", "i-2")
	wrong = next.Mistagged()
	if len(wrong) != 1 || wrong[0].Interrupted != roster.NotInterrupted {
		t.Fatalf("got %+v, want the tag taken back", wrong)
	}
	maps.Copy(list[0].Tags, wrong[0].Tags())
	next.Tagged(wrong[0])
	last := newRoster()
	last.Observe(list, at(20), at(20))
	wantIDs(t, "serving of the last one", membersOf(last), "i-1", "i-2")
	if wrong = last.Mistagged(); len(wrong) != 0 {
		t.Errorf("got %+v, want nothing to tag", wrong)
	}
}
