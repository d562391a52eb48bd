package loop_test

import (
	"testing"
	"time"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
	"cloudmaster/internal/queue/memqueue"
	"cloudmaster/services/controller/internal/report"
)

const (
	first  pool.InstanceID = "i-000001"
	second pool.InstanceID = "i-000002"
)

// TestServersFromRequests checks the arithmetic in docs/policies.md with a whole loop.
func TestServersFromRequests(t *testing.T) {
	t.Parallel()
	for requests, want := range map[int]int{0: 0, 1: 1, 7: 1, 8: 2, 15: 2, 16: 3, 1000: 4} {
		bubble(t, fibPool(), func(b *bench) {
			b.pass(time.Second)
			b.send(requests)
			b.pass(time.Second)
			b.wantLaunched(want)
		}, bootsIn(time.Minute))
	}
}

// TestServerLife follows a pool from the first request through growth and drain to nothing.
func TestServerLife(t *testing.T) {
	t.Parallel()
	cfg := fibPool()
	cfg.MinimumLifetime = 5 * time.Minute
	bubble(t, cfg, func(b *bench) {
		b.pass(time.Second)
		if got := b.members(); got != "" {
			t.Errorf("got the set %q, want an empty one", got)
		}
		b.send(1)
		b.grow(1)
		b.wantLaunched(1)
		if got := b.work.Bodies(); len(got) != 0 {
			t.Errorf("got requests %v left, want none", got)
		}
		if got := b.members(); got != string(first) {
			t.Errorf("got the set %q, want %s", got, first)
		}
		b.workers.load(first, 0.8)
		b.grow(2) // the first server is full
		b.wantLaunched(2)
		b.pass(3 * time.Minute)
		b.workers.load(first, 0.2)
		b.pass(250 * time.Millisecond)
		b.wantStates("i-000001:active i-000002:shut_down") // one server can carry a load of 0.2
		if got := b.members(); got != string(first) {
			t.Errorf("got the set %q, want %s", got, first)
		}
		b.pass(2 * time.Minute)
		b.wantStates("i-000001:active") // drained
		b.workers.load(first, 0)
		b.until("nothing", 5*time.Minute, func() bool { return b.states() == "" })
		b.wantLaunched(2)
	})
}

func TestReactivatesBeforeLaunching(t *testing.T) {
	t.Parallel()
	bubble(t, fibPool(), func(b *bench) {
		b.send(8)
		b.grow(2)
		b.workers.load(second, 0.1)
		b.workers.load(first, 0.1) // either server alone could carry 0.2
		b.until("one drains", 2*time.Minute, func() bool { return b.count(pool.ShutDown) == 1 })
		b.wantStates("i-000001:shut_down i-000002:active") // equal loads: the older goes
		b.workers.load(second, 0.9)
		b.until("both are active", time.Second, func() bool { return b.count(pool.Active) == 2 })
		b.wantLaunched(2)
		if got := b.events.of(report.Activated); len(got) != 1 || got[0] != string(first) {
			t.Errorf("got %v activated, want %s", got, first)
		}
		if got := b.members(); got != "i-000001 i-000002" {
			t.Errorf("got the set %q, want both", got)
		}
	})
}

// TestDrain starts with two servers. The first drains from second 0 of f on, with a load.
func TestDrain(t *testing.T) {
	t.Parallel()
	drain := func(name string, f func(b *bench)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, fibPool(), func(b *bench) {
				b.send(8)
				b.grow(2)
				b.workers.load(first, 0.05)
				b.workers.load(second, 0.1)
				b.until("it drains", 2*time.Minute, func() bool { return b.count(pool.ShutDown) == 1 })
				f(b)
			})
		})
	}
	drain("ends with the load", func(b *bench) {
		b.pass(40 * time.Minute)
		b.wantStates("i-000001:shut_down i-000002:active")
		b.workers.load(first, 0)
		b.pass(250 * time.Millisecond)
		b.wantStates("i-000002:active")
	})
	drain("ends not before the grace", func(b *bench) {
		b.pass(100 * time.Millisecond) // so that there is a status that is newer than the shut-down
		b.workers.load(first, 0)
		b.pass(9 * time.Second)
		b.wantStates("i-000001:shut_down i-000002:active")
		b.pass(1500 * time.Millisecond)
		b.wantStates("i-000002:active")
	})
	drain("ends when the interval is over, whatever the load", func(b *bench) {
		b.tap.mayEnd = func(id pool.InstanceID) bool { return id == first }
		b.pass(59 * time.Minute)
		b.wantStates("i-000001:shut_down i-000002:active")
		b.pass(61 * time.Second)
		b.wantStates("i-000002:active")
	})
	drain("goes on over a restart", func(b *bench) {
		b.tap.mayEnd = func(id pool.InstanceID) bool { return id == first }
		b.pass(30 * time.Minute)
		b.restartController()
		b.pass(29 * time.Minute)
		b.wantStates("i-000001:shut_down i-000002:active")
		b.pass(61 * time.Second)
		b.wantStates("i-000002:active")
	})
}

// TestMinimumOfServers checks that only active servers count towards the minimum.
func TestMinimumOfServers(t *testing.T) {
	t.Parallel()
	cfg := fibPool()
	cfg.Minimum = 1
	bubble(t, cfg, func(b *bench) {
		b.grow(1)
		b.pass(time.Hour)
		b.wantStates("i-000001:active")
		b.wantLaunched(1)
	})
}

// TestRequestsAreKept checks that each request is served exactly once, whatever fails.
func TestRequestsAreKept(t *testing.T) {
	t.Parallel()
	kept := func(b *bench, want int) {
		b.t.Helper()
		if got := len(b.work.Bodies()); got != want {
			b.t.Errorf("at %s: got %d requests on the queue, want %d", time.Since(b.start), got, want)
		}
		if got := len(b.work.Dead().Bodies()); got != 0 {
			b.t.Errorf("at %s: got %d dead letters, want none", time.Since(b.start), got)
		}
	}
	for name, cause := range map[string]error{
		"unknown fault": errAway, "no capacity": cloud.ErrCapacity,
		"throttled": cloud.ErrThrottled,
	} {
		t.Run("launch fails, "+name, func(t *testing.T) {
			t.Parallel()
			bubble(t, fibPool(), func(b *bench) {
				b.pass(time.Second)
				b.tap.breakDown("cloud.launch", cause)
				b.send(8)
				b.pass(30 * time.Minute)
				kept(b, 8)
				if got, most := b.tap.times("cloud.launch"), 37; got > most {
					t.Errorf("got %d launches tried in half an hour, want at most %d", got, most)
				}
				b.tap.heal()
				b.grow(2)
				b.wantLaunched(2)
				kept(b, 0)
			})
		})
	}
	t.Run("the controller is restarted", func(t *testing.T) {
		t.Parallel()
		bubble(t, fibPool(), func(b *bench) {
			b.pass(time.Second)
			b.tap.breakDown("cloud.launch", errAway)
			b.send(8)
			b.pass(time.Minute)
			b.stopController()
			b.tap.heal()
			b.startController()
			b.pass(2 * time.Second)
			b.wantLaunched(0)                      // as far as lists show, the first launch may have taken effect
			b.pass(2*time.Minute + 30*time.Second) // the call may have taken effect at its very end
			b.wantLaunched(2)
			kept(b, 0)
		})
	})
	t.Run("the controller dies", func(t *testing.T) {
		t.Parallel()
		bubble(t, fibPool(), func(b *bench) {
			b.pass(time.Second)
			b.tap.breakDown("cloud.launch", errAway)
			b.send(8)
			b.pass(time.Minute)
			b.tap.heal()
			b.tap.breakDown("work.release", errAway)
			b.stopController()
			b.tap.heal()
			b.startController()
			b.until("they are delivered again", 3*b.work.Visibility(), func() bool { return b.launched() == 2 })
			b.pass(time.Second)
			kept(b, 0)
		})
	})
	t.Run("the start limit lets them wait", func(t *testing.T) {
		t.Parallel()
		cfg := fibPool()
		cfg.StartLimit = 1
		bubble(t, cfg, func(b *bench) {
			b.pass(time.Second)
			b.send(16) // requests for 3 servers
			b.pass(55 * time.Second)
			b.wantLaunched(1)
			kept(b, 16)
			b.pass(2 * time.Minute)
			b.wantLaunched(3)
			kept(b, 0)
		}, bootsIn(time.Hour/6))
	})
	t.Run("delivered twice", func(t *testing.T) {
		t.Parallel()
		bubble(t, fibPool(), func(b *bench) {
			b.pass(time.Second)
			b.work.Disturb(memqueue.Disturbance{Duplicate: 7})
			b.send(7)
			b.pass(time.Second)
			b.wantLaunched(1) // 14 requests would need 2
		})
	})
}

func TestUnknownRequestsHold(t *testing.T) {
	t.Parallel()
	for _, op := range []string{"work.backlog", "work.receive"} {
		t.Run(op, func(t *testing.T) {
			t.Parallel()
			bubble(t, fibPool(), func(b *bench) {
				b.send(8)
				b.grow(2)
				b.tap.breakDown(op, queue.ErrNotFound)
				b.send(1)
				b.pass(time.Hour)
				b.wantStates("i-000001:active i-000002:active")
				b.tap.heal()
				b.until("nothing", 3*time.Minute, func() bool { return b.states() == "" })
			})
		})
	}
}
