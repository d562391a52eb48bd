package loop_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/cloud/memcloud"
	"cloudmaster/internal/pool"
	"cloudmaster/services/controller/internal/report"
)

// rolling is a pool of servers whose outdated instances are replaced one by one.
func rolling(least, most int) poolConfig {
	p := servers(least, most)
	p.Version, p.Rollout = "one", pool.Rollout{MaxSurge: 1}
	p.WatchdogInterval, p.BootDeadline = 3*time.Minute, 3*time.Minute
	return p
}

// rollingDrain is such a pool whose instances are drained before they end.
func rollingDrain() poolConfig {
	p := fibPool()
	p.Minimum, p.Maximum, p.Version, p.Rollout = 2, 4, "one", pool.Rollout{MaxSurge: 1}
	return p
}

// configureAgain is configure, also if no controller runs at the moment.
func (b *bench) configureAgain(version string) {
	b.t.Helper()
	b.cfg.Version = version
	if b.tap.isDead() {
		b.live(4 * time.Second)
	}
	b.apply()
}

// configure has the controller launch another image from now on.
func (b *bench) configure(version string) {
	b.t.Helper()
	b.cfg.Version = version
	b.apply()
}

// TestRolloutOfAGoodImage: each outdated instance has an active successor before it ends, nothing more is launched than
// is replaced, and clients have as many servers as before all the time.
func TestRolloutOfAGoodImage(t *testing.T) {
	t.Parallel()
	bubble(t, rolling(2, 3), func(b *bench) {
		b.grow(2)
		b.configure("two")
		least, most := 9, 0
		for range 10 * 60 {
			b.pass(time.Second)
			least, most = min(least, b.count(pool.Active)), max(most, len(b.present()))
		}
		b.wantStates("i-000003:active i-000004:active")
		b.wantLaunched(4)
		if least != 2 || most != 3 {
			t.Errorf("got %d to %d instances, want 2 to 3", least, most)
		}
		if got, want := b.events.causes(report.Terminated), "i-000001 outdated, i-000002 outdated"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		b.tap.forget()
		b.pass(time.Hour)
		for _, op := range []string{"cloud.launch", "cloud.tag", "cloud.terminate"} {
			if got := b.tap.times(op); got != 0 {
				t.Errorf("afterwards: got %d calls of %s in an hour, want none", got, op)
			}
		}
	}, bootsIn(20*time.Second))
}

// TestRolloutOfABadImage stops after the first instance, which the watchdog ends. The others stay, also for long, and
// the configuration of the old value ends the matter.
func TestRolloutOfABadImage(t *testing.T) {
	t.Parallel()
	bubble(t, rolling(2, 4), func(b *bench) {
		b.grow(2)
		b.configure("bad")
		b.pass(3 * time.Hour)
		b.wantStates("i-000001:active i-000002:active")
		b.wantLaunched(3)
		if got := strings.Join(b.noticed(), "\n"); !strings.Contains(got, "rollout halted: i-000003 was launched") {
			t.Errorf("got %q, want that the rollout is halted", got)
		}
		b.configure("one")
		b.pass(time.Hour)
		b.wantStates("i-000001:active i-000002:active")
		b.wantLaunched(3)
		b.configure("good")
		b.pass(time.Hour)
		b.wantStates("i-000004:active i-000005:active")
		b.wantLaunched(5)
	}, bootsIn(20*time.Second))
}

// TestRolloutAfterARestart: a controller that starts during a halt tries the bad image once more.
func TestRolloutAfterARestart(t *testing.T) {
	t.Parallel()
	bubble(t, rolling(2, 4), func(b *bench) {
		b.grow(2)
		b.configure("bad")
		b.pass(time.Hour)
		b.restartController()
		b.pass(time.Hour)
		b.wantStates("i-000001:active i-000002:active")
		b.wantLaunched(4)
	})
}

// TestRolloutUndoneInTheMiddle: the successor that was launched goes again, and the old ones stay.
func TestRolloutUndoneInTheMiddle(t *testing.T) {
	t.Parallel()
	bubble(t, rolling(2, 3), func(b *bench) {
		b.grow(2)
		b.configure("two")
		b.until("a successor starts", time.Minute, func() bool { return len(b.present()) == 3 })
		b.configure("one")
		b.pass(10 * time.Minute)
		b.wantStates("i-000001:active i-000002:active")
		b.configure("two")
		b.until("one has been replaced", 10*time.Minute, func() bool {
			return b.states() == "i-000002:active i-000004:active"
		})
		b.configure("one")
		b.pass(10 * time.Minute)
		b.wantStates("i-000002:active i-000005:active")
	}, bootsIn(20*time.Second))
}

// TestRolloutPaused touches nothing, and goes on when it is not paused any more.
func TestRolloutPaused(t *testing.T) {
	t.Parallel()
	cfg := rolling(2, 3)
	cfg.Rollout.Paused = true
	bubble(t, cfg, func(b *bench) {
		b.grow(2)
		b.configure("two")
		b.pass(time.Hour)
		b.wantStates("i-000001:active i-000002:active")
		b.wantLaunched(2)
		b.cfg.Rollout.Paused = false
		b.apply()
		b.pass(10 * time.Minute)
		b.wantStates("i-000003:active i-000004:active")
	})
}

// TestMaximumLifetime replaces what is too old, again and again.
func TestMaximumLifetime(t *testing.T) {
	t.Parallel()
	cfg := rolling(1, 2)
	cfg.MaximumLifetime = time.Hour
	bubble(t, cfg, func(b *bench) {
		b.pass(6*time.Hour + 30*time.Minute)
		b.wantLaunched(7)
		if got := len(b.present()); got != 1 {
			t.Errorf("got %s, want one instance", b.states())
		}
	})
}

// TestRolloutOfWhatIsBusy waits for as long as it lasts, with one successor and no more.
func TestRolloutOfWhatIsBusy(t *testing.T) {
	t.Parallel()
	bubble(t, rolling(2, 9), func(b *bench) {
		b.grow(2)
		b.workers.load(first, 0.5)
		b.workers.load(second, 0.5)
		b.configure("two")
		b.pass(24 * time.Hour)
		b.wantStates("i-000001:active i-000002:active i-000003:active")
		b.workers.load(second, 0)
		b.pass(5 * time.Minute)
		b.wantStates("i-000001:active i-000003:active i-000004:active")
	})
}

// TestRolloutOfServersThatDrain drains what is outdated, and reactivates none of it.
func TestRolloutOfServersThatDrain(t *testing.T) {
	t.Parallel()
	cfg := fibPool()
	cfg.Minimum, cfg.Version, cfg.Rollout = 2, "one", pool.Rollout{MaxSurge: 1}
	bubble(t, cfg, func(b *bench) {
		b.grow(2)
		b.workers.load(first, 0.5)
		b.workers.load(second, 0.5)
		b.configure("two")
		b.pass(10 * time.Minute)
		b.wantStates("i-000001:shut_down i-000002:shut_down i-000003:active i-000004:active")
		b.workers.load(first, 0)
		b.workers.load(second, 0)
		b.pass(2 * time.Hour)
		b.wantStates("i-000003:active i-000004:active")
		b.wantLaunched(4)
	})
}

// foresight is a cloud that tells what a launch would make, and makes that.
type foresight struct {
	cloud.Cloud

	tell func() cloud.Preview
}

// Preview implements cloud.Previewer.
func (f foresight) Preview(context.Context, pool.Name, string) (cloud.Preview, error) {
	return f.tell(), nil
}

// Launch implements cloud.Cloud.
func (f foresight) Launch(ctx context.Context, spec cloud.Spec) ([]cloud.Instance, error) {
	if images := f.tell().Images; len(images) > 0 {
		spec.Image = images[0]
	}
	return f.Cloud.Launch(ctx, spec)
}

// TestRolloutOfAMovingImage: the configuration stays, and the name of the image stands for another one. That is tried
// with one instance, too.
func TestRolloutOfAMovingImage(t *testing.T) {
	t.Parallel()
	unstarted(t, rolling(2, 3), func(b *bench) {
		var newest atomic.Pointer[string] // controllers read it in goroutines of their own
		newest.Store(new("ami-1"))
		b.preview = func() cloud.Preview { return cloud.Preview{Images: []string{*newest.Load()}} }
		b.startController()
		b.grow(2)
		newest.Store(new(badImage))
		b.pass(time.Hour)
		b.wantStates("i-000001:active i-000002:active")
		b.wantLaunched(3)
		newest.Store(new("ami-2"))
		b.pass(10 * time.Minute)
		b.wantStates("i-000004:active i-000005:active")
		b.wantLaunched(5)
	}, bootsIn(20*time.Second))
}

// TestZoneBackAfterAnOutage: what was launched elsewhere moves back, one by one and successor first, until the pool is
// level, and what is busy stays.
func TestZoneBackAfterAnOutage(t *testing.T) {
	t.Parallel()
	var back atomic.Bool // zone b
	unstarted(t, rolling(4, 6), func(b *bench) {
		b.preview = func() cloud.Preview {
			if back.Load() {
				return cloud.Preview{Open: []string{"a", "b"}}
			}
			return cloud.Preview{Open: []string{"a"}}
		}
		b.startController()
		b.grow(4)
		b.pass(time.Hour)
		b.wantLaunched(4)
		b.workers.load(first, 0.5)
		back.Store(true)
		b.pass(time.Hour)
		b.wantLaunched(6)
		b.wantStates("i-000001:active i-000004:active i-000005:active i-000006:active")
	}, bootsIn(20*time.Second), func(o *memcloud.Options) {
		o.Place = func() string {
			if back.Load() {
				return "b"
			}
			return "a"
		}
	})
}

// TestZoneThatNeverHasRoom, although the cloud believes that it may: moves that do not help become rare.
func TestZoneThatNeverHasRoom(t *testing.T) {
	t.Parallel()
	unstarted(t, rolling(4, 6), func(b *bench) {
		b.preview = func() cloud.Preview { return cloud.Preview{Open: []string{"a", "b"}} }
		b.startController()
		b.grow(4)
		b.pass(24 * time.Hour)
		if got := b.launched(); got < 6 || got > 4+10 || b.count(pool.Active) != 4 {
			t.Errorf("got %d launched in a day, and %s in the end, want 4 and up to 10 moves", got, b.states())
		}
	}, bootsIn(20*time.Second), func(o *memcloud.Options) { o.Place = func() string { return "a" } })
}
