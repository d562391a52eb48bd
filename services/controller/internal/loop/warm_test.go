package loop_test

import (
	"strings"
	"testing"
	"time"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/cloud/memcloud"
	"cloudmaster/internal/pool"
)

// warmPool is a pool of workers that keeps stopped instances.
func warmPool(n int) poolConfig {
	cfg := jobPool()
	cfg.Blob, cfg.Warm = true, n
	return cfg
}

// fillUp waits until n instances are warm and stopped, and nothing runs.
func (b *bench) fillUp(n int) {
	b.t.Helper()
	b.until("the warm pool is full", 10*time.Minute, func() bool {
		return strings.Count(b.asleep(), ":warm") == n && b.states() == ""
	})
	b.pass(b.audit + b.late + 20*time.Second) // and listed as such
}

func (b *bench) wantAsleep(want string) {
	b.t.Helper()
	if got := b.asleep(); got != want {
		b.t.Errorf("at %s: got %q stopped, want %q", time.Since(b.start), got, want)
	}
}

// TestWarmPoolIsFilledAndUsed: one instance at a time is launched and stopped. When work comes the stopped ones are
// started, and nothing is launched until they are used up.
func TestWarmPoolIsFilledAndUsed(t *testing.T) {
	t.Parallel()
	for name, tweak := range map[string]func(*memcloud.Options){
		"lists at once": func(*memcloud.Options) {},
		"lists late":    listsLate(15 * time.Second),
		"slow to stop":  func(o *memcloud.Options) { o.HaltDelay = 20 * time.Second },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := warmPool(2)
			cfg.Maximum = 3
			bubble(t, cfg, func(b *bench) {
				b.fillUp(2)
				b.wantLaunched(2)
				b.wantAsleep("i-000001:warm i-000002:warm")
				if got := b.members(); got != "" {
					t.Errorf("got %q in the active set, want none", got)
				}
				b.send(6) // three instances
				b.grow(3)
				b.wantLaunched(3)
				b.wantAsleep("")
				b.until("all jobs done", 5*time.Minute, func() bool {
					jobs, _ := b.workers.finished()
					return jobs == 6
				})
				b.fillUp(2)
				b.pass(10 * time.Minute)
				b.wantLaunched(3)
				b.wantStates("")
				if got := len(strings.Fields(b.asleep())); got != 2 {
					t.Errorf("got %q stopped, want two", b.asleep())
				}
			}, bootsIn(20*time.Second), tweak)
		})
	}
}

// TestStartWithoutRoom: a start that is refused leaves the instance warm, and one is launched instead.
func TestStartWithoutRoom(t *testing.T) {
	t.Parallel()
	bubble(t, warmPool(1), func(b *bench) {
		b.fillUp(1)
		b.account.NextError(memcloud.OpStart, cloud.ErrCapacity)
		b.send(1)
		b.grow(1)
		b.wantLaunched(2)
		b.wantAsleep("i-000001:warm")
		b.wantStates("i-000002:active")
		b.send(20)
		b.pass(time.Minute) // it rests
		b.wantAsleep("i-000001:warm")
	}, bootsIn(20*time.Second))
}

// TestLostAnswerToAStart: there are never more instances than the maximum, and the one that was started is used.
func TestLostAnswerToAStart(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(b *bench){
		"it was started": func(b *bench) { b.tap.loseAnswers("cloud.start", 1) },
		"it was not":     func(b *bench) { b.account.NextError(memcloud.OpStart, errAway) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := warmPool(1)
			cfg.Maximum = 1
			bubble(t, cfg, func(b *bench) {
				b.fillUp(1)
				fail(b)
				b.send(4)
				b.grow(1)
				b.wantStates("i-000001:active")
				b.wantLaunched(1)
			}, bootsIn(20*time.Second))
		})
	}
}

// TestWarmInstanceThatRuns: one that somebody has started is stopped again; one that somebody has ended is replaced.
func TestWarmInstanceThatRuns(t *testing.T) {
	t.Parallel()
	bubble(t, warmPool(1), func(b *bench) {
		b.fillUp(1)
		b.pass(3 * time.Minute)
		if err := b.account.Cloud("test").Start(t.Context(), first); err != nil {
			t.Fatal(err)
		}
		b.pass(time.Second)
		b.wantStates("i-000001:warm")
		b.until("it is stopped again", time.Minute, func() bool { return b.states() == "" })
		b.wantAsleep("i-000001:warm")
		b.account.Vanish(first)
		b.pass(b.audit)
		b.fillUp(1)
		b.wantAsleep("i-000002:warm")
	}, bootsIn(20*time.Second))
}

// TestSmallerWarmPool: what is too much is ended, and with the key everything.
func TestSmallerWarmPool(t *testing.T) {
	t.Parallel()
	bubble(t, warmPool(2), func(b *bench) {
		b.fillUp(2)
		for _, want := range []int{1, 0} {
			b.cfg.Warm = want
			b.apply()
			b.pass(20 * time.Second)
			if got := len(strings.Fields(b.asleep())); got != want {
				t.Errorf("got %q stopped, want %d", b.asleep(), want)
			}
		}
		b.pass(10 * time.Minute)
		b.wantLaunched(2)
	}, bootsIn(20*time.Second))
}

// TestNeverWarm: what is launched for the warm pool and never reports is ended, and the next one comes later each
// time.
func TestNeverWarm(t *testing.T) {
	t.Parallel()
	cfg := warmPool(1)
	cfg.BootDeadline = 2 * time.Minute
	bubble(t, cfg, func(b *bench) {
		b.workers.setStuck(true)
		b.pass(2 * time.Hour)
		if got := b.launched(); got < 4 || got > 8 {
			t.Errorf("got %d launched in two hours, want a few", got)
		}
		b.workers.setStuck(false)
		b.until("one is warm", 2*time.Hour, func() bool { return b.asleep() != "" })
	}, bootsIn(20*time.Second))
}

// TestWarmingIsUsed: work that comes while an instance boots for the warm pool gets that one.
func TestWarmingIsUsed(t *testing.T) {
	t.Parallel()
	cfg := warmPool(1)
	cfg.Maximum = 1
	bubble(t, cfg, func(b *bench) {
		b.pass(5 * time.Second)
		b.wantStates("i-000001:warming")
		b.send(1)
		b.grow(1)
		b.wantLaunched(1)
		b.wantStates("i-000001:active")
	}, bootsIn(20*time.Second))
}

// TestNoRoomForTheWarmPool: while as many run as may, none is launched for the warm pool.
func TestNoRoomForTheWarmPool(t *testing.T) {
	t.Parallel()
	cfg := fixedPool(2, 2)
	cfg.Warm = 1
	bubble(t, cfg, func(b *bench) {
		b.grow(2)
		b.pass(10 * time.Minute)
		b.wantLaunched(2)
		b.wantAsleep("")
		if got := b.count(pool.Active); got != 2 {
			t.Errorf("got %d active, want 2", got)
		}
	}, bootsIn(20*time.Second))
}

// TestLastWordsThatComeLate: the status queue is away while an instance is stopped, so that its last word, that it is
// about to end, comes only when it has been started again. It is neither replaced nor taken out of the active set.
func TestLastWordsThatComeLate(t *testing.T) {
	t.Parallel()
	for name, restart := range map[string]bool{"one controller": false, "another controller": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := warmPool(1)
			cfg.Maximum = 2
			bubble(t, cfg, func(b *bench) {
				b.until("it has booted", 4*time.Minute, func() bool { return b.workers.worker(first) != nil })
				b.tap.breakDown("cloud.stop", errAway)
				b.pass(5 * time.Second)
				b.tap.breakDown("status.receive", errAway)
				b.pass(30 * time.Second) // a look that waits has ended by then
				b.tap.heal()
				b.tap.breakDown("status.receive", errAway)
				b.until("it is stopped", 5*time.Minute, func() bool { return b.states() == "" })
				b.pass(time.Minute)
				if restart {
					b.restartController()
					b.pass(time.Minute)
				}
				b.workers.hold()
				b.send(1)
				b.until("it is started", 10*time.Minute, func() bool { return b.states() != "" })
				b.tap.heal() // its former last word is heard while it boots
				b.pass(2 * time.Minute)
				b.wantStates("i-000001:startup")
				b.grow(1)
				b.pass(5 * time.Minute)
				b.wantStates("i-000001:active")
				b.wantLaunched(1)
				if got := b.members(); got != "i-000001" {
					t.Errorf("got %q in the active set, want the instance", got)
				}
			}, bootsIn(3*time.Minute))
		})
	}
}

// TestNoStartBesideAnOpenLaunch: while it is not known whether a launch took effect, no warm instance is started that
// could be one more than the maximum. The tap counts.
func TestNoStartBesideAnOpenLaunch(t *testing.T) {
	t.Parallel()
	cfg := warmPool(1)
	cfg.Maximum = 2
	bubble(t, cfg, func(b *bench) {
		b.workers.hold()
		b.until("it stops", 5*time.Minute, func() bool { return b.asleep() != "" })
		b.pass(30 * time.Second) // lists do not show yet that it has stopped
		b.tap.loseAnswers("cloud.launch", 1)
		b.send(8)
		b.pass(100 * time.Millisecond)
		b.wantLaunched(3)
		b.tap.breakDown("cloud.launch", errAway)
		b.pass(5 * time.Minute) // they show the stop first, and then what was launched
		b.tap.heal()
		b.grow(2)
		b.wantAsleep("i-000001:warm")
		b.wantLaunched(3)
	}, bootsIn(10*time.Second), listsLate(2*time.Minute))
}
