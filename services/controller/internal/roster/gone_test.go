package roster_test

import (
	"testing"
	"time"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/pool"
	"cloudmaster/services/controller/internal/roster"
)

func TestGone(t *testing.T) {
	t.Parallel()
	r := newRoster()
	r.Observe([]cloud.Instance{listed("i-1", "active"), listed("i-2", "active")}, at(1), at(1))
	gone := goneOf(r.Observe([]cloud.Instance{listed("i-2", "active")}, at(32), at(32)))
	wantIDs(t, "gone", gone, "i-1")
	gone = goneOf(r.Observe(nil, at(32), at(33)))
	wantIDs(t, "gone by a list seen before", gone)
	gone = goneOf(r.Observe(nil, at(31.5), at(33)))
	wantIDs(t, "gone by an older list", gone)
	gone = goneOf(r.Observe(nil, at(33), at(33)))
	wantIDs(t, "gone", gone, "i-2")
	if r.Mark("i-1", pool.Active, at(34)) || r.End(pool.Ending{Instance: "i-1", Cause: pool.IdleSurplus}, r.Heard(),
		at(34)) {
		t.Error("an instance that is gone changed its state")
	}
}

// TestExpected launches at second 10 with a list lag of 30 s.
func TestExpected(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		asked, seen float64 // when the list without the instance was asked for, and when seen
		gone        bool
	}{
		"list older than the launch":                 {9, 11, false},
		"list within the lag":                        {39, 39, false},
		"list at the deadline":                       {40, 40, true},
		"old list, looked at after the deadline":     {9, 100, false},
		"lagging list, looked at after the deadline": {20, 100, false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRoster()
			r.Observe(nil, at(1), at(1))
			r.Launched([]cloud.Instance{listed("i-1", "startup")}, at(10))
			gone := goneOf(r.Observe(nil, at(c.asked), at(c.seen)))
			if got := len(gone) == 1; got != c.gone {
				t.Errorf("gone: got %v, want %v", got, c.gone)
			}
		})
	}
}

// TestOneListThatHasItDoesNotMakeTheNextOneCurrent: it may come from another replica, which is behind.
func TestOneListThatHasItDoesNotMakeTheNextOneCurrent(t *testing.T) {
	t.Parallel()
	r := newRoster()
	r.Launched([]cloud.Instance{listed("i-1", "startup")}, at(10))
	r.Observe([]cloud.Instance{listed("i-1", "startup")}, at(11), at(11))
	wantIDs(t, "gone", goneOf(r.Observe(nil, at(12), at(12))))
	wantIDs(t, "gone", goneOf(r.Observe(nil, at(40), at(40))), "i-1")
}

// TestWhatTheNewestListLacksServesOnlyIfItSpeaks: a controller before this one may have ended it, unless this one has
// launched it.
func TestWhatTheNewestListLacksServesOnlyIfItSpeaks(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ours   bool
		says   float64 // when it says something; 0: never
		serves bool
	}{
		"silent":              {false, 0, false},
		"it spoke before":     {false, 3, false},
		"it has spoken since": {false, 12, true},
		"we have launched it": {true, 3, true},
	} {
		r := newRoster()
		all := []cloud.Instance{listed("i-1", "active")}
		if c.ours {
			r.Launched(all, at(1))
		}
		r.Observe(all, at(2), at(2))
		r.Observe(nil, at(10), at(11))
		if c.says > 0 {
			r.Hear(says("i-1", 0, c.says), at(13))
		}
		if got := len(r.Serving()) == 1; got != c.serves || len(r.Instances(at(14))) != 1 {
			t.Errorf("%s: got serving %v and %v, want %v and the one", name, got, r.Instances(at(14)), c.serves)
		}
	}
}

// TestWhatWasToEndStaysSoWhateverAListShows: also when a list that lacked it came in between.
func TestWhatWasToEndStaysSoWhateverAListShows(t *testing.T) {
	t.Parallel()
	r := newRoster()
	all := []cloud.Instance{listed("i-1", "active")}
	r.Observe(all, at(40), at(40))
	r.End(pool.Ending{Instance: "i-1", Cause: pool.Hung}, r.Heard(), at(41))
	r.Ended(at(41), "i-1")
	wantIDs(t, "gone", goneOf(r.Observe(nil, at(42), at(42))), "i-1")
	r.Observe(all, at(43), at(43))
	if got := only(t, r, at(43)).State; got != pool.Stopping || len(r.Serving()) > 0 || r.Present() > 0 {
		t.Errorf("got it %s, serving %v, %d present, want it on its way out", got, r.Serving(), r.Present())
	}
	if got := r.Untold(at(45), nobody); len(got) > 0 {
		t.Errorf("got %v to be told again at once, want none before lists must show it", got)
	}
}

// goneOf returns the instances that are gone by a list.
func goneOf(c roster.Changes) []pool.InstanceID { return pool.IDs(c.Gone) }

// TestWhatIsListedAsTerminatedIsGone at once, also if lists may be late: the list has it, and says that it has ended.
func TestWhatIsListedAsTerminatedIsGone(t *testing.T) {
	t.Parallel()
	r := roster.New("mem", roster.Options{ListLag: time.Hour})
	young, other := listed("i-1"), listed("i-2")
	young.Launched = at(1)
	other.Phase = cloud.Terminated // it had ended before this controller began
	wantIDs(t, "adopted", r.Observe([]cloud.Instance{young, other}, at(2), at(2)).Adopted, "i-1")
	young.Phase = cloud.Terminated
	wantIDs(t, "gone", goneOf(r.Observe([]cloud.Instance{young, other}, at(3), at(3))), "i-1")
	wantIDs(t, "gone again", goneOf(r.Observe([]cloud.Instance{young, other}, at(4), at(4))))
	if left := r.Instances(at(5)); len(left) != 0 {
		t.Errorf("got %v left, want none", left)
	}
}

// TestWhatComesBackFromTheListIsToldAsGoneOnce, however often late lists show what was told to end.
func TestWhatComesBackFromTheListIsToldAsGoneOnce(t *testing.T) {
	t.Parallel()
	r := newRoster()
	in := listed("i-1", "active")
	r.Observe([]cloud.Instance{in}, at(1), at(1))
	r.End(pool.Ending{Instance: "i-1", Cause: pool.IdleSurplus}, r.Heard(), at(2))
	wantIDs(t, "gone", goneOf(r.Observe(nil, at(40), at(40))), "i-1")
	wantIDs(t, "back", goneOf(r.Observe([]cloud.Instance{in}, at(41), at(41))))
	wantIDs(t, "gone again", goneOf(r.Observe(nil, at(42), at(42))))
}
