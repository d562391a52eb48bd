package request_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cloudmaster/services/allocator/internal/request"
)

// watched is a queue that can tell of messages by itself.
type watched struct{ *fakeQueue }

func (watched) Watch(context.Context) (<-chan struct{}, error) { return nil, nil }

func (w watched) open(ctx context.Context) (request.Sender, error) {
	if _, err := w.fakeQueue.open(ctx); err != nil {
		return nil, err
	}
	return w, nil
}

func TestHints(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		work, status := &fakeQueue{}, &fakeQueue{}
		r := newRequester(t, work, request.Options{Queue: "fib-work", Hints: status.open})
		for i := range 10 { // four a second
			if out, err := r.Request(t.Context(), fmt.Sprint(i)); out != request.Queued || err != nil {
				t.Errorf("got %v, %v, want it queued", out, err)
			}
			time.Sleep(250 * time.Millisecond)
		}
		if got := len(status.bodies); got != 3 || !strings.Contains(status.bodies[0], `"type":"hint","queue":"fib-work"`) {
			t.Errorf("got hints %q, want 3: one a second", status.bodies)
		}
		if status.opens != 1 {
			t.Errorf("got the status queue opened %d times, want once", status.opens)
		}
	})
}

// TestHintsFail: a hint that cannot be sent is no failure, and the queue is opened anew.
func TestHintsFail(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		work, status := &fakeQueue{}, &fakeQueue{err: errors.New("away")}
		r := newRequester(t, work, request.Options{Queue: "fib-work", Hints: status.open})
		for i := range 3 {
			if i == 2 {
				status.set(func(q *fakeQueue) { q.err = nil })
			}
			if out, err := r.Request(t.Context(), fmt.Sprint(i)); out != request.Queued || err != nil {
				t.Errorf("got %v, %v, want it queued", out, err)
			}
			time.Sleep(time.Second)
		}
		if len(status.bodies) != 1 || status.opens != 3 || len(work.bodies) != 3 {
			t.Errorf("got hints %q, %d opened, %d requests, want 1, 3, 3", status.bodies, status.opens, len(work.bodies))
		}
	})
}

func TestNoHintsWhereNoneAreNeeded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		work, status := watched{&fakeQueue{}}, &fakeQueue{}
		r, err := request.New(work.open, request.Options{Queue: "fib-work", Hints: status.open})
		if err != nil {
			t.Fatal(err)
		}
		if out, err := r.Request(t.Context(), "a"); out != request.Queued || err != nil || status.opens != 0 {
			t.Errorf("got %v, %v, status queue opened %d times, want it queued without a hint", out, err, status.opens)
		}
	})
}
