package loop_test

import (
	"strings"
	"testing"
	"time"

	"cloudmaster/internal/pool"
	"cloudmaster/services/controller/internal/report"
)

func rollingWarm(n int) poolConfig {
	cfg := warmPool(n)
	cfg.Version, cfg.Rollout = "one", pool.Rollout{MaxSurge: 1}
	return cfg
}

// TestOutdatedWarmInstances: each is replaced when a successor has booted and is stopped, so that there are never fewer
// than before. When work comes meanwhile, no outdated one is started.
func TestOutdatedWarmInstances(t *testing.T) {
	t.Parallel()
	bubble(t, rollingWarm(2), func(b *bench) {
		b.fillUp(2)
		b.configure("two")
		least, most := 9, 0
		b.until("the warm pool is new", 20*time.Minute, func() bool {
			asleep := strings.Count(b.asleep(), ":warm")
			least, most = min(least, asleep), max(most, asleep)
			return b.asleep() == "i-000003:warm i-000004:warm"
		})
		if least != 2 || most != 3 {
			t.Errorf("got %d to %d stopped instances, want 2 to 3", least, most)
		}
		const want = "i-000002 warm_outdated, i-000001 warm_outdated"
		if got := b.events.causes(report.Terminated); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		b.tap.forget()
		b.pass(time.Hour)
		if got := b.tap.times("cloud.launch"); got != 0 {
			t.Errorf("afterwards: got %d launches in an hour, want none", got)
		}
	})
}

// TestABadVersionLeavesTheWarmPool as it is: what is launched for it never reports, and no stopped instance goes.
func TestABadVersionLeavesTheWarmPool(t *testing.T) {
	t.Parallel()
	bubble(t, rollingWarm(2), func(b *bench) {
		b.fillUp(2)
		b.configure("bad")
		b.tap.forget()
		b.pass(6 * time.Hour)
		b.wantAsleep("i-000001:warm i-000002:warm")
		if got := b.tap.times("cloud.launch"); got == 0 || got > 12 {
			t.Errorf("got %d launches in six hours, want some, and with growing pauses", got)
		}
		b.configure("one")
		b.pass(10 * time.Minute)
		b.tap.forget()
		b.send(4)
		b.grow(2)
		if got := b.tap.times("cloud.launch"); got != 0 {
			t.Errorf("got %d launches after the old version is back, want the stopped ones started", got)
		}
	})
}

// TestAPausedRolloutStartsWhatIsWarm although it is outdated.
func TestAPausedRolloutStartsWhatIsWarm(t *testing.T) {
	t.Parallel()
	cfg := rollingWarm(2)
	cfg.Rollout.Paused = true
	bubble(t, cfg, func(b *bench) {
		b.fillUp(2)
		b.configure("two")
		b.pass(10 * time.Minute)
		b.wantAsleep("i-000001:warm i-000002:warm")
		b.send(4)
		b.grow(2)
		b.wantLaunched(2)
	})
}
