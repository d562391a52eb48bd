package worker_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"cloudmaster/internal/queue/memqueue"
)

// linked is a queue at a broker that may die: it tells one connection from the next.
type linked struct {
	*memqueue.Queue

	number atomic.Uint64
	away   atomic.Bool
}

func (l *linked) Link() (uint64, bool)     { return l.number.Load(), !l.away.Load() }
func (l *linked) Recording() time.Duration { return 250 * time.Millisecond }

// die takes the broker away for so long.
func (l *linked) die(d time.Duration) {
	l.away.Store(true)
	time.AfterFunc(d, func() {
		l.number.Add(1)
		l.away.Store(false)
	})
}

// TestLetsGoWhatTheBrokerMayHaveForgotten: the broker dies so soon after it gave a job that another worker may get it.
// The job is not reported, and its message is neither deleted nor handed back, because another one may hold it.
func TestLetsGoWhatTheBrokerMayHaveForgotten(t *testing.T) {
	t.Parallel()
	for name, after := range map[string]time.Duration{"at once": 0, "just before": 249 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBench()
				q := &linked{Queue: b.queue}
				b.source = func(*memqueue.Queue) source { return q }
				b.send(t, "1|5")
				stop := b.start(t)
				wait(after)
				q.die(100 * time.Millisecond)
				wait(10 * time.Second)
				b.wantSaid(t, "Processing: 1 5",
					"Let go: 1 5: the broker was lost right after it gave the job, and may not remember that")
				b.wantQueue(t, "1|5")
				b.wantVisible(t, 0)
				stop()
			})
		})
	}
}

// TestKeepsWhatTheBrokerHasWrittenDown: a broker that dies later remembers who has the job.
func TestKeepsWhatTheBrokerHasWrittenDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		q := &linked{Queue: b.queue}
		b.source = func(*memqueue.Queue) source { return q }
		b.send(t, "1|5")
		stop := b.start(t)
		wait(300 * time.Millisecond)
		q.die(100 * time.Millisecond)
		wait(10 * time.Second)
		b.wantSaid(t, "Processing: 1 5", "Processed: 1 5 primes (1005) in 5")
		b.wantQueue(t)
		stop()
	})
}

// TestShortJobIsReportedAtOnce: nobody waits until a delivery is written down.
func TestShortJobIsReportedAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		b.source = func(*memqueue.Queue) source { return &linked{Queue: b.queue} }
		b.sieve.unit = time.Millisecond
		b.send(t, "1|5")
		stop := b.start(t)
		wait(10 * time.Millisecond)
		b.wantQueue(t)
		stop()
	})
}
