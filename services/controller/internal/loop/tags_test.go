package loop_test

import (
	"context"
	"testing"
	"time"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/pool"
)

// TestRequestsAreServedAlthoughTagsCannotBeWritten: a server that nobody may be sent to is no capacity.
func TestRequestsAreServedAlthoughTagsCannotBeWritten(t *testing.T) {
	t.Parallel()
	bubble(t, fibPool(), func(b *bench) {
		b.send(1)
		b.grow(1)
		b.workers.load(first, 0)
		b.until("drains", 10*time.Minute, func() bool { return b.count(pool.ShutDown) == 1 })
		b.workers.load(first, 0.1) // a last client stays
		b.tap.breakDown("cloud.tag", cloud.ErrDenied)
		b.send(1)
		b.until("a server", 5*time.Minute, func() bool { return b.members() != "" })
	})
}

// TestSetStaysOverARestartAlthoughTagsCannotBeWritten: who is in the predecessor's set and was not told to go serves.
func TestSetStaysOverARestartAlthoughTagsCannotBeWritten(t *testing.T) {
	t.Parallel()
	cfg := fibPool()
	cfg.StatusInterval = time.Minute
	bubble(t, cfg, func(b *bench) {
		b.tap.breakDown("cloud.tag", cloud.ErrThrottled)
		b.send(1)
		b.until("published", time.Minute, func() bool { return b.members() == "i-000001" })
		b.workers.load(first, 0.5)
		b.pass(90 * time.Second)
		b.restartController()
		for range 90 {
			b.pass(time.Second)
			if got := b.members(); got != "i-000001" {
				b.t.Fatalf("at %s: the set names %q, want i-000001", time.Since(b.start), got)
			}
		}
	})
}

// TestTagsThatHangHoldUpNoLaunch: ten instances, of which one may start in 5 seconds, are there within minutes.
func TestTagsThatHangHoldUpNoLaunch(t *testing.T) {
	t.Parallel()
	cfg := jobPool()
	cfg.Maximum, cfg.StartLimit, cfg.PolicyInterval = 20, 1, 5*time.Second
	unstarted(t, cfg, func(b *bench) {
		b.workers.hold()
		b.detour = &detour{tag: func(ctx context.Context, _ []pool.InstanceID) error {
			<-ctx.Done()
			return ctx.Err()
		}}
		b.startController()
		b.send(20)
		b.until("ten launched", 3*time.Minute, func() bool { return b.launched() >= 10 })
	})
}
