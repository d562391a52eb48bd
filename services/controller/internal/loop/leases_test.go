package loop_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/pool"
)

// TestNoActFollowsOneInWhichTheLeaseRanOut: the answer to a stop is late because the process stood still, and what
// the pass had still to do is not its own to do any more.
func TestNoActFollowsOneInWhichTheLeaseRanOut(t *testing.T) {
	t.Parallel()
	cfg := fixedPool(2, 2)
	cfg.Blob, cfg.WatchdogInterval = true, 2*time.Minute
	unstarted(t, cfg, func(b *bench) {
		lease := &permit{}
		b.lead, b.listLag = lease.lead, time.Second
		b.detour = &detour{terminate: func(ctx context.Context, next cloud.Cloud, ids []pool.InstanceID) error {
			err := next.Terminate(ctx, ids...)
			time.Sleep(20 * time.Second)
			lease.over.Store(true)
			b.tap.forget()
			return err
		}}
		b.startController()
		b.pass(time.Minute)
		b.workers.hang(first)
		b.until("over", 10*time.Minute, lease.over.Load)
		b.pass(time.Minute)
		if got := b.tap.changes(); len(got) > 0 {
			t.Errorf("after the lease ran out: got %q, want nothing", got)
		}
	})
}

// TestNoActOutlastsTheLease: a call is given up before another controller can lead.
func TestNoActOutlastsTheLease(t *testing.T) {
	t.Parallel()
	cfg := fixedPool(2, 2)
	cfg.WatchdogInterval = 2 * time.Minute
	unstarted(t, cfg, func(b *bench) {
		const certain = 8 * time.Second
		b.lead = func(now time.Time) (time.Time, error) { return now.Add(certain), nil }
		var took time.Duration
		b.detour = &detour{terminate: func(ctx context.Context, _ cloud.Cloud, _ []pool.InstanceID) error {
			began := time.Now()
			<-ctx.Done()
			took = time.Since(began)
			return ctx.Err()
		}}
		b.startController()
		b.pass(time.Minute)
		b.workers.hang(first)
		b.pass(5 * time.Minute)
		b.stopController()
		if took == 0 || took > certain {
			t.Errorf("got a call of %s, want one that is given up after %s", took, certain)
		}
	})
}

// TestTwoControllersOneAfterTheOtherKeepTheMaximum: the first stood still in the middle of an act, the second has
// finished what it was about.
func TestTwoControllersOneAfterTheOtherKeepTheMaximum(t *testing.T) {
	t.Parallel()
	cfg := fixedPool(2, 2)
	cfg.WatchdogInterval = 2 * time.Minute
	unstarted(t, cfg, func(b *bench) {
		lease, resume := &permit{}, make(chan struct{})
		b.lead, b.listLag = lease.lead, time.Second
		b.detour = &detour{terminate: func(ctx context.Context, next cloud.Cloud, ids []pool.InstanceID) error {
			err := next.Terminate(ctx, ids...)
			<-resume
			return err
		}}
		before := b.begin()
		defer b.end(before)
		b.pass(time.Minute)
		b.workers.hang(first)
		b.until("ended", 10*time.Minute, func() bool { return b.tap.times("cloud.terminate") > 0 })
		b.succeed(lease)
		b.pass(8 * time.Second)
		b.wantLaunched(3)
		close(resume)
		b.pass(5 * time.Second)
		b.wantLaunched(3)
	})
}

// succeed lets a lease run out, and soon after starts the controller that takes it over.
func (b *bench) succeed(lease *permit) {
	b.t.Helper()
	lease.over.Store(true)
	b.pass(5 * time.Second)
	b.lead, b.detour = nil, nil
	b.startController()
}

// TestExpiredControllerPublishesNothing: the set of its successor stands, which names no server that drains.
func TestExpiredControllerPublishesNothing(t *testing.T) {
	t.Parallel()
	unstarted(t, fibPool(), func(b *bench) {
		lease, pause := &permit{}, &pause{resume: make(chan struct{})}
		b.lead, b.detour = lease.lead, &detour{launch: pause.launch}
		before := b.begin()
		defer b.end(before)
		b.send(8)
		b.grow(2)
		b.pass(time.Minute)
		pause.on.Store(true)
		b.workers.load(first, 0.9)
		b.workers.load(second, 0.9)
		b.until("a third", time.Minute, func() bool { return b.launched() == 3 })
		b.succeed(lease)
		b.pass(time.Minute)
		for _, id := range []pool.InstanceID{first, second, "i-000003"} {
			b.workers.load(id, 0.05)
		}
		b.until("drains", 10*time.Minute, func() bool { return b.count(pool.ShutDown) > 0 })
		close(pause.resume)
		for range 60 {
			b.pass(time.Second)
			b.wantNoDrainingMember()
		}
	})
}

func (b *bench) wantNoDrainingMember() {
	b.t.Helper()
	set := b.members()
	for _, in := range b.present() {
		if in.Tags[cloud.TagState] == pool.ShutDown.String() && strings.Contains(set, string(in.ID)) {
			b.t.Fatalf("at %s: the set names %q, and the states are %s", time.Since(b.start), set, b.states())
		}
	}
}
