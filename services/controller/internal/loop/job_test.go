package loop_test

import (
	"crypto/rand"
	"fmt"
	"testing"
	"time"

	"cloudmaster/internal/cloud/memcloud"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
	"cloudmaster/services/controller/internal/report"
)

func bootsIn(d time.Duration) func(*memcloud.Options) {
	return func(o *memcloud.Options) { o.BootDelay = d }
}

func listsLate(d time.Duration) func(*memcloud.Options) {
	return func(o *memcloud.Options) { o.ListLag = d }
}

// TestJobGrowth checks the table in docs/policies.md with a whole loop.
func TestJobGrowth(t *testing.T) {
	t.Parallel()
	for jobs, want := range map[int]int{0: 0, 1: 1, 3: 1, 4: 2, 7: 3, 8: 4, 9: 4, 100: 4} {
		bubble(t, jobPool(), func(b *bench) {
			b.pass(time.Second)
			b.send(jobs)
			b.pass(time.Second)
			b.wantLaunched(want)
		}, bootsIn(time.Minute))
	}
}

func TestJobPoolGrowsAndShrinksToZero(t *testing.T) {
	t.Parallel()
	bubble(t, jobPool(), func(b *bench) {
		b.pass(time.Second)
		b.send(6)
		b.grow(3)
		b.wantLaunched(3)
		b.until("all jobs done", 5*time.Minute, func() bool { jobs, _ := b.workers.finished(); return jobs == 6 })
		b.until("no instance", 5*time.Minute, func() bool { return b.states() == "" })
		b.pass(10 * time.Minute)
		b.wantLaunched(3)
		if jobs, times := b.workers.finished(); jobs != 6 || times != 6 {
			t.Errorf("got %d jobs done %d times, want 6 done once", jobs, times)
		}
		if got := len(b.events.of(report.Started)); got != 3 {
			t.Errorf("got %d started instances reported, want 3", got)
		}
		if got := len(b.events.of(report.Gone)); got != 3 {
			t.Errorf("got %d gone instances reported, want 3", got)
		}
	}, bootsIn(20*time.Second))
}

func TestIdleOnesStopOnlyWhenTheirLifetimesAreOver(t *testing.T) {
	t.Parallel()
	cfg := jobPool()
	cfg.MinimumLifetime, cfg.MinimumActiveTime = 5*time.Minute, 2*time.Minute
	bubble(t, cfg, func(b *bench) {
		b.send(1)
		b.grow(1)
		b.pass(4*time.Minute + 50*time.Second)
		if b.states() == "" {
			t.Errorf("stopped before its lifetime was over")
		}
		b.until("stopped", 2*time.Minute, func() bool { return b.states() == "" })
	})
}

func TestMinimumAndMaximum(t *testing.T) {
	t.Parallel()
	cfg := fixedPool(3, 3)
	cfg.StartLimit = 1 // launches up to the minimum do not count towards it
	bubble(t, cfg, func(b *bench) {
		b.pass(time.Second)
		b.wantLaunched(3)
		b.grow(3)
		b.cfg.Minimum, b.cfg.Maximum = 1, 2
		b.restartController()
		b.until("the surplus is stopped", time.Minute, func() bool { return len(b.present()) == 2 })
		b.pass(5 * time.Minute)
		if got := len(b.present()); got != 2 {
			t.Errorf("got %d instances, want the maximum, 2", got)
		}
		b.wantLaunched(3)
	})
}

func TestStartLimitPerInterval(t *testing.T) {
	t.Parallel()
	cfg := jobPool()
	cfg.StartLimit = 1
	bubble(t, cfg, func(b *bench) {
		b.pass(time.Second)
		b.send(100)
		for want := 1; want <= 4; want++ {
			b.pass(59 * time.Second)
			b.wantLaunched(want)
			b.pass(time.Second)
		}
	}, bootsIn(time.Hour))
}

func TestStopLimitPerInterval(t *testing.T) {
	t.Parallel()
	cfg := jobPool()
	cfg.StopLimit = 1
	bubble(t, cfg, func(b *bench) {
		b.send(8)
		b.grow(4)
		b.until("the first stop", 5*time.Minute, func() bool { return len(b.present()) == 3 })
		for want := 3; want > 0; want-- {
			b.pass(58 * time.Second)
			if got := len(b.present()); got != want {
				t.Errorf("at %s: got %d instances, want %d", time.Since(b.start), got, want)
			}
			b.pass(2 * time.Second)
		}
	})
}

// TestLimitsSurviveARestart checks that a restart does not refill the start and stop limits.
func TestLimitsSurviveARestart(t *testing.T) {
	t.Parallel()
	cfg := jobPool()
	cfg.StartLimit = 1
	bubble(t, cfg, func(b *bench) {
		b.pass(time.Second)
		b.send(8)
		for range 5 {
			b.pass(10 * time.Second)
			b.restartController()
		}
		b.wantLaunched(1)
		b.pass(30 * time.Second)
		b.wantLaunched(2)
	}, bootsIn(time.Hour))
}

func TestReactsAtOnce(t *testing.T) {
	t.Parallel()
	bubble(t, jobPool(), func(b *bench) {
		b.pass(17 * time.Second) // in the middle of an interval
		b.send(1)
		took := b.until("launched", time.Minute, func() bool { return b.launched() == 1 })
		if took >= 250*time.Millisecond {
			t.Errorf("launched %s after the job was sent, want less than 250ms", took)
		}
		took = b.until("active", time.Minute, func() bool { return b.count(pool.Active) == 1 })
		if took >= 250*time.Millisecond {
			t.Errorf("active %s after it has reported, want less than 250ms", took)
		}
	})
}

// TestIdleHour checks that an hour in which nothing happens has only the passes and calls of policy
// intervals, audits and long polls.
func TestIdleHour(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]poolConfig{"job": jobPool(), "resource": fibPool()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, cfg, func(b *bench) {
				b.pass(time.Minute + 30*time.Second)
				b.tap.forget()
				b.pass(time.Hour)
				for op, want := range map[string]int{
					"cloud.list": 360, "cloud.launch": 0, "cloud.tag": 0, "cloud.terminate": 0,
					"store.get": 0, "store.put": 0, "status.delete": 0, "status.receive": 180,
					"work.receive": 0, "work.delete": 0, "work.extend": 0, "work.backlog": 60,
				} {
					if got := b.tap.times(op); got != want {
						t.Errorf("%s: got %d calls in an idle hour, want %d", op, got, want)
					}
				}
			})
		})
	}
}

func TestUnknownBacklogHolds(t *testing.T) {
	t.Parallel()
	bubble(t, jobPool(), func(b *bench) {
		b.send(4)
		b.grow(2)
		b.tap.failAtRandom(func(op string) (before, after error) {
			if op != "work.backlog" {
				return nil, nil
			}
			// Request ids as AWS has them: each is different.
			return fmt.Errorf("%w: StatusCode: 400, RequestID: %s, api error", queue.ErrNotFound, rand.Text()), nil
		})
		b.pass(time.Hour)
		if got := b.count(pool.Active); got != 2 {
			t.Errorf("got %d active after an hour of unknown backlog, want 2", got)
		}
		if got := b.log.count("pass failed"); got < 1 || got > 6 {
			t.Errorf("got %d lines about it in an hour, want 1 to 6", got)
		}
		b.tap.heal()
		b.until("stopped", 2*time.Minute, func() bool { return b.states() == "" })
	})
}

func TestForeignInstancesAreLeftAlone(t *testing.T) {
	t.Parallel()
	bubble(t, fixedPool(0, 1), func(b *bench) {
		for _, name := range []string{"other", ""} {
			b.launchByHand("test", name, 3)
		}
		b.launchByHand("elsewhere", "test", 3)
		b.pass(time.Hour)
		if got := len(b.present()); got != 9 {
			t.Errorf("got %d instances, want the 9 foreign ones", got)
		}
		for _, op := range []string{"cloud.tag", "cloud.terminate"} {
			if got := b.tap.times(op); got != 0 {
				t.Errorf("got %d calls of %s, want none", got, op)
			}
		}
	})
}

func TestVanishedOnesAreReplaced(t *testing.T) {
	t.Parallel()
	bubble(t, fixedPool(2, 3), func(b *bench) {
		b.grow(2)
		b.pass(2 * time.Minute) // no list can lack them any more for being late
		b.account.Vanish("i-000001")
		b.pass(b.audit + time.Second)
		b.wantLaunched(3)
		if got := b.events.of(report.Gone); len(got) != 1 || got[0] != "i-000001" {
			t.Errorf("got %v gone, want i-000001", got)
		}
		b.grow(2)
	})
}

// TestTakeOver checks that a controller that starts adopts the instances that run, and changes nothing.
func TestTakeOver(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]poolConfig{"fixed": fixedPool(3, 3), "servers": fibPool()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg.Minimum, cfg.Blob = 3, true
			bubble(t, cfg, func(b *bench) {
				b.grow(3)
				b.pass(5 * time.Minute)
				b.tap.forget()
				before := b.members()
				for range 5 {
					b.stopController()
					b.pass(7 * time.Second)
					b.startController()
					b.pass(13 * time.Second)
				}
				for _, c := range b.tap.changes() {
					if c != "store.put [i-000001 i-000002 i-000003]" { // a write of newer loads
						t.Errorf("a restart changed something: %s", c)
					}
				}
				if got := b.members(); got != before {
					t.Errorf("got members %s, want %s", got, before)
				}
			})
		})
	}
}
