package loop_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/pool"
)

// TestOwnClockBehindIsSaidAndEndsNobody: who reports in time is alive, whatever its clock shows, and people are told
// that the clocks differ.
func TestOwnClockBehindIsSaidAndEndsNobody(t *testing.T) {
	t.Parallel()
	bubble(t, fixedPool(2, 2), func(b *bench) {
		b.workers.setStuck(true) // they speak by hand
		for seq := range uint64(2 * 60 * 2) {
			for _, in := range b.present() {
				b.say(in.ID, 0, time.Now().Add(90*time.Second), seq+1)
			}
			b.pass(30 * time.Second)
		}
		b.wantLaunched(2)
		if !b.warned("clock") {
			t.Error("got no warning about clocks")
		}
	})
}

// warned reports whether there is a line about something at level warn or above.
func (b *bench) warned(about string) bool {
	for line := range strings.Lines(b.log.tail(1 << 30)) {
		serious := strings.Contains(line, "level=WARN") || strings.Contains(line, "level=ERROR")
		if serious && strings.Contains(line, about) {
			return true
		}
	}
	return false
}

// TestClockOfTheBrokerBehindMakesNobodyDeaf: what is sent now was not waiting, whatever time the broker gives it.
func TestClockOfTheBrokerBehindMakesNobodyDeaf(t *testing.T) {
	t.Parallel()
	cfg := fixedPool(2, 2)
	cfg.StatusInterval = 500 * time.Millisecond
	unstarted(t, cfg, func(b *bench) {
		b.sentEarly = time.Hour
		b.startController()
		b.grow(2)
		b.pass(time.Minute)
		b.workers.hang(first)
		b.pass(cfg.WatchdogInterval + 2*time.Minute)
		b.wantStates("i-000002:active i-000003:active")
	})
}

// launchedLater has a cloud whose clock is ahead.
func launchedLater(by time.Duration) *detour {
	later := func(all []cloud.Instance) []cloud.Instance {
		all = slices.Clone(all)
		for i := range all {
			all[i].Launched = all[i].Launched.Add(by)
		}
		return all
	}
	return &detour{
		list: later,
		launch: func(ctx context.Context, next cloud.Cloud, spec cloud.Spec) ([]cloud.Instance, error) {
			out, err := next.Launch(ctx, spec)
			return later(out), err
		},
	}
}

// TestClockOfTheCloudAheadHidesNoHungOne: what we know already was not launched in our future.
func TestClockOfTheCloudAheadHidesNoHungOne(t *testing.T) {
	t.Parallel()
	unstarted(t, fixedPool(1, 1), func(b *bench) {
		b.detour = launchedLater(3 * time.Hour)
		b.startController()
		b.grow(1)
		b.workers.hang(first)
		b.pass(b.cfg.WatchdogInterval + 2*time.Minute)
		b.wantStates("i-000002:active")
	})
}

// TestClockOfTheCloudAheadUsesUpNoStartLimit: a launch from our future is one of now.
func TestClockOfTheCloudAheadUsesUpNoStartLimit(t *testing.T) {
	t.Parallel()
	cfg := jobPool()
	cfg.StartLimit = 1
	unstarted(t, cfg, func(b *bench) {
		b.workers.hold()
		b.detour = launchedLater(2 * time.Hour)
		b.startController()
		b.send(8)
		b.grow(1)
		b.restartController()
		b.pass(5 * time.Minute)
		b.wantLaunched(4)
	})
}

// TestBusyOneWhoseClockWasPutRightIsNotStopped: its newest word is the one that it said last, not the one with the
// latest time.
func TestBusyOneWhoseClockWasPutRightIsNotStopped(t *testing.T) {
	t.Parallel()
	bubble(t, jobPool(), func(b *bench) {
		b.workers.setStuck(true) // it speaks by hand
		b.send(2)
		b.pass(2 * time.Second)
		b.tap.breakDown("cloud.terminate", cloud.ErrThrottled)
		b.say(first, 1, time.Now().Add(49*time.Second), 1)
		b.pass(time.Second)
		b.say(first, 0, time.Now().Add(50*time.Second), 2)
		b.say(first, 1, time.Now(), 3) // its clock was put right, and it has taken a job
		b.tap.heal()
		b.takeAway(2)
		for seq := range uint64(20) {
			b.pass(2 * time.Second)
			b.say(first, 1, time.Now(), 4+seq)
		}
		b.wantStates("i-000001:active")
	})
}

// TestDrainGoesByWhatWasSaidSince: a clock that is ahead makes nothing that was said before the drain newer than it.
func TestDrainGoesByWhatWasSaidSince(t *testing.T) {
	t.Parallel()
	bubble(t, fibPool(), func(b *bench) {
		b.workers.setStuck(true) // it speaks by hand
		b.send(1)
		b.pass(time.Second)
		for seq := uint64(1); b.count(pool.ShutDown) == 0; seq++ {
			b.say(first, 0, time.Now().Add(30*time.Second), seq)
			b.pass(5 * time.Second)
		}
		b.pass(15 * time.Second) // without a word
		b.wantStates("i-000001:shut_down")
	})
}
