package loop_test

import (
	"slices"
	"testing"
	"time"

	"cloudmaster/internal/cloud/memcloud"
	"cloudmaster/internal/message"
	"cloudmaster/internal/pool"
	"cloudmaster/services/controller/internal/record"
)

// TestPausesBetweenTagsBeginAnew when tags could be written in between.
func TestPausesBetweenTagsBeginAnew(t *testing.T) {
	steered(t, 0, roomy(), func(t *testing.T, h *byHand) {
		begins := func() { // one begins, and its tags cannot be written
			h.decide = func(*pool.Snapshot) pool.Decision { return pool.Decision{Launch: 1} }
			h.step()
			h.decide = nil
			time.Sleep(time.Minute)
			h.account.FailAfter(memcloud.OpTag, 0, errAway)
			h.say(message.Idle, h.ids()...)
			h.step()
		}
		begins()
		for range 6 {
			time.Sleep(20 * time.Second)
			h.step()
		}
		h.account.Heal()
		time.Sleep(20 * time.Second)
		h.step()
		begins()
		before := h.account.Count(memcloud.OpTag)
		time.Sleep(200 * time.Millisecond)
		if h.step(); h.account.Count(memcloud.OpTag) != before+1 {
			t.Errorf("got %d attempts, then %d, want another one soon, as after the first failure", before,
				h.account.Count(memcloud.OpTag))
		}
	})
}

// TestOnesThatDieUnheardMakeLaunchesPause, because what kills them is likely to kill the next.
func TestOnesThatDieUnheardMakeLaunchesPause(t *testing.T) {
	steered(t, 0, roomy(), func(t *testing.T, h *byHand) {
		h.decide = func(s *pool.Snapshot) pool.Decision { return pool.Decision{Launch: 1 - len(s.Instances)} }
		for range 600 {
			h.step()
			h.account.Vanish(h.ids()...)
			time.Sleep(time.Second)
		}
		if got := h.account.Count(memcloud.OpLaunch); got < 3 || got > 30 {
			t.Errorf("got %d launches in ten minutes, want a few, with pauses", got)
		}
	})
}

// TestASummaryIsDueAlsoAfterAChangeThatWasTakenBack before it was told.
func TestASummaryIsDueAlsoAfterAChangeThatWasTakenBack(t *testing.T) {
	steered(t, 0, roomy(), func(t *testing.T, h *byHand) {
		h.opts.ReportInterval, h.opts.PollInterval = 30*time.Second, time.Millisecond
		h.Change(h.opts)
		time.Sleep(time.Minute)
		told := time.Now()
		if r := h.step(); !r.Tell {
			t.Fatal("got nothing told after a minute")
		}
		time.Sleep(100 * time.Millisecond)
		if err := h.work.Send(t.Context(), []byte("1")); err != nil {
			t.Fatal(err)
		}
		if r := h.step(); r.Tell || r.Next.After(told.Add(time.Second)) {
			t.Errorf("got told %v and the next pass after %s, want it told after a second", r.Tell, r.Next.Sub(told))
		}
		got, err := h.work.Receive(t.Context(), 1, 0)
		if err != nil || len(got) != 1 || h.work.Delete(t.Context(), got[0].Receipt) != nil {
			t.Fatalf("got %v and error %v, want the message taken away", got, err)
		}
		time.Sleep(100 * time.Millisecond)
		h.step()
		time.Sleep(2 * time.Second)
		h.opts.PollInterval = time.Hour // so that nothing else is due
		h.Change(h.opts)
		r := h.step()
		if r.Tell {
			t.Error("got told what is as it was")
		}
		if r.Next.After(told.Add(30 * time.Second)) {
			t.Errorf("got the next pass after %s, want it when the summary is due", r.Next.Sub(told))
		}
	})
}

// endOne has the decision end these instances, of which the last one finds work after that was decided, so that it is
// spared. Nothing of that may count towards the stop limit: another instance is ended in the next pass.
func endOne(h *byHand, other pool.InstanceID, ids ...pool.InstanceID) {
	h.t.Helper()
	before, spared := len(h.ids()), ids[len(ids)-1]
	h.opts.PollInterval = time.Millisecond // so that no decision is made anew because its reading is old
	h.Change(h.opts)
	h.decide = func(*pool.Snapshot) pool.Decision {
		h.say(message.Busy, spared)
		return pool.Decision{Stop: surplus(ids...)}
	}
	if r := h.step(); !slices.ContainsFunc(r.Endings, func(e record.Ending) bool { return e.Spared }) {
		h.t.Errorf("got %+v, want %s spared", r.Endings, spared)
	}
	h.wantCount("with one spared", before-1)
	h.decide = func(*pool.Snapshot) pool.Decision { return pool.Decision{Stop: surplus(other)} }
	h.step()
	h.wantCount("when another one may end", before-2)
}

// TestAHungOneTakesNothingFromTheStopLimit, also if what the limit was meant for is spared.
func TestAHungOneTakesNothingFromTheStopLimit(t *testing.T) {
	limits := roomy()
	limits.StopLimit = 1
	steered(t, 4, limits, func(_ *testing.T, h *byHand) {
		all := h.ids()
		time.Sleep(11 * time.Minute)
		h.say(message.Idle, all[1:]...) // the first one is hung
		endOne(h, all[2], all[1])
	})
}

// TestAFinishedDrainTakesNothingFromTheStopLimit, because it was counted when it began.
func TestAFinishedDrainTakesNothingFromTheStopLimit(t *testing.T) {
	limits := roomy()
	limits.StopLimit = 1
	steered(t, 4, limits, func(_ *testing.T, h *byHand) {
		all := h.ids()
		h.decide = func(*pool.Snapshot) pool.Decision { return pool.Decision{ShutDown: surplus(all[0])} }
		h.step()
		time.Sleep(2 * time.Minute)
		h.say(message.Idle, all...)
		endOne(h, all[2], all[0], all[1])
	})
}
