package queuetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"cloudmaster/internal/queue"
)

func faultTests() map[string]func(*testing.T, Harness) {
	return map[string]func(*testing.T, Harness){
		"a body that is too large":             testTooLarge,
		"cancelled calls":                      testCancelled,
		"a queue that nobody made":             testNeverMade,
		"a queue that was deleted":             testDeleted,
		"a queue that is deleted while waited": testDeletedWhileWaiting,
		"dead letters that were deleted":       testDeletedLetters,
	}
}

func testTooLarge(t *testing.T, h Harness) {
	q := h.Make(t, queue.Limits{})
	if err := q.Send(t.Context(), []byte("small"), make([]byte, h.TooLarge)); !errors.Is(err, queue.ErrTooLarge) {
		t.Errorf("send %d bytes: got %v, want %v", h.TooLarge, err, queue.ErrTooLarge)
	}
	if err := q.Send(t.Context(), []byte("fits")); err != nil {
		t.Errorf("send after that: %v", err)
	}
}

// calls returns each method that takes a ctx as a function. Those that take no message ignore it.
func calls(q queue.Queue) map[string]func(context.Context, queue.Message) error {
	return map[string]func(context.Context, queue.Message) error{
		"send":    func(ctx context.Context, _ queue.Message) error { return q.Send(ctx, []byte("x")) },
		"receive": func(ctx context.Context, _ queue.Message) error { _, err := q.Receive(ctx, 1, 0); return err },
		"wait":    func(ctx context.Context, _ queue.Message) error { _, err := q.Receive(ctx, 1, 3*soon); return err },
		"extend":  func(ctx context.Context, m queue.Message) error { return q.Extend(ctx, m.Receipt) },
		"release": func(ctx context.Context, m queue.Message) error { return q.Release(ctx, m.Receipt) },
		"delete":  func(ctx context.Context, m queue.Message) error { return q.Delete(ctx, m.Receipt) },
		"bury":    func(ctx context.Context, m queue.Message) error { return q.Bury(ctx, m, "test") },
		"backlog": func(ctx context.Context, _ queue.Message) error { _, err := q.Backlog(ctx); return err },
	}
}

func testCancelled(t *testing.T, h Harness) {
	q := h.Make(t, queue.Limits{Visibility: time.Minute})
	send(t, q, "kept")
	m := receive(t, q, 1, soon)[0]
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, call := range calls(q) {
		if err := call(ctx, m); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v, want %v", name, err, context.Canceled)
		}
	}
	ctx, cancel = context.WithTimeout(t.Context(), moment)
	defer cancel()
	start := time.Now()
	if _, err := q.Receive(ctx, 1, time.Minute); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
	}
	if took := time.Since(start); took > soon {
		t.Errorf("the end of ctx ended a wait after %v", took)
	}
}

func testNeverMade(t *testing.T, h Harness) {
	q := h.Make(t, queue.Limits{})
	if _, err := h.Open(t.Context(), q.Name()+"x"); !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("open: got %v, want %v", err, queue.ErrNotFound)
	}
}

func testDeleted(t *testing.T, h Harness) {
	if h.Remove == nil {
		t.Skip("this harness cannot delete queues")
	}
	q := h.Make(t, queue.Limits{Visibility: time.Minute})
	send(t, q, "lost")
	m := receive(t, q, 1, soon)[0]
	h.Remove(t, q.Name())
	pause(t, h.Lag)
	for name, call := range calls(q) {
		if err := call(t.Context(), m); !errors.Is(err, queue.ErrNotFound) {
			t.Errorf("%s: got %v, want %v", name, err, queue.ErrNotFound)
		}
	}
}

func testDeletedWhileWaiting(t *testing.T, h Harness) {
	if h.Remove == nil {
		t.Skip("this harness cannot delete queues")
	}
	q := h.Make(t, queue.Limits{})
	gone := make(chan error, 1)
	start := time.Now()
	go func() {
		_, err := q.Receive(t.Context(), 1, 4*soon)
		gone <- err
	}()
	pause(t, moment)
	h.Remove(t, q.Name())
	if err := <-gone; !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("got %v, want %v", err, queue.ErrNotFound)
	}
	if took := time.Since(start); took > h.Lag+2*soon {
		t.Errorf("the receive that waited returned only %v after the queue was deleted", took)
	}
}

// testDeletedLetters checks that a message is not lost whose dead letters were deleted: it is buried in dead letters
// that are made anew, or it cannot be buried and stays in flight.
func testDeletedLetters(t *testing.T, h Harness) {
	if h.Remove == nil {
		t.Skip("this harness cannot delete queues")
	}
	q := h.Make(t, queue.Limits{Visibility: time.Minute})
	send(t, q, "no job")
	m := receive(t, q, 1, soon)[0]
	h.Remove(t, queue.DeadLetters(q.Name()))
	pause(t, h.Lag)
	err := q.Bury(t.Context(), m, "test")
	if err == nil {
		same(t, h, receive(t, dead(t, h, q), 1, soon), []string{"no job"})
		return
	}
	if !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("bury: got %v, want %v", err, queue.ErrNotFound)
	}
	if err := q.Release(t.Context(), m.Receipt); err != nil {
		t.Errorf("release: %v", err)
	}
	same(t, h, receive(t, q, 1, soon), []string{"no job"})
}
