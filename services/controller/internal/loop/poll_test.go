package loop_test

import (
	"testing"
	"testing/synctest"
	"time"

	"cloudmaster/internal/message"
	"cloudmaster/internal/pool"
)

// polled runs f on a bench whose work queue cannot tell of messages.
func polled(t *testing.T, cfg poolConfig, f func(b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, cfg)
		defer b.close()
		b.mute, b.audit = true, time.Minute
		b.startController()
		b.pass(2500 * time.Millisecond)
		f(b)
	})
}

// hint sends a hint that there is work, as feed-primes does.
func (b *bench) hint() {
	b.t.Helper()
	body, err := message.EncodeHint(message.Hint{Queue: "work", Timestamp: time.Now()})
	b.noError(err)
	b.noError(b.hints.Send(b.t.Context(), body))
	synctest.Wait()
}

// TestIdleBudget checks how many calls an idle pool makes, because AWS charges for each of them.
func TestIdleBudget(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]poolConfig{"job": jobPool(), "resource": fibPool()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			polled(t, cfg, func(b *bench) {
				b.pass(time.Minute)
				b.tap.forget()
				b.pass(time.Hour)
				perMinute := func(calls ...string) (n float64) {
					for _, call := range calls {
						n += float64(b.tap.times(call)) / 60
					}
					return n
				}
				receives, reads := perMinute("status.receive"), perMinute("work.backlog")
				hints := perMinute("hints.receive") // for all pools of the deployment together
				others := perMinute("status.delete", "work.receive", "work.delete", "hints.delete")
				stores := perMinute("store.get", "store.put", "store.journal")
				lists := perMinute("cloud.list")
				if receives+reads+others > 16 || stores > 1 || lists > 1 || reads < 11 || receives < 2.9 ||
					hints < 2.9 || hints > 3.1 {
					t.Errorf("got a minute %.1f status receives, %.1f backlog reads, %.1f other queue calls, %.1f "+
						"receives of hints, %.1f store calls, %.1f lists; want at most 16 queue calls, 3 receives of "+
						"hints, 1 store call, 1 list", receives, reads, others, hints, stores, lists)
				}
			})
		})
	}
}

// TestPolledWorkIsFound checks that work is found within the poll interval, and at once if there is a hint.
func TestPolledWorkIsFound(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		hint        bool
		least, most time.Duration
	}{
		"by polling":  {false, time.Second, 5100 * time.Millisecond},
		"with a hint": {true, 0, 100 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			polled(t, jobPool(), func(b *bench) {
				b.pass(10*time.Minute + 300*time.Millisecond)
				b.send(4)
				if c.hint {
					b.hint()
				}
				got := b.until("launched", 10*time.Second, func() bool { return b.launched() == 2 })
				if got < c.least || got > c.most {
					t.Errorf("launched after %s, want %s to %s", got, c.least, c.most)
				}
			})
		})
	}
}

// TestAHintIsLookedAtAgain checks that the queue is read once more some time after a hint, because it may not
// show the new messages at once.
func TestAHintIsLookedAtAgain(t *testing.T) {
	t.Parallel()
	polled(t, jobPool(), func(b *bench) {
		before := b.tap.times("work.backlog")
		b.until("a reading", 10*time.Second, func() bool { return b.tap.times("work.backlog") > before })
		b.hint()
		b.pass(100 * time.Millisecond)
		b.send(4)
		b.pass(1300 * time.Millisecond)
		b.wantLaunched(0)
		b.pass(200 * time.Millisecond)
		b.wantLaunched(2)
		if left := b.hints.Bodies(); len(left) != 0 {
			t.Errorf("got %q left on the queue, want the hint removed", left)
		}
	})
}

// TestManyHintsCostFewReadings checks that the queue is not read for each of many hints: each client may send
// one a second, and there may be many clients.
func TestManyHintsCostFewReadings(t *testing.T) {
	t.Parallel()
	polled(t, jobPool(), func(b *bench) {
		b.pass(time.Minute)
		b.tap.forget()
		for range 1000 {
			b.hint()
			b.pass(10 * time.Millisecond)
		}
		if got := b.tap.times("work.backlog"); got < 15 || got > 25 {
			t.Errorf("got %d readings in ten seconds of hints, want about 20", got)
		}
		b.send(4)
		b.hint()
		got := b.until("launched", 10*time.Second, func() bool { return b.launched() == 2 })
		if got > 600*time.Millisecond {
			t.Errorf("launched after %s, want 600ms at most", got)
		}
	})
}

// TestNothingShrinksOnAnOldReading checks that the work queue is read again before anything is ended, because
// there may be new work since the last reading.
func TestNothingShrinksOnAnOldReading(t *testing.T) {
	t.Parallel()
	for name, arrived := range map[string]bool{"work has come": true, "the queue is still empty": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := jobPool()
			// The poll interval is so long that the queue is read only when something else demands it.
			cfg.PollInterval, cfg.MinimumLifetime = time.Hour, 5*time.Minute
			polled(t, cfg, func(b *bench) {
				b.send(1)
				b.hint()
				b.grow(1)
				b.pass(time.Minute)
				b.hint() // now the queue is known to be empty, and the instance is too young to go
				b.pass(time.Minute)
				if arrived {
					b.workers.hold()
					b.pass(cfg.StatusInterval) // until no worker waits for a job any more
					b.send(1)
				}
				b.pass(5 * time.Minute)
				if got, want := b.count(pool.Active), map[bool]int{true: 1, false: 0}[arrived]; got != want {
					t.Errorf("got %d active, want %d", got, want)
				}
			})
		})
	}
}

// TestRequestsAreReceivedOnceAReading checks that requests are received only when the queue is read, and not
// in each pass.
func TestRequestsAreReceivedOnceAReading(t *testing.T) {
	t.Parallel()
	polled(t, fibPool(), func(b *bench) {
		b.workers.setStuck(true)
		b.send(8)
		b.hint()
		b.pass(2 * time.Second)
		b.wantLaunched(2)
		b.tap.forget()
		for range 20 {
			b.controller.pools.Wake(b.cfg.Name)
			b.pass(100 * time.Millisecond)
		}
		if got := b.tap.times("work.receive"); got != 0 {
			t.Errorf("got %d receives in 20 passes, want none", got)
		}
		if got := b.tap.times("work.backlog"); got > 1 {
			t.Errorf("got %d readings in two seconds, want at most 1", got)
		}
	})
}

// TestAFailedReadingIsTriedAgain checks that the backlog is unknown after a reading that failed, until
// another one succeeds.
func TestAFailedReadingIsTriedAgain(t *testing.T) {
	t.Parallel()
	polled(t, jobPool(), func(b *bench) {
		b.send(1)
		b.hint()
		b.grow(1)
		b.tap.breakDown("work.backlog", errAway)
		b.pass(10 * time.Minute)
		b.wantStates("i-000001:active")
		b.tap.heal()
		b.until("stopped", time.Minute, func() bool { return b.states() == "" })
	})
}

// TestHintsDuringAChange of the configuration are safe: what a hint is compared with is not being written meanwhile.
func TestHintsDuringAChange(t *testing.T) {
	t.Parallel()
	polled(t, jobPool(), func(b *bench) {
		b.pass(time.Minute)
		for b.cfg.Maximum = 5; b.cfg.Maximum < 50; b.cfg.Maximum++ {
			body, err := message.EncodeHint(message.Hint{Queue: "work", Timestamp: time.Now()})
			b.noError(err)
			b.noError(b.hints.Send(b.t.Context(), body))
			b.apply()
		}
		b.pass(time.Second)
		if left := b.hints.Bodies(); len(left) != 0 {
			t.Errorf("got %q left, want all taken", left)
		}
	})
}
