package loop_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/pool"
)

// TestWhatFallsSilentWhileItIsToEndIsEnded: its first stop failed and it took a job in the meantime, so it may finish
// that; but once it is silent it is hung, and it is told again.
func TestWhatFallsSilentWhileItIsToEndIsEnded(t *testing.T) {
	t.Parallel()
	cfg := jobPool()
	cfg.Maximum = 1
	bubble(t, cfg, func(b *bench) {
		b.tap.mayEnd = b.workers.isMute
		b.workers.hold()
		b.send(1)
		b.grow(1)
		b.tap.breakDown("cloud.terminate", cloud.ErrThrottled)
		b.takeAway(1)
		b.until("told to end", 5*time.Minute, func() bool { return b.tap.times("cloud.terminate") > 0 })
		b.say(first, 1, time.Now(), 10_000) // it has found work in the meantime
		b.workers.hang(first)               // and dies over it
		b.tap.heal()
		b.send(6)
		b.pass(time.Hour)
		b.wantStates("i-000002:active")
	})
}

// TestDrainDeadlineHoldsAfterAStopThatFailed: who still has clients by then loses them, whatever was tried before.
func TestDrainDeadlineHoldsAfterAStopThatFailed(t *testing.T) {
	t.Parallel()
	cfg := fibPool()
	cfg.ShutDownInterval = 10 * time.Minute
	bubble(t, cfg, func(b *bench) {
		b.tap.mayEnd = func(pool.InstanceID) bool { return true }
		b.send(1)
		b.grow(1)
		b.until("drains", 10*time.Minute, func() bool { return b.count(pool.ShutDown) == 1 })
		b.tap.breakDown("cloud.terminate", cloud.ErrThrottled)
		b.until("told to end", 5*time.Minute, func() bool { return b.tap.times("cloud.terminate") > 0 })
		b.workers.load(first, 0.1) // a last client, with an old address, who stays
		b.pass(time.Second)
		b.tap.heal()
		b.pass(cfg.ShutDownInterval + time.Minute)
		b.wantStates("")
	})
}

// TestFinishedDrainEndsAlsoWhenThePoolIsFull: what the policy would have back, and the maximum does not let it have,
// is stopped when its drain is over.
func TestFinishedDrainEndsAlsoWhenThePoolIsFull(t *testing.T) {
	t.Parallel()
	cfg := fibPool()
	cfg.ShutDownInterval, cfg.Maximum = 10*time.Minute, 2
	bubble(t, cfg, func(b *bench) {
		b.tap.mayEnd = func(pool.InstanceID) bool { return true }
		b.send(8)
		b.grow(2)
		b.workers.load(first, 0.9)
		b.workers.load(second, 0.9)
		b.cfg.Maximum = 1
		b.apply()
		b.until("drains", time.Minute, func() bool { return b.count(pool.ShutDown) == 1 })
		b.pass(cfg.ShutDownInterval + 2*time.Minute)
		if got := len(b.present()); got != 1 {
			t.Errorf("its drain was to take 10m: got %s", b.states())
		}
	})
}

// TestOneThatCannotBeEndedKeepsNoOtherFromIt: a cloud refuses a whole request for the sake of one protected instance.
func TestOneThatCannotBeEndedKeepsNoOtherFromIt(t *testing.T) {
	t.Parallel()
	unstarted(t, jobPool(), func(b *bench) {
		b.workers.hold()
		b.detour = &detour{terminate: func(ctx context.Context, next cloud.Cloud, ids []pool.InstanceID) error {
			if slices.Contains(ids, first) {
				return cloud.ErrDenied
			}
			return next.Terminate(ctx, ids...)
		}}
		b.startController()
		b.send(8)
		b.grow(4)
		b.takeAway(8)
		b.pass(time.Hour)
		b.wantStates("i-000001:active")
	})
}
