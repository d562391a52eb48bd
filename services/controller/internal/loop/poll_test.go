package loop_test

import (
	"fmt"
	"strings"
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

// hint tells of work, as feed-primes does.
func (b *bench) hint() {
	b.t.Helper()
	body, err := message.EncodeHint(message.Hint{Queue: "work", Timestamp: time.Now()})
	b.noError(err)
	b.noError(b.status.Send(b.t.Context(), body))
	synctest.Wait()
}

// TestIdleBudget: what an idle pool costs in calls, each of which AWS is paid for.
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
				others := perMinute("status.delete", "work.receive", "work.delete")
				stores := perMinute("store.get", "store.put", "store.journal")
				lists := perMinute("cloud.list")
				if receives+reads+others > 16 || stores > 1 || lists > 1 || reads < 11 || receives < 2.9 {
					t.Errorf("got a minute %.1f status receives, %.1f backlog reads, %.1f other queue calls, %.1f "+
						"store calls, %.1f lists; want at most 16 queue calls, 1 store call, 1 list",
						receives, reads, others, stores, lists)
				}
			})
		})
	}
}

// TestPolledWorkIsFound within the poll interval, and with a hint at once.
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

// TestAHintIsLookedAtAgain: the queue may not show yet what the hint tells of.
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
		families, err := b.metrics.Gather()
		b.noError(err)
		if got := fmt.Sprint(families); !containsAll(got, `value:"hint"`) || containsAll(got, `value:"unparsable"`) {
			t.Errorf("got %s, want the hint counted as such", got)
		}
	})
}

// TestManyHintsCostFewReadings: each client may send one a second, and there may be many.
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

// TestNothingShrinksOnAnOldReading: who is idle may be needed by now.
func TestNothingShrinksOnAnOldReading(t *testing.T) {
	t.Parallel()
	for name, arrived := range map[string]bool{"work has come": true, "the queue is still empty": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := jobPool()
			cfg.PollInterval, cfg.MinimumLifetime = time.Hour, 5*time.Minute // only what must be read anew is
			polled(t, cfg, func(b *bench) {
				b.send(1)
				b.hint()
				b.grow(1)
				b.pass(time.Minute)
				b.hint() // the queue is empty now, and the instance too young to go
				b.pass(time.Minute)
				if arrived {
					b.workers.hold(true)
					b.pass(cfg.StatusInterval) // nobody waits for a job any more
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

// TestRequestsAreReceivedOnceAReading: what was taken is not looked for in each pass.
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

// TestAFailedReadingIsTriedAgain, and is unknown until then.
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

func containsAll(text string, parts ...string) bool {
	for _, p := range parts {
		if !strings.Contains(text, p) {
			return false
		}
	}
	return true
}
