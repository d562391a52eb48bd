package loop_test

import (
	"testing"
	"time"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/cloud/memcloud"
	"cloudmaster/internal/pool"
)

// ahead is a rollout that ends one instance before its successor is there.
func ahead() pool.Rollout { return pool.Rollout{MaxUnavailable: 1} }

// crowded is a pool at its maximum whose outdated instances are ended before their successors are there.
func crowded() poolConfig {
	cfg := rolling(2, 2)
	cfg.Rollout = ahead()
	return cfg
}

// threeServe waits until three servers have that load each. From then on one is enough for the minimum.
func (b *bench) threeServe(load float64) {
	b.t.Helper()
	b.grow(3)
	for _, in := range b.present() {
		b.workers.load(in.ID, load)
	}
	b.pass(time.Minute)
	b.cfg.Minimum = 1
	b.apply()
	b.pass(3 * time.Minute)
	b.wantStates("i-000001:active i-000002:active i-000003:active")
}

// TestOneDrainsAtATime: while there is no room for the successor of an instance that drains, no other is drained.
func TestOneDrainsAtATime(t *testing.T) {
	t.Parallel()
	cfg := rollingDrain()
	cfg.Minimum, cfg.Maximum, cfg.Rollout, cfg.MinimumActiveTime = 3, 3, ahead(), 0
	cfg.LowerLoad, cfg.ShutDownInterval = 0.01, 3*time.Hour
	bubble(t, cfg, func(b *bench) {
		b.threeServe(0.5)
		b.configure("two")
		least := 9
		for i := range 20 * 60 { // clients stay for longer than this
			if i == 10*60 {
				b.restartController()
			}
			b.pass(time.Second)
			least = min(least, b.count(pool.Active))
		}
		if least != 2 {
			t.Errorf("got %d active at times, want 2; now %s", least, b.states())
		}
	}, bootsIn(20*time.Second))
}

// TestNoRoomInTheCloudEndsOneInstance: while successors cannot be launched, no second instance is ended ahead of its
// own, also if the policy could do with fewer. When there is room again, the rollout goes on.
func TestNoRoomInTheCloudEndsOneInstance(t *testing.T) {
	t.Parallel()
	cfg := rollingDrain()
	cfg.Minimum, cfg.Maximum, cfg.Rollout, cfg.MinimumActiveTime = 3, 4, ahead(), 0
	cfg.LowerLoad, cfg.ShutDownInterval = 0.01, 3*time.Hour
	bubble(t, cfg, func(b *bench) {
		b.threeServe(0.2)
		b.tap.breakDown("cloud.launch", cloud.ErrCapacity)
		b.configure("two")
		b.pass(time.Hour)
		if got := b.count(pool.Active); got != 2 {
			t.Errorf("got %d active, want 2; now %s", got, b.states())
		}
		b.tap.heal()
		b.pass(2 * time.Minute)
		if got := b.count(pool.Active); got < 2 {
			t.Errorf("got %d active, want 2 at least; now %s", got, b.states())
		}
	}, bootsIn(20*time.Second))
}

// TestASuccessorOfNobodyEndsWhileTheRolloutIsPaused: a successor that is outdated itself is one of the instances that
// the policy sees when nothing is left for it to replace.
func TestASuccessorOfNobodyEndsWhileTheRolloutIsPaused(t *testing.T) {
	t.Parallel()
	cfg := jobPool()
	cfg.Version, cfg.Rollout, cfg.WatchdogInterval = "one", pool.Rollout{MaxSurge: 1}, 3*time.Minute
	bubble(t, cfg, func(b *bench) {
		b.workers.jobTime = 3 * time.Minute
		b.send(2)
		b.grow(1)
		b.pass(5 * time.Second)
		b.configure("two")
		b.until("a successor starts", time.Minute, func() bool { return len(b.present()) == 2 })
		b.cfg.Rollout.Paused = true
		b.configure("three")
		b.pass(time.Hour)
		b.wantStates("")
	}, bootsIn(20*time.Second))
}

// TestRolloutBesideAWarmPool: while all outdated servers are busy, one successor waits and no more, although some
// instances are warm, and nothing is started or launched again and again.
func TestRolloutBesideAWarmPool(t *testing.T) {
	t.Parallel()
	cfg := rolling(2, 6)
	cfg.Warm = 2
	bubble(t, cfg, func(b *bench) {
		b.grow(2)
		b.workers.load(first, 0.5)
		b.workers.load(second, 0.5)
		b.until("the warm pool is full", 10*time.Minute, func() bool { return b.warmOnes() == 2 })
		b.configure("two")
		b.pass(30 * time.Minute)
		if got := len(b.present()); got != 3 {
			t.Errorf("got %s, want two and a successor", b.states())
		}
		b.tap.forget()
		b.pass(time.Hour)
		for _, op := range []string{"cloud.launch", "cloud.start", "cloud.stop", "cloud.terminate"} {
			if got := b.tap.times(op); got != 0 {
				t.Errorf("got %d calls of %s in an hour, want none; now %s and %s", got, op, b.states(), b.asleep())
			}
		}
		b.workers.load(first, 0)
		b.workers.load(second, 0)
		b.pass(30 * time.Minute)
		if got := len(b.present()); got != 2 || b.warmOnes() != 2 {
			t.Errorf("got %s, stopped %s, want two of each", b.states(), b.asleep())
		}
	}, bootsIn(20*time.Second))
}

// TestASuccessorThatTheCloudTakesBackHaltsNothing: that it never reported is not the fault of its image.
func TestASuccessorThatTheCloudTakesBackHaltsNothing(t *testing.T) {
	t.Parallel()
	eventful(t, rolling(2, 4), func(b *bench) {
		b.grow(2)
		b.configure("two")
		b.until("a successor starts", time.Minute, func() bool { return len(b.present()) == 3 })
		b.announce("ends i-000003 spot notice")
		b.pass(5 * time.Second)
		b.account.Vanish("i-000003")
		b.pass(20 * time.Minute)
		b.wantStates("i-000004:active i-000005:active")
	}, bootsIn(20*time.Second))
}

// TestZoneThatNeverHasRoomAhead is TestZoneThatNeverHasRoom for pools whose instances end before their successors are
// there.
func TestZoneThatNeverHasRoomAhead(t *testing.T) {
	t.Parallel()
	cfg := rolling(2, 4)
	cfg.Rollout = ahead()
	unstarted(t, cfg, func(b *bench) {
		b.preview = func() cloud.Preview { return cloud.Preview{Open: []string{"a", "b"}} }
		b.startController()
		b.grow(2)
		b.pass(24 * time.Hour)
		if got := b.launched(); got < 3 || got > 2+10 || b.count(pool.Active) != 2 {
			t.Errorf("got %d launched in a day, and %s in the end, want 2 and up to 10 moves", got, b.states())
		}
	}, bootsIn(20*time.Second), func(o *memcloud.Options) { o.Place = func() string { return "a" } })
}
