package loop_test

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/pool"
)

// TestOneListThatLacksInstancesLaunchesNone: it may come from a replica that is behind.
func TestOneListThatLacksInstancesLaunchesNone(t *testing.T) {
	t.Parallel()
	unstarted(t, fixedPool(2, 2), func(b *bench) {
		var lists atomic.Int32
		b.detour = &detour{list: func(all []cloud.Instance) []cloud.Instance {
			if lists.Add(1) == 4 {
				return nil
			}
			return all
		}}
		b.startController()
		b.pass(5 * time.Minute)
		b.wantLaunched(2)
		b.wantStates("i-000001:active i-000002:active")
	})
}

// TestWhatWasToldToEndNeverServesAgain, also when a list has lacked it in between and a later, older one shows it.
func TestWhatWasToldToEndNeverServesAgain(t *testing.T) {
	t.Parallel()
	cfg := fixedPool(1, 1)
	cfg.Blob, cfg.WatchdogInterval, cfg.BootDeadline = true, 2*time.Minute, 2*time.Minute
	unstarted(t, cfg, func(b *bench) {
		var ended atomic.Bool
		b.detour = endsOnceLacking(&ended)
		b.startController()
		b.pass(time.Minute)
		b.workers.hang(first)
		b.until("ended", 5*time.Minute, ended.Load)
		for range 120 {
			b.pass(time.Second)
			if strings.Contains(b.members(), string(first)) {
				b.t.Fatalf("at %s: the set names %q, %s was ended", time.Since(b.start), b.members(), first)
			}
		}
	}, listsLate(40*time.Second))
}

// endsOnceLacking notes when an instance is ended; the second list after that lacks the first instance.
func endsOnceLacking(ended *atomic.Bool) *detour {
	var lists atomic.Int32
	return &detour{
		list: func(all []cloud.Instance) []cloud.Instance {
			if ended.Load() && lists.Add(1) == 2 {
				all = slices.DeleteFunc(slices.Clone(all), func(in cloud.Instance) bool { return in.ID == first })
			}
			return all
		},
		terminate: func(ctx context.Context, next cloud.Cloud, ids []pool.InstanceID) error {
			ended.Store(true)
			return next.Terminate(ctx, ids...)
		},
	}
}
