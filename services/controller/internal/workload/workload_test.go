package workload_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
	"cloudmaster/internal/queue/memqueue"
	"cloudmaster/services/controller/internal/workload"
)

var errAway = errors.New("the broker is away")

// bench is the workload of a queue in memory, in a synctest bubble.
type bench struct {
	*workload.Workload

	t     *testing.T
	queue *memqueue.Queue
	start time.Time
}

// run runs f on a bench.
func run(t *testing.T, opts workload.Options, f func(t *testing.T, b *bench)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := memqueue.New("work", queue.Limits{Visibility: 30 * time.Second})
		f(t, &bench{Workload: workload.New(q, opts), t: t, queue: q, start: time.Now()})
	})
}

var (
	requests = workload.Options{TakesRequests: true, Watched: true, PollInterval: 10 * time.Second}
	polled   = workload.Options{PollInterval: 10 * time.Second}
)

func (b *bench) send(n int) {
	b.t.Helper()
	for range n {
		if err := b.queue.Send(b.t.Context(), []byte("x")); err != nil {
			b.t.Fatal(err)
		}
	}
}

// read returns what is read now.
func (b *bench) read() workload.Reading {
	b.t.Helper()
	r, err := b.Read(b.t.Context(), time.Now(), false)
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

func (b *bench) wantPending(when string, want int) {
	b.t.Helper()
	if got := b.Pending(); got != want {
		b.t.Errorf("%s: got %d requests pending, want %d", when, got, want)
	}
}

// TestRequestsStayUntilTheyAreServed checks which decisions serve the requests.
func TestRequestsStayUntilTheyAreServed(t *testing.T) {
	t.Parallel()
	back := []pool.InstanceID{"i-1"}
	for name, c := range map[string]struct {
		d      pool.Decision
		failed bool
		served bool
	}{
		"nothing asked for": {served: true},
		"launched":          {d: pool.Decision{Asked: pool.Ask{Launch: 1}, Launch: 1}, served: true},
		"not launched":      {d: pool.Decision{Asked: pool.Ask{Launch: 1}}},
		"not all launched":  {d: pool.Decision{Asked: pool.Ask{Launch: 2}, Launch: 1}},
		"taken back":        {d: pool.Decision{Asked: pool.Ask{Reactivate: 1}, Reactivate: back}, served: true},
		"not taken back":    {d: pool.Decision{Asked: pool.Ask{Reactivate: 1}}},
		"both": {
			d: pool.Decision{Asked: pool.Ask{Launch: 1, Reactivate: 1}, Launch: 1, Reactivate: back}, served: true,
		},
		"not taken back, but launched": {d: pool.Decision{Asked: pool.Ask{Launch: 1, Reactivate: 1}, Launch: 1}},
		"failed": {
			d: pool.Decision{Asked: pool.Ask{Launch: 1}, Launch: 1}, failed: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, requests, func(t *testing.T, b *bench) {
				b.send(3)
				if r := b.read(); r.Requests != 3 || r.Backlog.Visible != 3 || !r.Fresh {
					t.Errorf("got %+v, want 3 requests", r)
				}
				if err := b.Settle(t.Context(), &c.d, !c.failed); err != nil {
					t.Error(err)
				}
				if got := len(b.queue.Bodies()) == 0; got != c.served || (b.Pending() == 0) != c.served {
					t.Errorf("got %d pending and %q on the queue, want served: %v", b.Pending(), b.queue.Bodies(),
						c.served)
				}
			})
		})
	}
}

// TestRequestsAreKeptInFlight checks that nobody else gets them while they are pending, and that the workload says when
// it must be asked for that.
func TestRequestsAreKeptInFlight(t *testing.T) {
	run(t, requests, func(t *testing.T, b *bench) {
		b.send(2)
		b.read()
		for range 20 {
			next := slices.DeleteFunc(b.Next(), time.Time.IsZero)
			if len(next) != 1 || !next[0].After(time.Now()) || time.Until(next[0]) > b.queue.Visibility()/2 {
				t.Fatalf("got %v as the times of the next readings, want one well before the visibility is over", next)
			}
			time.Sleep(time.Until(next[0]))
			if r := b.read(); r.Requests != 2 || r.Backlog.Visible != 0 {
				t.Fatalf("after %s: got %+v, want 2 requests and none visible", time.Since(b.start), r)
			}
		}
	})
}

// TestRequestsAreCountedOnce, also if they are delivered again.
func TestRequestsAreCountedOnce(t *testing.T) {
	run(t, requests, func(t *testing.T, b *bench) {
		b.queue.Disturb(memqueue.Disturbance{Duplicate: 1})
		b.send(2)
		b.read()
		b.wantPending("with one that was delivered twice", 2)
	})
}

// TestRequestsThatCannotBeTakenLeaveTheBacklogUnknown, and those that were taken before stay pending.
func TestRequestsThatCannotBeTakenLeaveTheBacklogUnknown(t *testing.T) {
	run(t, requests, func(t *testing.T, b *bench) {
		b.send(1)
		b.read()
		b.send(1)
		for op, q := range map[string]func(){
			"backlog": func() { b.queue.NextError(memqueue.OpBacklog, errAway) },
			"receive": func() { b.queue.NextError(memqueue.OpReceive, errAway) },
			"extend":  func() { time.Sleep(12 * time.Second); b.queue.NextError(memqueue.OpExtend, errAway) },
		} {
			q()
			r, err := b.Read(t.Context(), time.Now(), false)
			if !errors.Is(err, errAway) || r.Backlog.Known || r.Requests != 1 || !r.At.IsZero() || !r.Fresh {
				t.Errorf("%s: got %+v and error %v, want an unknown backlog and 1 request", op, r, err)
			}
			if r, err := b.Read(t.Context(), time.Now(), false); err != nil || r.Requests != 2 {
				t.Errorf("after %s: got %+v and error %v, want both requests", op, r, err)
			}
			b.reset()
		}
	})
}

// reset leaves one request pending and another one on the queue.
func (b *bench) reset() {
	b.t.Helper()
	if err := b.Settle(b.t.Context(), &pool.Decision{}, true); err != nil {
		b.t.Error(err)
	}
	b.send(1)
	b.read()
	b.send(1)
}

// TestHandBack checks that the next controller gets the requests at once, or when their visibility is over.
func TestHandBack(t *testing.T) {
	run(t, requests, func(t *testing.T, b *bench) {
		if err := b.HandBack(t.Context()); err != nil {
			t.Errorf("with none: %v", err)
		}
		b.send(2)
		b.read()
		b.queue.NextError(memqueue.OpRelease, errAway)
		if err := b.HandBack(t.Context()); !errors.Is(err, errAway) {
			t.Errorf("got %v, want %v", err, errAway)
		}
		b.wantPending("after a failure", 2)
		if err := b.HandBack(t.Context()); err != nil {
			t.Error(err)
		}
		b.wantPending("when they are handed back", 0)
		if got, err := b.queue.Backlog(t.Context()); err != nil || got.Visible != 2 {
			t.Errorf("got %+v and error %v, want both visible", got, err)
		}
		if next := slices.DeleteFunc(b.Next(), time.Time.IsZero); len(next) > 0 {
			t.Errorf("got %v as the times of the next readings, want none", next)
		}
	})
}

// TestPolledQueueIsReadOncePerInterval, unless the reading must be fresh.
func TestPolledQueueIsReadOncePerInterval(t *testing.T) {
	run(t, polled, func(t *testing.T, b *bench) {
		b.send(1)
		if r := b.read(); !r.Fresh || r.Backlog.Visible != 1 || !r.At.Equal(time.Now()) {
			t.Errorf("at first: got %+v", r)
		}
		b.send(1)
		time.Sleep(polled.PollInterval - time.Millisecond)
		if r := b.read(); r.Fresh || r.Backlog.Visible != 1 || !r.At.Equal(b.start) {
			t.Errorf("within the interval: got %+v, want the reading of the start", r)
		}
		next := slices.DeleteFunc(b.Next(), time.Time.IsZero)
		if len(next) != 1 || time.Until(next[0]) != time.Millisecond {
			t.Errorf("got %v as the times of the next readings, want the end of the interval", next)
		}
		if r, err := b.Read(t.Context(), time.Now(), true); err != nil || !r.Fresh || r.Backlog.Visible != 2 {
			t.Errorf("fresh: got %+v and error %v", r, err)
		}
		b.send(1)
		time.Sleep(polled.PollInterval)
		if r := b.read(); !r.Fresh || r.Backlog.Visible != 3 {
			t.Errorf("after the interval: got %+v", r)
		}
	})
}

// TestFailedReadingIsRepeated, although the interval is not over.
func TestFailedReadingIsRepeated(t *testing.T) {
	run(t, polled, func(t *testing.T, b *bench) {
		b.read()
		b.send(1)
		b.queue.NextError(memqueue.OpBacklog, errAway)
		if _, err := b.Read(t.Context(), time.Now(), true); !errors.Is(err, errAway) {
			t.Errorf("got %v, want %v", err, errAway)
		}
		if r := b.read(); !r.Fresh || r.Backlog.Visible != 1 {
			t.Errorf("got %+v, want a new reading", r)
		}
	})
}

// TestHintsHaveTheQueueReadSoon checks that a hint has it read at once and once more later, and that many hints cost
// few readings.
func TestHintsHaveTheQueueReadSoon(t *testing.T) {
	run(t, polled, func(t *testing.T, b *bench) {
		b.read()
		var fresh []time.Duration
		for range 400 {
			if time.Since(b.start) < time.Second {
				b.Hint()
			}
			if b.read().Fresh {
				fresh = append(fresh, time.Since(b.start))
			}
			time.Sleep(10 * time.Millisecond)
		}
		want := []time.Duration{0, 500 * time.Millisecond, time.Second, 2500 * time.Millisecond}
		if !slices.Equal(fresh, want) {
			t.Errorf("got readings after %v, want %v", fresh, want)
		}
	})
}

// TestReadingIsCorrectedForWhatWasTaken: the requests that were taken do not wait any more, and those that were served
// are gone.
func TestReadingIsCorrectedForWhatWasTaken(t *testing.T) {
	opts := polled
	opts.TakesRequests = true
	run(t, opts, func(t *testing.T, b *bench) {
		b.send(1)
		if got, err := b.queue.Receive(t.Context(), 1, 0); err != nil || len(got) != 1 { // by somebody else
			t.Fatalf("got %d messages and error %v, want one", len(got), err)
		}
		b.send(3)
		b.read()
		if r := b.read(); r.Fresh || r.Backlog.Visible != 0 || r.Backlog.InFlight != 4 || r.Requests != 3 {
			t.Errorf("when taken: got %+v, want 4 in flight", r)
		}
		if err := b.Settle(t.Context(), &pool.Decision{}, true); err != nil {
			t.Error(err)
		}
		if r := b.read(); r.Fresh || r.Backlog.Visible != 0 || r.Backlog.InFlight != 1 || r.Requests != 0 {
			t.Errorf("when served: got %+v, want the one of somebody else", r)
		}
	})
}

// TestUsedReadingKeepsRequests: also a pass that reads nothing keeps them in flight, or says that it could not.
func TestUsedReadingKeepsRequests(t *testing.T) {
	opts := polled
	opts.TakesRequests, opts.PollInterval = true, time.Hour
	run(t, opts, func(t *testing.T, b *bench) {
		b.send(1)
		b.read()
		for range 10 {
			time.Sleep(b.queue.Visibility() / 2)
			b.read()
		}
		if got, err := b.queue.Backlog(t.Context()); err != nil || got.Visible != 0 {
			t.Errorf("got %+v and error %v, want the request in flight", got, err)
		}
		time.Sleep(b.queue.Visibility() / 2)
		b.queue.NextError(memqueue.OpExtend, errAway)
		r, err := b.Read(t.Context(), time.Now(), false)
		if !errors.Is(err, errAway) || r.Backlog.Known || r.Requests != 1 {
			t.Errorf("got %+v and error %v, want %v", r, err, errAway)
		}
	})
}

// TestAHangingQueueHoldsUpNoPass for longer than a few seconds.
func TestAHangingQueueHoldsUpNoPass(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, start := workload.New(hanging{memqueue.New("work", queue.Limits{})}, requests), time.Now()
		if _, err := w.Read(t.Context(), start, false); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
		}
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("the reading took %s", took)
		}
	})
}

// hanging is a queue that never tells its depth.
type hanging struct{ *memqueue.Queue }

// Backlog implements workload.Queue.
func (hanging) Backlog(ctx context.Context) (pool.Backlog, error) {
	<-ctx.Done()
	return pool.Backlog{}, ctx.Err()
}

// growing is a queue to which a message comes after each look at its depth.
type growing struct{ *memqueue.Queue }

// Backlog implements workload.Queue.
func (g growing) Backlog(ctx context.Context) (pool.Backlog, error) {
	b, err := g.Queue.Backlog(ctx)
	if err == nil {
		err = g.Send(ctx, []byte("late"))
	}
	return b, err
}

// TestReadingIsCorrectedForItsOwnMessagesOnly: requests that came after the look were not counted by it, and what
// others have in flight stays there.
func TestReadingIsCorrectedForItsOwnMessagesOnly(t *testing.T) {
	opts := polled
	opts.TakesRequests = true
	run(t, opts, func(t *testing.T, b *bench) {
		b.send(2)
		if got, err := b.queue.Receive(t.Context(), 1, 0); err != nil || len(got) != 1 {
			t.Fatalf("got %d messages and error %v, want one", len(got), err)
		}
		w := workload.New(growing{b.queue}, opts)
		for range 2 { // the second reading is the first one, corrected
			r, err := w.Read(t.Context(), time.Now(), false)
			if err != nil || r.Requests != 2 || r.Backlog.Visible < 0 {
				t.Errorf("got %+v and error %v, want 2 requests and none less than none", r, err)
			}
		}
		if err := w.Settle(t.Context(), &pool.Decision{}, true); err != nil {
			t.Error(err)
		}
		r, err := w.Read(t.Context(), time.Now(), false)
		if err != nil || r.Backlog.InFlight != 0 && r.Backlog.InFlight != 1 || r.Backlog.Visible != 0 {
			t.Errorf("when served: got %+v and error %v, want at most what others have", r, err)
		}
	})
}

// TestRequestsAreBounded: further ones wait on the queue.
func TestRequestsAreBounded(t *testing.T) {
	run(t, requests, func(t *testing.T, b *bench) {
		bodies := make([][]byte, 10_700)
		for i := range bodies {
			bodies[i] = []byte("x")
		}
		if err := b.queue.Send(t.Context(), bodies...); err != nil {
			t.Fatal(err)
		}
		b.read()
		b.wantPending("of 10,700", 10_000)
	})
}

// TestNoCallsWithoutNeed: requests that were taken just now need no extension, and where there are none nothing is
// handed back.
func TestNoCallsWithoutNeed(t *testing.T) {
	run(t, requests, func(t *testing.T, b *bench) {
		b.queue.FailAfter(memqueue.OpRelease, 0, errAway)
		b.queue.FailAfter(memqueue.OpExtend, 0, errAway)
		b.queue.FailAfter(memqueue.OpDelete, 0, errAway)
		if err := b.HandBack(t.Context()); err != nil {
			t.Errorf("with none: %v", err)
		}
		if err := b.Settle(t.Context(), &pool.Decision{}, true); err != nil {
			t.Errorf("with none: %v", err)
		}
		b.send(1)
		b.read()
		b.read()
	})
}
