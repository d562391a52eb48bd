package queuetest

import (
	"testing"
	"time"

	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
)

func countTests() map[string]func(*testing.T, Harness) {
	return map[string]func(*testing.T, Harness){
		"backlog counts":                 testBacklog,
		"backlog counts what comes back": testBacklogAfterRelease,
		"backlog counts what expired":    testBacklogAfterExpiry,
	}
}

func testBacklog(t *testing.T, h Harness) {
	q := h.Make(t, queue.Limits{Visibility: time.Minute})
	check := func(visible, inFlight int) {
		t.Helper()
		what, want := exactly(visible, inFlight)
		backlog(t, h, q, what, want)
	}
	check(0, 0)
	send(t, q, numbered(12)...)
	check(12, 0)
	got := receive(t, q, 5, soon)
	check(7, 5)
	if err := q.Delete(t.Context(), receipts(got[:2])...); err != nil {
		t.Fatalf("delete: %v", err)
	}
	check(7, 3)
	receive(t, q, 7, soon)
	check(0, 10)
}

// comesBack returns the condition for the backlog of n messages that can be received again, beside
// others in flight. It accepts whatever the contract allows.
func comesBack(h Harness, n, inFlight int) (what string, want func(pool.Backlog) bool) {
	if h.ExactBacklog {
		return exactly(n, inFlight)
	}
	return "all messages, at least one of them visible", func(b pool.Backlog) bool {
		return b.Known && b.Visible >= 1 && b.Visible <= n && b.Visible+b.InFlight == n+inFlight
	}
}

func testBacklogAfterRelease(t *testing.T, h Harness) {
	q := h.Make(t, queue.Limits{Visibility: time.Minute})
	send(t, q, numbered(5)...)
	got := receive(t, q, 5, soon)
	if err := q.Release(t.Context(), receipts(got[:3])...); err != nil {
		t.Fatalf("release: %v", err)
	}
	what, want := comesBack(h, 3, 2)
	backlog(t, h, q, what, want)
	for _, m := range receive(t, q, 3, soon) { // 2 deliveries: counting did not add one
		if m.Deliveries != 2 {
			t.Errorf("got delivery %d, want 2", m.Deliveries)
		}
	}
	what, want = exactly(0, 5)
	backlog(t, h, q, what, want)
}

func testBacklogAfterExpiry(t *testing.T, h Harness) {
	q := h.Make(t, queue.Limits{Visibility: 2 * h.Unit})
	send(t, q, numbered(4)...)
	receive(t, q, 4, soon) // by a worker that is killed now: it never deletes them
	what, want := exactly(0, 4)
	backlog(t, h, q, what, want)
	pause(t, 2*h.Unit)
	what, want = comesBack(h, 4, 0)
	backlog(t, h, q, what, want)
	receive(t, q, 4, soon)
}
