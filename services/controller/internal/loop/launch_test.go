package loop_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/cloud/memcloud"
)

// takesEffectLate has the first launch take effect after a while, in a call whose answer never comes.
func takesEffectLate(after time.Duration) *detour {
	var calls atomic.Int32
	return &detour{launch: func(ctx context.Context, next cloud.Cloud, spec cloud.Spec) ([]cloud.Instance, error) {
		if calls.Add(1) > 1 {
			return next.Launch(ctx, spec)
		}
		time.Sleep(after)
		_, _ = next.Launch(context.WithoutCancel(ctx), spec)
		<-ctx.Done()
		return nil, ctx.Err()
	}}
}

// TestLaunchThatTakesEffectLateIsNotMadeTwice: lists show it as late as counted from the end of the call, which is
// when it took effect at the latest. Meanwhile less is wanted.
func TestLaunchThatTakesEffectLateIsNotMadeTwice(t *testing.T) {
	t.Parallel()
	cfg := jobPool()
	cfg.Maximum = 2
	unstarted(t, cfg, func(b *bench) {
		b.workers.setStuck(true) // they boot for ever
		b.detour = takesEffectLate(25 * time.Second)
		b.startController()
		b.pass(time.Second)
		b.send(4) // 2 instances
		b.pass(time.Second)
		b.takeAway(3) // 1 is enough
		b.pass(5 * time.Minute)
		b.wantLaunched(2)
	}, listsLate(110*time.Second))
}

// TestSlowLaunchWithoutAnswerIsNotMadeTwice where lists are current, as on a process cloud.
func TestSlowLaunchWithoutAnswerIsNotMadeTwice(t *testing.T) {
	t.Parallel()
	unstarted(t, fixedPool(2, 4), func(b *bench) {
		b.listLag, b.audit = time.Second, 2*time.Second
		var calls atomic.Int32
		b.detour = &detour{launch: func(ctx context.Context, next cloud.Cloud, spec cloud.Spec) ([]cloud.Instance,
			error,
		) {
			if calls.Add(1) > 1 {
				return next.Launch(ctx, spec)
			}
			time.Sleep(4100 * time.Millisecond)
			_, _ = next.Launch(ctx, spec)
			return nil, errAway
		}}
		b.startController()
		b.pass(10 * time.Minute)
		b.wantLaunched(2)
	})
}

// TestSuccessorWaitsForALaunchThatWasUnderWay: the call may take effect until it is over, also if who made it died.
func TestSuccessorWaitsForALaunchThatWasUnderWay(t *testing.T) {
	t.Parallel()
	unstarted(t, fixedPool(2, 2), func(b *bench) {
		var calls atomic.Int32
		b.detour = &detour{launch: func(ctx context.Context, next cloud.Cloud, spec cloud.Spec) ([]cloud.Instance,
			error,
		) {
			if calls.Add(1) > 1 {
				return next.Launch(ctx, spec)
			}
			late := context.WithoutCancel(ctx)
			time.AfterFunc(25*time.Second, func() { _, _ = b.account.Cloud("test").Launch(late, spec) })
			<-ctx.Done()
			return nil, ctx.Err()
		}}
		b.startController()
		b.pass(2 * time.Second)
		b.stopController()
		b.pass(3 * time.Second)
		b.startController()
		b.pass(5 * time.Minute)
		b.wantLaunched(2)
	}, listsLate(110*time.Second))
}

// TestLaunchesWithoutAnswersAreCharged to the start limit: they may have taken effect.
func TestLaunchesWithoutAnswersAreCharged(t *testing.T) {
	t.Parallel()
	cfg := jobPool()
	cfg.StartLimit, cfg.Maximum = 1, 10
	unstarted(t, cfg, func(b *bench) {
		b.listLag, b.audit = time.Second, 2*time.Second
		b.detour = &detour{launch: func(ctx context.Context, next cloud.Cloud, spec cloud.Spec) ([]cloud.Instance,
			error,
		) {
			_, _ = next.Launch(ctx, spec)
			return nil, errLost
		}}
		b.workers.hold()
		b.startController()
		b.pass(time.Second)
		b.send(20)
		b.pass(59 * time.Second)
		b.wantLaunched(1) // in one policy interval of a minute
	})
}

// TestARefusalAfterALostAnswerSettlesNothing: the first attempt took effect and its answer was lost, the second one is
// refused. A launch with another token would come on top of what the first one has started.
func TestARefusalAfterALostAnswerSettlesNothing(t *testing.T) {
	t.Parallel()
	unstarted(t, fixedPool(1, 1), func(b *bench) {
		attempts := []error{errLost, cloud.ErrNotFound, cloud.ErrCapacity}
		b.detour = &detour{launch: func(ctx context.Context, next cloud.Cloud, spec cloud.Spec) ([]cloud.Instance,
			error,
		) {
			if len(attempts) == 3 {
				_, _ = next.Launch(ctx, spec)
			}
			if len(attempts) == 0 {
				return next.Launch(ctx, spec)
			}
			err := attempts[0]
			attempts = attempts[1:]
			return nil, err
		}}
		b.startController()
		b.pass(5 * time.Minute)
		b.wantLaunched(1)
	}, listsLate(100*time.Second))
}

// TestATokenThatTheCloudRefusesForEverIsLetGo: an error that nobody knows leaves open whether the launch took effect
// only until lists must show it.
func TestATokenThatTheCloudRefusesForEverIsLetGo(t *testing.T) {
	t.Parallel()
	bubble(t, fixedPool(1, 2), func(b *bench) {
		b.account.FailAfter(memcloud.OpLaunch, 0, errors.New("api error IdempotentInstanceTerminated"))
		b.pass(time.Hour)
		tokens := make(map[string]bool)
		for _, c := range b.account.Calls() {
			if c.Op == memcloud.OpLaunch {
				tokens[c.Token] = true
			}
		}
		if len(tokens) < 5 {
			t.Errorf("got %d tokens in an hour, want several", len(tokens))
		}
	})
}
