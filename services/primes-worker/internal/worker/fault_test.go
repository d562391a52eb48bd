package worker_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"cloudmaster/internal/faults"
	"cloudmaster/internal/queue"
	"cloudmaster/internal/queue/memqueue"
)

var errAway = errors.New("the broker is away")

func TestWaitsForTheBroker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		b.send(t, "1|1")
		b.queue.FailAfter(memqueue.OpReceive, 0, errAway)
		stop := b.start(t)
		wait(10 * time.Minute)
		b.wantSaid(t)
		b.queue.Heal()
		wait(10 * time.Second)
		stop()
		b.wantSaid(t, "Processing: 1 1", "Processed: 1 1 primes (1001) in 1")
		b.wantQueue(t)
		for text, want := range map[string]int{"gives no jobs": 1, "gives jobs again": 1} {
			if got := b.log.count(text); got != want {
				t.Errorf("log lines %q: got %d, want %d", text, got, want)
			}
		}
	})
}

// counting counts looks at the queue.
type counting struct {
	*memqueue.Queue
	looks *atomic.Int64
}

func (c counting) Receive(ctx context.Context, most int, wait time.Duration) ([]queue.Message, error) {
	c.looks.Add(1)
	return c.Queue.Receive(ctx, most, wait)
}

func TestBacksOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		b.queue.FailAfter(memqueue.OpReceive, 0, errAway)
		var looks atomic.Int64
		b.source = func(q *memqueue.Queue) source { return counting{q, &looks} }
		b.run(t, time.Hour)
		// From 2.5 to 5 seconds apart, after the first few.
		if got := looks.Load(); got < 720 || got > 1500 {
			t.Errorf("got %d looks in an hour, want from 720 to 1500", got)
		}
	})
}

func TestAResultIsKeptUntilItCanBeSettled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		b.send(t, "1|5")
		stop := b.start(t)
		wait(time.Second)
		comeBack := b.voice.goAway()
		b.queue.FailAfter(faults.Any, 0, errAway)
		wait(10 * time.Minute)
		comeBack()
		b.queue.Heal()
		wait(10 * time.Second)
		stop()
		b.wantSaid(t, "Processing: 1 5", "Processed: 1 5 primes (1005) in 5")
		b.wantQueue(t)
		if got := b.sieve.asked(); got != 1 {
			t.Errorf("computed %d times, want once", got)
		}
	})
}

func TestDeleteIsRepeated(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(*memqueue.Queue){
		"failed once":  func(q *memqueue.Queue) { q.NextError(memqueue.OpDelete, errAway) },
		"throttled":    func(q *memqueue.Queue) { q.NextError(memqueue.OpDelete, queue.ErrThrottled) },
		"answer lost":  func(q *memqueue.Queue) { q.NextLost(memqueue.OpDelete, errAway) },
		"failed often": func(q *memqueue.Queue) { failTimes(q, memqueue.OpDelete, 20) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBench()
				fail(b.queue)
				b.send(t, "1|1")
				b.run(t, 5*time.Minute)
				b.wantQueue(t)
				b.wantSaid(t, "Processing: 1 1", "Processed: 1 1 primes (1001) in 1")
			})
		})
	}
}

func failTimes(q *memqueue.Queue, op faults.Op, times int) {
	for range times {
		q.NextError(op, errAway)
	}
}

// TestAFinishedJobIsNotDoneAgain: the delete was refused for good, so the message comes back.
func TestAFinishedJobIsNotDoneAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		b.queue.NextError(memqueue.OpDelete, queue.ErrDenied)
		b.send(t, "1|1")
		b.run(t, 5*time.Minute)
		b.wantQueue(t)
		b.wantSaid(t, "Processing: 1 1", "Processed: 1 1 primes (1001) in 1")
		if got := b.log.count("finished job was delivered again"); got != 1 {
			t.Errorf("log lines: got %d, want 1", got)
		}
	})
}

// renewed is a queue that was deleted and created again: its message ids begin anew.
type renewed struct {
	*memqueue.Queue
	again atomic.Pointer[memqueue.Queue]
}

func (r *renewed) Receive(ctx context.Context, most int, wait time.Duration) ([]queue.Message, error) {
	if q := r.again.Load(); q != nil {
		return q.Receive(ctx, most, wait)
	}
	return r.Queue.Receive(ctx, most, wait)
}

// TestANewJobWithAnOldIDIsDone: only the time tells it from the finished one.
func TestANewJobWithAnOldIDIsDone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		both := &renewed{Queue: b.queue}
		b.source = func(*memqueue.Queue) source { return both }
		b.send(t, "1|1")
		stop := b.start(t)
		wait(30 * time.Second)
		again := memqueue.New("primes-work", queue.Limits{})
		if err := again.Send(t.Context(), []byte("2|1")); err != nil {
			t.Fatal(err)
		}
		both.again.Store(again)
		wait(time.Minute)
		stop()
		b.wantSaid(t, "Processing: 1 1", "Processed: 1 1 primes (1001) in 1",
			"Processing: 2 1", "Processed: 2 1 primes (1001) in 1")
	})
}

func TestExtendFails(t *testing.T) {
	t.Parallel()
	t.Run("for a while", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			b := newBench()
			failTimes(b.queue, memqueue.OpExtend, 3)
			b.send(t, "1|120")
			stop := b.start(t)
			for range 119 {
				wait(time.Second)
				b.wantVisible(t, 0) // tried again before the visibility timeout was over
			}
			wait(10 * time.Second)
			stop()
			b.wantQueue(t)
		})
	})
	t.Run("for good", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			b := newBench()
			b.queue.FailAfter(memqueue.OpExtend, 0, errAway)
			b.send(t, "1|120")
			b.run(t, 5*time.Minute)
			b.wantQueue(t)
			b.wantSaid(t, "Processing: 1 120", "Processed: 1 120 primes (1120) in 120")
			if got := b.log.count("cannot extend"); got != 1 {
				t.Errorf("log lines: got %d, want 1", got)
			}
		})
	})
}

func TestBuryIsRepeated(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		failTimes(b.queue, memqueue.OpBury, 4)
		b.send(t, "abc", "1|1")
		b.run(t, time.Minute)
		b.wantQueue(t)
		if got := len(b.queue.Dead().Letters()); got != 1 {
			t.Errorf("dead letters: got %d, want 1", got)
		}
	})
}

// TestWhatCannotBeBuriedStopsNothing: it comes back until the queue buries it itself.
func TestWhatCannotBeBuriedStopsNothing(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{"denied": queue.ErrDenied, "away": errAway} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBench()
				b.queue.FailAfter(memqueue.OpBury, 0, err)
				b.send(t, "abc", "1|1")
				b.run(t, 10*time.Minute)
				b.wantQueue(t)
				if said := b.voice.texts(); !slices.Contains(said, "Processed: 1 1 primes (1001) in 1") {
					t.Errorf("said: got %q, want the good job among it", said)
				}
			})
		})
	}
}

func TestReleaseFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		b.send(t, "1|600")
		stop := b.start(t)
		wait(5 * time.Second)
		b.queue.FailAfter(memqueue.OpRelease, 0, errAway)
		begun := time.Now()
		stop()
		if got := time.Since(begun); got > 25*time.Second {
			t.Errorf("stop took %s, want at most 25s", got)
		}
		b.wantQueue(t, "1|600")
		wait(31 * time.Second)
		b.wantVisible(t, 1)
	})
}

// TestTwoWorkersAtOneMessage: a message that is delivered twice at once is done twice, without harm.
func TestTwoWorkersAtOneMessage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		b.queue.Disturb(memqueue.Disturbance{Duplicate: 1})
		b.send(t, "1|2")
		stopA, stopB := b.start(t), b.start(t)
		wait(time.Minute)
		stopA()
		stopB()
		b.wantQueue(t)
		if got := b.sieve.asked(); got != 2 {
			t.Errorf("computed %d times, want 2", got)
		}
	})
}

// TestAWorkerIsKilled: it leaves only a message in flight, which another worker gets.
func TestAWorkerIsKilled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		b.send(t, "1|2")
		if _, err := b.queue.Receive(t.Context(), 1, 0); err != nil {
			t.Fatal(err)
		}
		b.run(t, time.Minute)
		b.wantQueue(t)
		b.wantSaid(t, "Processing: 1 2", "Processed: 1 2 primes (1002) in 2")
	})
}

// TestManyFaultsLoseNothing lets every third call fail, some after they took effect.
func TestManyFaultsLoseNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		for range 30 {
			for _, op := range []faults.Op{memqueue.OpReceive, memqueue.OpDelete, memqueue.OpExtend} {
				b.queue.NextError(op, errAway)
				b.queue.NextLost(op, errAway)
			}
		}
		for i := range 20 {
			b.send(t, fmt.Sprintf("%d|3", i))
		}
		b.run(t, time.Hour)
		b.wantQueue(t)
		for i := range 20 {
			want := fmt.Sprintf("Processed: %d 3 primes (1003) in 3", i)
			if !slices.Contains(b.voice.texts(), want) {
				t.Errorf("%q was not said", want)
			}
		}
		if got := b.queue.Dead().Letters(); len(got) > 0 {
			t.Errorf("dead letters: got %q, want none", got)
		}
	})
}

// TestAFinishedJobIsHeldUntilItIsDeleted: nobody else gets it, however long the deletion takes.
func TestAFinishedJobIsHeldUntilItIsDeleted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		b.send(t, "1|1")
		b.queue.FailAfter(memqueue.OpDelete, 0, errAway)
		stop := b.start(t)
		for range 20 {
			wait(b.queue.Visibility() / 2)
			b.wantVisible(t, 0)
		}
		b.queue.Heal()
		wait(time.Minute)
		stop()
		b.wantQueue(t)
	})
}
