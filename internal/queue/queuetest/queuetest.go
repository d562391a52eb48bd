// Package queuetest checks that an implementation of queue.Queue keeps the contract of that
// package. The tests of each implementation call Run.
//
// The suite uses real time, and only limits that every broker supports: visibility timeouts are
// multiples of the harness's unit, and a receive may return fewer messages than were asked for.
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

// Harness makes queues and describes what the broker behind them can do. All fields are required
// except those that say "may be nil" or give a default.
type Harness struct {
	// Make creates an empty queue with these limits and opens it. The queue is removed when the test ends.
	Make func(t *testing.T, limits queue.Limits) queue.Queue
	// Open opens an existing queue, as another process would.
	Open func(ctx context.Context, name string) (queue.Queue, error)
	// Remove deletes a queue while others have it open. May be nil: then this is not tested.
	Remove func(t *testing.T, name string)
	// Ages is what queue.Ager has. May be nil: then nothing tells how old messages are.
	Ages func(ctx context.Context, names ...string) (map[string]queue.Age, error)
	// Unit is the shortest visibility timeout that the broker supports and that is surely longer than
	// one look of a test. 0 means 1 s.
	Unit time.Duration
	// Lag is how long it may take until Backlog shows a change, and until a deleted queue is gone.
	Lag time.Duration
	// TooLarge is the size of a body that must be refused.
	TooLarge int
	// Ordered says that messages come in the order in which they were sent, as long as none is
	// released or times out.
	Ordered bool
	// ExactBacklog says that all messages that were released, or whose visibility timeout is over,
	// count as visible. Without it at least one of them does.
	ExactBacklog bool
	// CancelTakes says that a receive that is cancelled while it waits may take a message away until
	// the visibility timeout is over, because the broker does not notice that nobody listens any more.
	CancelTakes bool
	// InertReceipts says that the receipt of an earlier delivery has no effect. Without it such a
	// receipt may act on the newest delivery of the message.
	InertReceipts bool
}

// Run runs the suite on the harness's queues.
func Run(t *testing.T, h Harness) {
	h.Unit = cmp.Or(h.Unit, time.Second)
	groups := []map[string]func(*testing.T, Harness){
		deliveryTests(), settleTests(), countTests(), ageTests(), faultTests(),
	}
	for _, group := range groups {
		for name, test := range group {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test(t, h)
			})
		}
	}
}

const (
	soon   = 5 * time.Second        // limit for what should happen at once, also on a busy machine
	moment = 150 * time.Millisecond // long enough that something forbidden would probably have happened
)

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

// receive receives exactly n messages, in as many calls as it needs, and fails if limit is over before.
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

// nothing fails the test if a message is there, or comes within wait.
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

// backlog waits until the backlog meets the condition want, at most for the harness's Lag and then some.
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

// exactly returns the arguments of backlog that want exactly these counts.
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

// same fails the test unless got has exactly the bodies wanted, in the same order if the broker keeps it.
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

// dead opens the queue of q's dead letters.
func dead(t *testing.T, h Harness, q queue.Queue) queue.Queue {
	t.Helper()
	d, err := h.Open(t.Context(), queue.DeadLetters(q.Name()))
	if err != nil {
		t.Fatalf("open dead letters: %v", err)
	}
	return d
}
