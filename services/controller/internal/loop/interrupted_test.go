package loop_test

import (
	"strings"
	"testing"
	"time"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/cloud/memcloud"
	"cloudmaster/internal/message"
	"cloudmaster/internal/pool"
	"cloudmaster/services/controller/internal/report"
)

// interruptedPool has one server with a load of 0.5, which a policy may not touch for an hour.
func interruptedPool(t *testing.T, f func(b *bench), tweaks ...func(*memcloud.Options)) {
	t.Helper()
	cfg := fibPool()
	cfg.StartLimit = 2
	cfg.MinimumLifetime, cfg.MinimumActiveTime = time.Hour, time.Hour
	bubble(t, cfg, func(b *bench) {
		b.send(1)
		b.grow(1)
		b.workers.load(first, 0.5)
		b.pass(2 * time.Minute) // the start limit has refilled
		f(b)
	}, tweaks...)
}

// TestAServerThatIsAboutToEnd leaves the active set at once, is replaced at once, and is neither stopped while it
// serves nor taken back. The record says why it ended.
func TestAServerThatIsAboutToEnd(t *testing.T) {
	t.Parallel()
	interruptedPool(t, func(b *bench) {
		b.workers.interrupt(true)
		b.pass(250 * time.Millisecond)
		if got := b.members(); got != "" {
			t.Errorf("got the set %q, want nobody sent to it", got)
		}
		b.wantStates("i-000001:shut_down i-000002:startup")
		b.until("its successor serves", time.Minute, func() bool { return b.members() == string(second) })
		b.workers.load(second, 0.9) // the pool needs another one, and does not take it back
		b.until("three", time.Minute, func() bool { return b.launched() == 3 })
		b.pass(10 * time.Minute)
		b.wantStates("i-000001:shut_down i-000002:active i-000003:active")
		b.account.Vanish(first)
		b.pass(5 * time.Minute)
		b.wantStates("i-000002:active i-000003:active")
		for _, what := range []report.What{report.ShutDown, report.Gone} {
			if got := b.events.causes(what); got != "i-000001 interrupted" {
				t.Errorf("got %q, want i-000001 interrupted", got)
			}
		}
	}, bootsIn(10*time.Second))
}

// TestAServerThatIsAboutToEndLeavesTheSetBeforeItsSuccessorIsLaunched: a launch may take long.
func TestAServerThatIsAboutToEndLeavesTheSetBeforeItsSuccessorIsLaunched(t *testing.T) {
	t.Parallel()
	unstarted(t, fibPool(), func(b *bench) {
		pause := &pause{resume: make(chan struct{})}
		b.detour = &detour{launch: pause.launch}
		b.startController()
		b.send(1)
		b.grow(1)
		b.workers.load(first, 0.5)
		b.pass(2 * time.Minute)
		pause.on.Store(true)
		tags := b.tap.times("cloud.tag")
		b.workers.interrupt(true)
		b.pass(100 * time.Millisecond)
		if got := b.members(); got != "" {
			t.Errorf("got the set %q, want nobody sent to it", got)
		}
		b.wantStates("i-000001:shut_down i-000002:startup") // whose answer nobody has got yet
		close(pause.resume)
		b.pass(100 * time.Millisecond)
		if got := b.tap.times("cloud.tag") - tags; got != 1 {
			t.Errorf("got %d calls for its tags, want 1", got)
		}
	})
}

// TestAnInterruptionTakesNothingFromTheStopLimit, also not that of the next controller.
func TestAnInterruptionTakesNothingFromTheStopLimit(t *testing.T) {
	t.Parallel()
	cfg := fibPool()
	// Not 0: servers that have just started have no load, and would be shut down before the test gives them one.
	cfg.MinimumActiveTime, cfg.StartLimit, cfg.StopLimit = 2*time.Second, 3, 1
	bubble(t, cfg, func(b *bench) {
		b.send(16)
		b.grow(3)
		for _, id := range []pool.InstanceID{first, second, "i-000003"} {
			b.workers.load(id, 0.5)
		}
		b.workers.interrupt(true)
		b.pass(time.Second)
		b.restartController()
		b.pass(time.Second)
		b.workers.load(first, 0)
		b.workers.load(second, 0.05)
		b.workers.load("i-000003", 0.05)
		b.pass(time.Second)
		b.wantStates("i-000001:shut_down i-000002:shut_down i-000003:active")
	})
}

// TestAServerThatSaysForEverThatItEnds is stopped when its drain has taken as long as it may, and not before.
func TestAServerThatSaysForEverThatItEnds(t *testing.T) {
	t.Parallel()
	interruptedPool(t, func(b *bench) {
		b.tap.mayEnd = func(id pool.InstanceID) bool { return id == first }
		b.workers.interrupt(true)
		b.pass(59 * time.Minute)
		b.wantStates("i-000001:shut_down i-000002:active")
		b.pass(2 * time.Minute)
		if got := b.states(); strings.Contains(got, string(first)) {
			t.Errorf("got %s, want the first one stopped", got)
		}
		if got := b.events.causes(report.Terminated); !strings.HasPrefix(got, "i-000001 drain_deadline") {
			t.Errorf("got %q, want it stopped at the deadline of its drain", got)
		}
	})
}

// TestANewControllerKnowsWhoIsAboutToEnd from the tags: it neither publishes it nor takes it back.
func TestANewControllerKnowsWhoIsAboutToEnd(t *testing.T) {
	t.Parallel()
	interruptedPool(t, func(b *bench) {
		b.account.SetCapacity(1) // so that it is not replaced, and would be welcome
		b.workers.interrupt(true)
		b.pass(time.Second)
		b.workers.hang(first)
		b.restartController()
		b.send(1)
		b.pass(5 * time.Minute)
		b.wantStates("i-000001:shut_down")
		if got := b.members(); got != "" {
			t.Errorf("got the set %q, want nobody sent to it", got)
		}
		b.account.SetCapacity(9)
		b.until("its successor", 10*time.Minute, func() bool { return b.members() == string(second) })
	})
}

// TestAServerThatWasStartedAnewServesAgain: its program was restarted on the same machine.
func TestAServerThatWasStartedAnewServesAgain(t *testing.T) {
	t.Parallel()
	interruptedPool(t, func(b *bench) {
		b.account.SetCapacity(1)
		b.workers.interrupt(true)
		b.pass(time.Second)
		b.workers.interrupt(false)
		b.send(1)
		b.until("it serves", 10*time.Minute, func() bool { return b.members() == string(first) })
		b.wantStates("i-000001:active")
		for _, in := range b.account.Instances() {
			if got := in.Tags[cloud.TagInterrupted]; got != "false" {
				t.Errorf("got the tag %q, want it taken back", got)
			}
		}
	})
}

// TestAWorkerThatIsAboutToEnd is replaced if there are jobs, and is not stopped while it works, however long that
// takes. If it lives on when it has no work, it is stopped as after a drain.
func TestAWorkerThatIsAboutToEnd(t *testing.T) {
	t.Parallel()
	cfg := jobPool()
	cfg.Maximum, cfg.StartLimit = 2, 2
	bubble(t, cfg, func(b *bench) {
		b.workers.setStuck(true) // they speak by hand
		sequence := uint64(0)
		says := func(id pool.InstanceID, state string, load float64) {
			sequence++
			b.sayAs(id, state, load, time.Now(), sequence)
			b.pass(time.Second)
		}
		b.send(4)
		b.pass(time.Second)
		b.wantStates("i-000001:startup i-000002:startup")
		says(first, "active", 1)
		says(second, "active", 1)
		says(first, message.Draining, 1)
		b.wantStates("i-000001:shut_down i-000002:active") // as many as may be
		says(second, message.Draining, 1)
		b.pass(time.Minute)
		for range 120 {
			says(first, message.Draining, 1)
			says(second, message.Draining, 1)
			b.pass(time.Minute)
		}
		b.wantStates("i-000001:shut_down i-000002:shut_down")
		b.wantLaunched(2)
		says(first, message.Draining, 0)
		b.wantStates("i-000002:shut_down i-000003:startup")
		if got := b.events.causes(report.Terminated); got != "i-000001 drained" {
			t.Errorf("got %q, want the idle one stopped", got)
		}
	})
}
