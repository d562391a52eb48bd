package workload_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
	"cloudmaster/internal/queue/memqueue"
	"cloudmaster/services/controller/internal/workload"
)

// told is a queue that tells what the test says, and notes which receipts it is given.
type told struct {
	*memqueue.Queue

	backlog  pool.Backlog
	messages []queue.Message // what the next call of Receive gets
	receives int
	given    []string
}

// Backlog implements workload.Queue.
func (q *told) Backlog(context.Context) (pool.Backlog, error) { return q.backlog, nil }

// Receive implements workload.Queue.
func (q *told) Receive(context.Context, int, time.Duration) ([]queue.Message, error) {
	q.receives++
	out := q.messages
	q.messages = nil
	return out, nil
}

// Extend implements workload.Queue.
func (q *told) Extend(_ context.Context, receipts ...queue.Receipt) error {
	q.given = append(q.given, fmt.Sprintf("extend %q", receipts))
	return nil
}

// Delete implements workload.Queue.
func (q *told) Delete(_ context.Context, receipts ...queue.Receipt) error {
	q.given = append(q.given, fmt.Sprintf("delete %q", receipts))
	return nil
}

func request(id string) queue.Message { return queue.Message{ID: id, Receipt: queue.Receipt("r" + id)} }

// tell puts a queue that tells what the test says in the place of the one in memory.
func (b *bench) tell(opts workload.Options) *told {
	q := &told{Queue: b.queue}
	b.Workload = workload.New(q, opts)
	return q
}

// due lists when the queue must be looked at, counted from the start.
func (b *bench) due() (out []time.Duration) {
	for _, at := range b.Next() {
		if !at.IsZero() {
			out = append(out, at.Sub(b.start))
		}
	}
	slices.Sort(out)
	return out
}

func (b *bench) wantDue(when string, want ...time.Duration) {
	b.t.Helper()
	if got := b.due(); !slices.Equal(got, want) {
		b.t.Errorf("%s: got looks due after %v, want %v", when, got, want)
	}
}

// TestWhatIsWatchedIsReadEachTime, from the next reading after the change of the options on.
func TestWhatIsWatchedIsReadEachTime(t *testing.T) {
	run(t, polled, func(_ *testing.T, b *bench) {
		b.wantDue("before the first reading")
		b.read()
		b.wantDue("after it", polled.PollInterval)
		b.Change(requests)
		b.wantDue("when it tells of arrivals")
		b.send(1)
		if r := b.read(); !r.Fresh || r.Requests != 1 || !r.Backlog.Known {
			b.t.Errorf("got %+v, want a new reading that takes the request", r)
		}
	})
}

// TestAHintThatMustWaitIsLookedAtInTime, also if the clock was put back since the last look.
func TestAHintThatMustWaitIsLookedAtInTime(t *testing.T) {
	run(t, polled, func(t *testing.T, b *bench) {
		readAt := func(after time.Duration) bool {
			r, err := b.Read(t.Context(), b.start.Add(after), false)
			if err != nil {
				t.Fatal(err)
			}
			return r.Fresh
		}
		b.Hint()
		if !readAt(0) {
			t.Error("got the old reading, want the hint followed at once")
		}
		b.wantDue("after the look", 1500*time.Millisecond, polled.PollInterval)
		b.Hint()
		if readAt(100 * time.Millisecond) {
			t.Error("got a new reading so soon after the last")
		}
		b.wantDue("with a hint that must wait", 500*time.Millisecond, polled.PollInterval)
		if !readAt(500*time.Millisecond) || !readAt(2*time.Second) {
			t.Error("got old readings, want the second hint followed, and looked at once more")
		}
		b.Hint()
		readAt(600 * time.Millisecond) // the clock was put back
		b.wantDue("after the clock was put back", time.Second, 2*time.Second+polled.PollInterval)
	})
}

// TestOnlyWhatIsThereIsAskedFor: a queue on which nothing is visible gets no call that takes messages.
func TestOnlyWhatIsThereIsAskedFor(t *testing.T) {
	run(t, requests, func(t *testing.T, b *bench) {
		q := b.tell(requests)
		if b.read(); q.receives != 0 {
			t.Errorf("got %d calls, want none", q.receives)
		}
	})
}

// TestReceiptsAreThoseOfPendingRequests, in the order of the requests' ids.
func TestReceiptsAreThoseOfPendingRequests(t *testing.T) {
	run(t, requests, func(t *testing.T, b *bench) {
		q := b.tell(requests)
		q.backlog.Visible, q.messages = 2, []queue.Message{request("2"), request("1")}
		b.read()
		time.Sleep(b.queue.Visibility() / 2)
		b.read()
		if err := b.Settle(t.Context(), &pool.Decision{}, true); err != nil {
			t.Error(err)
		}
		if got := fmt.Sprint(q.given); got != `[extend ["r1" "r2"] delete ["r1" "r2"]]` {
			t.Errorf("got %s, want both receipts, twice", got)
		}
		b.wantDue("when none is pending")
	})
}

// TestServedRequestsThatCannotBeDeletedComeAgain, and the error says so.
func TestServedRequestsThatCannotBeDeletedComeAgain(t *testing.T) {
	run(t, requests, func(t *testing.T, b *bench) {
		b.send(1)
		b.read()
		b.queue.NextError(memqueue.OpDelete, errAway)
		if err := b.Settle(t.Context(), &pool.Decision{}, true); !errors.Is(err, errAway) {
			t.Errorf("got %v, want %v", err, errAway)
		}
		b.wantPending("when they were served", 0)
		time.Sleep(b.queue.Visibility())
		b.read()
		b.wantPending("when they came again", 1)
	})
}

// TestReadingIsCorrectedForWhatThisReadingTook: what was pending before is in flight already.
func TestReadingIsCorrectedForWhatThisReadingTook(t *testing.T) {
	opts := polled
	opts.TakesRequests = true
	run(t, opts, func(t *testing.T, b *bench) {
		q := b.tell(opts)
		q.backlog, q.messages = pool.Backlog{Visible: 1}, []queue.Message{request("1")}
		b.read()
		want := func(when string, want pool.Backlog) {
			t.Helper()
			want.Known = true
			if r := b.read(); r.Fresh || r.Backlog != want {
				t.Errorf("%s: got %+v, want %+v, corrected", when, r, want)
			}
		}
		want("one was taken", pool.Backlog{InFlight: 1})
		q.backlog = pool.Backlog{Visible: 3, InFlight: 1} // others take two of the three
		q.messages = []queue.Message{request("2")}
		if _, err := b.Read(t.Context(), time.Now(), true); err != nil {
			t.Fatal(err)
		}
		want("another one was taken", pool.Backlog{Visible: 2, InFlight: 2})
		if err := b.Settle(t.Context(), &pool.Decision{}, false); err != nil {
			t.Error(err)
		}
		want("not served", pool.Backlog{Visible: 2, InFlight: 2})
		if err := b.Settle(t.Context(), &pool.Decision{}, true); err != nil {
			t.Error(err)
		}
		want("served", pool.Backlog{Visible: 2})
	})
}
