// Package queuetest checks that an implementation of queue.Queue keeps the
// contract of that package: Run is called by the tests of each.
//
// The suite uses real time, and only such limits as every broker can do:
// visibility in multiples of the harness's unit, receives that may return less than asked.
package queuetest

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
)

// Harness makes queues and says what the broker behind them can do. The fields without
// "may be" are required.
type Harness struct {
	// Make creates an empty queue with these limits, and opens it. It is gone when the test ends.
	Make func(t *testing.T, limits queue.Limits) queue.Queue
	// Open opens an existing queue, as another process would.
	Open func(ctx context.Context, name string) (queue.Queue, error)
	// Remove deletes a queue behind the back of those who have it open. May be nil: not tested.
	Remove func(t *testing.T, name string)
	// Unit is the shortest visibility timeout that the broker can do and the suite can trust
	// not to be over while a test looks once; 0 means 1 s.
	Unit time.Duration
	// Lag is how long Backlog, and the disappearance of a queue, may take to show.
	Lag time.Duration
	// TooLarge is the size of a body that must be refused.
	TooLarge int
	// Ordered: messages come in the order sent when nothing is returned or lost.
	Ordered bool
	// ExactBacklog: messages that were released or whose visibility timeout is over all count as visible.
	// Without it at least one does.
	ExactBacklog bool
	// CancelTakes: a receive that is cancelled while it waits may take a message away, until
	// the visibility timeout is over: the broker does not notice that nobody listens any more.
	CancelTakes bool
	// InertReceipts: a receipt of an earlier delivery has no effect. Without it one may act
	// on the message's newest delivery.
	InertReceipts bool
}

// Run runs the suite.
func Run(t *testing.T, h Harness) {
	h.Unit = cmp.Or(h.Unit, time.Second)
	for _, group := range []map[string]func(*testing.T, Harness){deliveryTests(), settleTests(), countTests(), faultTests()} {
		for name, test := range group {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test(t, h)
			})
		}
	}
}

const (
	soon   = 5 * time.Second        // what should happen at once, on a busy machine
	moment = 150 * time.Millisecond // long enough that what is forbidden would mostly have happened
)

// send sends the bodies.
func send(t *testing.T, q queue.Queue, bodies ...string) {
	t.Helper()
	raw := make([][]byte, len(bodies))
	for i, b := range bodies {
		raw[i] = []byte(b)
	}
	if err := q.Send(t.Context(), raw...); err != nil {
		t.Fatalf("send %d messages: %v", len(bodies), err)
	}
}

// receive takes exactly n messages, in as many calls as it needs, within limit.
func receive(t *testing.T, q queue.Queue, n int, limit time.Duration) []queue.Message {
	t.Helper()
	var got []queue.Message
	for deadline := time.Now().Add(limit); len(got) < n; {
		wait := time.Until(deadline)
		if wait <= 0 {
			t.Fatalf("got %d messages within %v, want %d", len(got), limit, n)
		}
		msgs, err := q.Receive(t.Context(), n-len(got), min(wait, time.Second))
		if err != nil {
			t.Fatalf("receive: %v", err)
		}
		got = append(got, msgs...)
	}
	if len(got) > n {
		t.Fatalf("got %d messages, asked for at most %d", len(got), n)
	}
	return got
}

// nothing fails if a message is there, or comes within wait.
func nothing(t *testing.T, q queue.Queue, wait time.Duration) {
	t.Helper()
	msgs, err := q.Receive(t.Context(), 1, wait)
	if err != nil {
		t.Fatalf("receive: %v", err)
	}
	if len(msgs) > 0 {
		t.Fatalf("got message %q (delivery %d), want none", msgs[0].Body, msgs[0].Deliveries)
	}
}

// backlog waits until the backlog is as wanted, for as long as it may lag.
func backlog(t *testing.T, h Harness, q queue.Queue, what string, want func(pool.Backlog) bool) {
	t.Helper()
	for deadline := time.Now().Add(h.Lag + soon); ; pause(t, 20*time.Millisecond) {
		got, err := q.Backlog(t.Context())
		if err != nil {
			t.Fatalf("backlog: %v", err)
		}
		if want(got) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("got backlog %+v, want %s", got, what)
		}
	}
}

// exactly is the want of backlog for these numbers.
func exactly(visible, inFlight int) (what string, want func(pool.Backlog) bool) {
	b := pool.Backlog{Known: true, Visible: visible, InFlight: inFlight}
	return fmt.Sprintf("%+v", b), func(got pool.Backlog) bool { return got == b }
}

func pause(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
		t.Fatal("the test is over")
	}
}

func bodies(msgs []queue.Message) []string {
	out := make([]string, len(msgs))
	for i, m := range msgs {
		out[i] = string(m.Body)
	}
	return out
}

func receipts(msgs []queue.Message) []queue.Receipt {
	out := make([]queue.Receipt, len(msgs))
	for i, m := range msgs {
		out[i] = m.Receipt
	}
	return out
}

// numbered returns n different bodies in ascending order.
func numbered(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("message %06d", i)
	}
	return out
}

// same fails unless got has the bodies wanted, in their order if the broker keeps it.
func same(t *testing.T, h Harness, got []queue.Message, want []string) {
	t.Helper()
	have := bodies(got)
	if !h.Ordered {
		have, want = slices.Sorted(slices.Values(have)), slices.Sorted(slices.Values(want))
	}
	if !slices.Equal(have, want) {
		t.Fatalf("got %d messages %.200q, want %d %.200q", len(have), have, len(want), want)
	}
}

// dead opens the dead letters of q.
func dead(t *testing.T, h Harness, q queue.Queue) queue.Queue {
	t.Helper()
	d, err := h.Open(t.Context(), queue.DeadLetters(q.Name()))
	if err != nil {
		t.Fatalf("open dead letters: %v", err)
	}
	return d
}
