package loop_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/cloud/memcloud"
	"cloudmaster/internal/message"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
	"cloudmaster/internal/queue/memqueue"
	"cloudmaster/services/controller/internal/report"
)

// parseEvent reads what the test cloud says: "ends i-000001 because it is old".
func parseEvent(body []byte) (cloud.Event, error) {
	says, rest, _ := strings.Cut(string(body), " ")
	id, why, ok := strings.Cut(rest, " ")
	say := map[string]cloud.Saying{"ends": cloud.Ends, "changed": cloud.Changed, "look": cloud.Look}[says]
	if !ok || say == 0 {
		return cloud.Event{}, fmt.Errorf("%q is no event", body)
	}
	return cloud.Event{Says: say, Instances: []pool.InstanceID{pool.InstanceID(id)}, Reason: why}, nil
}

// eventful runs f on a pool whose cloud has a queue for what it says by itself.
func eventful(t *testing.T, cfg poolConfig, f func(b *bench), tweaks ...func(*memcloud.Options)) {
	t.Helper()
	unstarted(t, cfg, func(b *bench) {
		b.said = memqueue.New("events", queue.Limits{Visibility: 30 * time.Second, Deliveries: 1000})
		b.startController()
		f(b)
	}, tweaks...)
}

// announce has the cloud say something of an instance.
func (b *bench) announce(format string, args ...any) {
	b.t.Helper()
	b.noError(b.said.Send(b.t.Context(), fmt.Appendf(nil, format, args...)))
	b.pass(0)
}

// served is a pool of n servers, each with a load of 0.5, which a policy may not touch for an hour.
func served(b *bench, n int) {
	b.t.Helper()
	b.send(8*n - 7)
	b.grow(n)
	for _, in := range b.present() {
		b.workers.load(in.ID, 0.5)
	}
	b.pass(2 * time.Minute) // the start limit has refilled
}

func lasting(n int) poolConfig {
	cfg := fibPool()
	cfg.StartLimit, cfg.StopLimit = n, 1
	cfg.MinimumLifetime, cfg.MinimumActiveTime = time.Hour, time.Hour
	return cfg
}

// TestTheCloudsWordReplacesAServer within a second of the event, with the cause and the cloud's word in the record.
// The server itself knows of nothing and goes on saying that it is active, which takes nothing back.
func TestTheCloudsWordReplacesAServer(t *testing.T) {
	t.Parallel()
	eventful(t, lasting(2), func(b *bench) {
		served(b, 1)
		b.announce("ends i-000001 rebalance recommendation")
		took := b.until("it is drained", time.Second, func() bool { return b.count(pool.ShutDown) == 1 })
		t.Logf("from the event to the shut-down: %s", took)
		b.wantStates("i-000001:shut_down i-000002:startup")
		b.pass(10 * time.Minute)
		b.wantStates("i-000001:shut_down i-000002:active")
		if got := b.members(); got != string(second) {
			t.Errorf("got the set %q, want the successor alone", got)
		}
		if got := b.events.causes(report.ShutDown); got != "i-000001 interrupted" {
			t.Errorf("got %q, want i-000001 interrupted", got)
		}
		if want := "the cloud says: rebalance recommendation"; !strings.Contains(b.log.String(), want) {
			t.Errorf("got\n%s\nwant %q in it", b.log.tail(3000), want)
		}
		if left := b.said.Bodies(); len(left) != 0 {
			t.Errorf("got %q left on the queue", left)
		}
	}, bootsIn(10*time.Second))
}

// TestTheCloudsWordOutlivesTheController, whether or not it had the time to write it down.
func TestTheCloudsWordOutlivesTheController(t *testing.T) {
	t.Parallel()
	eventful(t, lasting(2), func(b *bench) {
		served(b, 1)
		b.tap.breakDown("cloud.tag", errors.New("away"))
		b.announce("ends i-000001 spot notice")
		b.until("it leaves the set", time.Second, func() bool { return b.members() == "" })
		b.stopController()
		b.tap.heal()
		b.wantStates("i-000001:active i-000002:startup") // nobody could write it down
		b.pass(30 * time.Second)
		b.startController()
		b.until("it is drained", time.Minute, func() bool { return strings.Contains(b.states(), "i-000001:shut_down") })
		b.restartController()
		b.pass(time.Minute)
		b.wantStates("i-000001:shut_down i-000002:active")
	}, bootsIn(10*time.Second))
}

// TestHalfAPoolIsAnnounced: what is announced is drained, and nobody else; and the maximum holds.
func TestHalfAPoolIsAnnounced(t *testing.T) {
	t.Parallel()
	cfg := lasting(4)
	cfg.Maximum = 5
	eventful(t, cfg, func(b *bench) {
		served(b, 4)
		b.announce("ends i-000002 spot notice")
		b.announce("ends i-000003 spot notice")
		for range 600 {
			b.pass(time.Second)
			if n := len(b.present()); n > 5 {
				t.Fatalf("got %d instances, want 5 at most: %s", n, b.states())
			}
			if got := b.events.causes(report.Terminated); got != "" {
				t.Fatalf("got %s, want nobody ended who serves", got)
			}
		}
		b.wantStates("i-000001:active i-000002:shut_down i-000003:shut_down i-000004:active i-000005:active")
	})
}

// TestWhatIsNotOursIsRemoved and changes nothing, as does what cannot be read.
func TestWhatIsNotOursIsRemoved(t *testing.T) {
	t.Parallel()
	eventful(t, lasting(1), func(b *bench) {
		served(b, 1)
		for _, text := range []string{"ends i-999999 spot notice", "", "{", "ends", "bends i-000001 it"} {
			b.announce("%s", text)
		}
		b.pass(time.Minute)
		b.wantStates("i-000001:active")
		if left := b.said.Bodies(); len(left) != 0 {
			t.Errorf("got %q left on the queue", left)
		}
	})
}

// TestABusyWorkerThatTheCloudTakesBackFinishes its job.
func TestABusyWorkerThatTheCloudTakesBackFinishes(t *testing.T) {
	t.Parallel()
	eventful(t, jobPool(), func(b *bench) {
		b.send(1)
		b.until("it works", time.Minute, func() bool { return b.count(pool.Active) == 1 })
		b.pass(2 * time.Second)
		b.announce("ends i-000001 spot notice")
		b.pass(time.Second)
		if got := b.states(); !strings.Contains(got, "i-000001:shut_down") {
			t.Errorf("got %s, want it drained", got)
		}
		b.until("it is ended", time.Minute, func() bool { return !strings.Contains(b.states(), "i-000001") })
		if got := b.work.Bodies(); len(got) != 0 {
			t.Errorf("got %q left, want the job done", got)
		}
	})
}

// TestAnInstanceThatChangesIsListedAtOnce, without waiting for the next list.
func TestAnInstanceThatChangesIsListedAtOnce(t *testing.T) {
	t.Parallel()
	eventful(t, lasting(1), func(b *bench) {
		b.audit = time.Hour
		b.restartController()
		served(b, 1)
		lists := b.tap.times("cloud.list")
		b.announce("changed i-999999 terminated")
		b.pass(time.Second)
		if n := b.tap.times("cloud.list"); n != lists {
			t.Errorf("got %d lists for an instance of others", n-lists)
		}
		b.announce("changed i-000001 terminated")
		b.pass(time.Second)
		if n := b.tap.times("cloud.list"); n != lists+1 {
			t.Errorf("got %d lists, want one at once", n-lists)
		}
	})
}

// checker is what a cloud finds when it is asked.
type checker struct {
	looks  atomic.Int32
	events atomic.Pointer[[]cloud.Event]
	err    atomic.Pointer[error]
}

func (c *checker) finds(events ...cloud.Event) { c.events.Store(&events) }

// Check implements cloud.Checker.
func (c *checker) Check(context.Context) (out []cloud.Event, err error) {
	c.looks.Add(1)
	if e := c.events.Load(); e != nil {
		out = *e
	}
	if e := c.err.Load(); e != nil {
		err = *e
	}
	return out, err
}

// TestACloudIsAskedEveryFiveMinutes for instances that are about to end. Those are replaced; others that go on are
// warned of once. An error is said once, and what was found beside it counts.
func TestACloudIsAskedEveryFiveMinutes(t *testing.T) {
	t.Parallel()
	unstarted(t, lasting(2), func(b *bench) {
		c := &checker{}
		b.checker = c
		b.startController()
		served(b, 1)
		before := c.looks.Load()
		b.pass(time.Hour)
		if n := c.looks.Load() - before; n != 12 {
			t.Errorf("got %d looks in an hour, want 12", n)
		}
		reboot := cloud.Event{Says: cloud.Noted, Instances: []pool.InstanceID{first}, Reason: "system-reboot"}
		c.finds(reboot)
		b.pass(time.Hour)
		if n := strings.Count(b.log.String(), "reason=system-reboot"); n != 1 {
			t.Errorf("got the reboot said %d times, want once", n)
		}
		b.wantStates("i-000001:active")
		err := errors.New("not allowed")
		c.err.Store(&err)
		c.finds(reboot, cloud.Event{
			Says: cloud.Ends, Instances: []pool.InstanceID{first, "i-999999"}, Reason: "status check failed: system",
		})
		b.pass(time.Hour)
		if n := strings.Count(b.log.String(), "not allowed"); n != 1 {
			t.Errorf("got the error said %d times, want once", n)
		}
		b.wantStates("i-000001:shut_down i-000002:active")
	})
}

// TestAnEventMayHaveTheCloudAsked at once, so that it says more precisely what will happen.
func TestAnEventMayHaveTheCloudAsked(t *testing.T) {
	t.Parallel()
	c := &checker{}
	unstarted(t, lasting(2), func(b *bench) {
		b.checker, b.said = c, memqueue.New("events", queue.Limits{Visibility: 30 * time.Second, Deliveries: 1000})
		b.startController()
		served(b, 1)
		looks := c.looks.Load()
		c.finds(cloud.Event{Says: cloud.Ends, Instances: []pool.InstanceID{first}, Reason: "instance-retirement"})
		b.announce("look i-000001 at it")
		b.pass(time.Second)
		if n := c.looks.Load() - looks; n != 1 {
			t.Errorf("got %d looks, want one", n)
		}
		b.wantStates("i-000001:shut_down i-000002:active")
	})
}

// TestAHintIsForThePoolThatItNames, and one for no pool is removed.
func TestAHintIsForThePoolThatItNames(t *testing.T) {
	t.Parallel()
	polled(t, jobPool(), func(b *bench) {
		b.pass(time.Minute)
		reads := b.tap.times("work.backlog")
		body, err := message.EncodeHint(message.Hint{Queue: "other", Timestamp: time.Now()})
		b.noError(err)
		b.noError(b.hints.Send(b.t.Context(), body, []byte("what")))
		b.pass(100 * time.Millisecond)
		if n := b.tap.times("work.backlog"); n != reads {
			t.Errorf("got %d readings for another pool's hint", n-reads)
		}
		if left := b.hints.Bodies(); len(left) != 0 || !strings.Contains(b.log.String(), "parse hint") {
			t.Errorf("got %q left, want both removed and the one that cannot be read logged", left)
		}
	})
}
