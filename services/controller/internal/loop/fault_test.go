package loop_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/cloud/memcloud"
	"cloudmaster/internal/pool"
)

func TestWatchdogReplacesAHungOne(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]poolConfig{"workers": fixedPool(2, 2), "servers": fibPool()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg.Minimum, cfg.Maximum = 2, 2 // so that its replacement has no room beside it
			bubble(t, cfg, func(b *bench) {
				b.grow(2)
				b.workers.hang(first)
				b.pass(10*time.Minute - 40*time.Second)
				b.wantStates("i-000001:active i-000002:active")
				b.pass(2 * time.Minute)
				b.wantStates("i-000002:active i-000003:active")
				b.pass(time.Hour)
				b.wantLaunched(3)
				if got := b.log.count("pass failed"); got != 0 { // it would fail if the replacement were launched first
					t.Errorf("got %d failed passes, want none", got)
				}
			})
		})
	}
}

func TestBootDeadline(t *testing.T) {
	t.Parallel()
	cfg := fixedPool(1, 1)
	cfg.BootDeadline = 3 * time.Minute
	bubble(t, cfg, func(b *bench) {
		b.workers.setStuck(true)
		b.pass(3*time.Minute - time.Second)
		b.wantStates("i-000001:startup")
		b.workers.setStuck(false)
		b.pass(time.Minute + 2*time.Second)
		b.wantStates("i-000002:active")
	})
}

func TestBreaker(t *testing.T) {
	t.Parallel()
	bubble(t, fixedPool(4, 4), func(b *bench) {
		b.grow(4)
		b.workers.hang(first, second, "i-000003")
		b.pass(29 * time.Minute)
		b.wantLaunched(4)
		if got := b.log.count("breaker changed"); got != 1 {
			t.Errorf("got %d lines about the breaker, want 1", got)
		}
		if got := strings.Join(b.noticed(), "; "); !strings.Contains(got, "breaker open: 3 of 4") {
			t.Errorf("got %q reported, want that the breaker is open", got)
		}
		b.account.Vanish("i-000003") // two silent ones of four do not keep the breaker open
		b.pass(5 * time.Minute)
		b.wantLaunched(7)
		if got := strings.Join(b.noticed(), "; "); !strings.Contains(got, "breaker closed") {
			t.Errorf("got %q reported, want that the breaker is closed", got)
		}
	})
}

// TestBreakerFindsOut checks that the controller replaces one silent instance to find out whether the
// instances hang or it cannot hear them.
func TestBreakerFindsOut(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		stuck    bool // new instances are not heard either
		replaced int  // how many of the four are replaced
	}{"they hang": {false, 4}, "we cannot hear": {true, 1}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, fixedPool(4, 4), func(b *bench) {
				b.grow(4)
				b.workers.hang(first, second, "i-000003", "i-000004")
				b.workers.setStuck(c.stuck)
				b.pass(6 * time.Hour)
				kept := strings.Count(b.states(), ":active")
				if c.stuck && kept != 3 ||
					!c.stuck && b.states() != "i-000005:active i-000006:active i-000007:active i-000008:active" {
					t.Errorf("got %s, want %d replaced", b.states(), c.replaced)
				}
			})
		})
	}
}

// TestBreakerEndsNoPool checks that a pool does not shrink while the breaker is open: a replacement is
// launched before a silent instance is ended, also where the policy needs fewer instances.
func TestBreakerEndsNoPool(t *testing.T) {
	t.Parallel()
	cfg := jobPool()
	cfg.MinimumLifetime = 24 * time.Hour // they stay, idle
	bubble(t, cfg, func(b *bench) {
		b.send(8)
		b.grow(4)
		b.pass(time.Minute) // they are idle again
		b.workers.setStuck(true)
		b.workers.hang(first, second, "i-000003", "i-000004")
		b.pass(6 * time.Hour)
		if kept := strings.Count(b.states(), ":active"); kept != 3 {
			t.Errorf("got %s, want 3 of 4 kept", b.states())
		}
	})
}

// TestWhoDoesNotLeadDoesNothing checks that a controller that may not lead touches no instances, and takes no
// messages, which the controller that leads may need.
func TestWhoDoesNotLeadDoesNothing(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]poolConfig{"workers": jobPool(), "servers": fibPool(), "fixed": fixedPool(2, 2)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, cfg)
				defer b.close()
				lease := &permit{}
				b.lead = lease.lead
				b.startController()
				b.send(8)
				b.until("at work", time.Minute, func() bool { return b.count(pool.Active) > 1 })
				lease.over.Store(true)
				b.pass(time.Minute) // what was under way is over
				b.tap.forget()
				b.workers.hang(first)
				b.account.Vanish(second)
				b.pass(time.Hour)
				for _, op := range []string{
					"cloud.launch", "cloud.tag", "cloud.terminate", "store.put", "store.journal", "status.receive",
					"status.delete", "work.receive", "work.delete",
				} {
					if got := b.tap.times(op); got != 0 {
						t.Errorf("%s: got %d calls, want none", op, got)
					}
				}
				if got := b.log.count("pass failed"); got < 1 || got > 6 {
					t.Errorf("got %d lines about it in an hour, want 1 to 6", got)
				}
				lease.over.Store(false)
				b.pass(time.Minute)
				if b.tap.times("status.receive") == 0 {
					t.Error("got no status received when we rule again")
				}
			})
		})
	}
}

// TestStatusQueueDown checks that no instance is replaced or stopped while statuses cannot be received.
func TestStatusQueueDown(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]poolConfig{"workers": jobPool(), "servers": fibPool(), "fixed": fixedPool(2, 2)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, cfg, func(b *bench) {
				b.send(8)
				b.until("at work", time.Minute, func() bool { return b.count(pool.Active) > 1 })
				n := b.launched()
				b.tap.breakDown("status", errAway)
				b.pass(30 * time.Minute)
				if got := b.count(pool.Active); got != n {
					t.Errorf("after half an hour: got %d active, want %d", got, n)
				}
				b.wantLaunched(n)
				if got := b.log.count("status queue cannot be read"); got != 1 {
					t.Errorf("got %d lines about it, want 1", got)
				}
				b.tap.heal()
				b.pass(5 * time.Minute)
				b.wantLaunched(n)
				want := map[string]int{"workers": 0, "servers": 0, "fixed": 2}[name]
				if got := b.count(pool.Active); got != want {
					t.Errorf("after all is well: got %d active, want %d", got, want)
				}
			})
		})
	}
}

// TestABlipOfTheStatusQueueForgivesNoSilence checks that silence counts on after a short failure of the
// status queue. It counts from anew only after a failure that made the controller deaf.
func TestABlipOfTheStatusQueueForgivesNoSilence(t *testing.T) {
	t.Parallel()
	bubble(t, fixedPool(1, 1), func(b *bench) {
		b.grow(1)
		b.workers.hang(first)
		for range 11 {
			b.tap.loseAnswers("status.receive", 1)
			b.pass(time.Minute)
		}
		b.pass(time.Minute)
		b.wantStates("i-000002:active")
	})
}

func TestInventoryErrorsHold(t *testing.T) {
	t.Parallel()
	bubble(t, jobPool(), func(b *bench) {
		b.send(4)
		b.grow(2)
		b.tap.breakDown("cloud.list", cloud.ErrThrottled)
		b.pass(30 * time.Minute)
		b.wantStates("i-000001:active i-000002:active")
		b.send(10)
		b.pass(time.Second)
		b.wantLaunched(4) // an unknown backlog lets the pool stay or grow
		b.tap.heal()
		b.until("nothing", 5*time.Minute, func() bool { return b.states() == "" })
		b.wantLaunched(4)
	})
}

func TestNothingHappensBeforeTheFirstList(t *testing.T) {
	t.Parallel()
	cfg := fixedPool(2, 2)
	bubble(t, cfg, func(b *bench) {
		b.stopController()
		n := b.launched()
		b.tap.breakDown("cloud.list", cloud.ErrDenied)
		b.startController()
		b.pass(time.Hour)
		b.wantLaunched(n)
	})
}

func TestLaunchFailuresBackOff(t *testing.T) {
	t.Parallel()
	bubble(t, fixedPool(0, 2), func(b *bench) {
		b.cfg.Minimum = 2
		b.stopController()
		b.tap.breakDown("cloud.launch", cloud.ErrDenied)
		b.startController()
		b.pass(11 * time.Minute)
		if got := b.tap.times("cloud.launch"); got < 10 || got > 20 {
			t.Errorf("got %d launches tried in 11 minutes, want 1, 2, 4, … 60 s between them", got)
		}
		b.tap.heal()
		b.grow(2)
		b.wantLaunched(2)
	})
}

func TestCapacityIsTakenAsFarAsItGoes(t *testing.T) {
	t.Parallel()
	bubble(t, fixedPool(4, 4), func(b *bench) {
		b.grow(3)
		b.pass(10 * time.Minute)
		b.wantLaunched(3)
		b.account.SetCapacity(0)
		b.grow(4)
	}, func(o *memcloud.Options) { o.Capacity = 3 })
}

// TestLostLaunchAnswers checks that a launch whose answer is lost is asked for again with the same token, and
// that nothing is launched twice.
func TestLostLaunchAnswers(t *testing.T) {
	t.Parallel()
	for _, lost := range []int{1, 2, 5} {
		for _, lag := range []time.Duration{0, 30 * time.Second} {
			t.Run(fmt.Sprintf("%d lost, lists lag %s", lost, lag), func(t *testing.T) {
				t.Parallel()
				bubble(t, fixedPool(0, 4), func(b *bench) {
					b.cfg.Minimum = 3
					b.stopController()
					b.tap.loseAnswers("cloud.launch", lost)
					b.startController()
					b.grow(3)
					b.pass(10 * time.Minute)
					b.wantStates("i-000001:active i-000002:active i-000003:active")
					tokens := make(map[string]bool)
					for _, c := range b.account.Calls() {
						if c.Op == memcloud.OpLaunch {
							tokens[c.Token] = true
						}
					}
					if len(tokens) != 1 {
						t.Errorf("got %d tokens, want 1", len(tokens))
					}
				}, listsLate(lag))
			})
		}
	}
}

// TestUnansweredLaunchOfMoreThanIsNeeded checks that a launch without an answer, of more instances than are
// needed now, is not repeated, and that nothing else is launched until lists can show whether it took effect.
func TestUnansweredLaunchOfMoreThanIsNeeded(t *testing.T) {
	t.Parallel()
	for name, effect := range map[string]bool{"took effect": true, "took none": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, jobPool(), func(b *bench) {
				b.pass(2 * time.Second)
				if effect {
					b.tap.loseAnswers("cloud.launch", 1)
				} else {
					b.tap.breakDown("cloud.launch", errAway)
				}
				b.send(8) // jobs for 4 instances
				b.tap.heal()
				b.takeAway(6) // 1 is enough
				b.pass(10 * time.Minute)
				if got, want := b.launched(), map[bool]int{true: 4, false: 1}[effect]; got != want {
					t.Errorf("got %d launched, want %d", got, want)
				}
			}, listsLate(30*time.Second), bootsIn(time.Hour/6))
		})
	}
}

func TestListLagLaunchesNothingTwice(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]poolConfig{"fixed": fixedPool(2, 4), "job": jobPool(), "resource": fibPool()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, cfg, func(b *bench) {
				b.send(4)
				b.pass(90 * time.Second)
				b.wantLaunched(map[string]int{"fixed": 2, "job": 2, "resource": 1}[name])
			}, listsLate(30*time.Second))
		})
	}
}

// TestTerminateIsNotRepeatedWhileListsLag checks that an instance is not told to end again while lists do not
// show yet that the cloud has accepted it.
func TestTerminateIsNotRepeatedWhileListsLag(t *testing.T) {
	t.Parallel()
	bubble(t, jobPool(), func(b *bench) {
		b.send(1)
		b.grow(1)
		b.until("stopped", 5*time.Minute, func() bool { return b.states() == "" })
		b.pass(5 * time.Minute)
		if got := b.tap.times("cloud.terminate"); got != 1 {
			t.Errorf("got %d calls, want 1", got)
		}
	}, listsLate(30*time.Second))
}

func TestTerminateIsRepeatedUntilItIsAccepted(t *testing.T) {
	t.Parallel()
	bubble(t, jobPool(), func(b *bench) {
		b.send(1)
		b.grow(1)
		b.tap.breakDown("cloud.terminate", errAway)
		b.pass(5 * time.Minute)
		b.wantStates("i-000001:active") // by its tags; the controller knows that it is stopping
		b.tap.heal()
		b.pass(11 * time.Second)
		b.wantStates("")
	})
}

func TestTagsAreRepeatedUntilTheyAreAccepted(t *testing.T) {
	t.Parallel()
	bubble(t, fixedPool(2, 2), func(b *bench) {
		b.tap.breakDown("cloud.tag", cloud.ErrThrottled)
		b.pass(2 * time.Minute)
		b.wantStates("i-000001:startup i-000002:startup")
		b.tap.heal()
		b.pass(11 * time.Second)
		b.wantStates("i-000001:active i-000002:active")
	})
}
