package request_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cloudmaster/internal/backend/membackend"
	"cloudmaster/internal/hint"
	"cloudmaster/internal/queue"
	"cloudmaster/internal/queue/memqueue"
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

// newHints returns hints about fib-work and the queue that they go to.
func newHints(t *testing.T) (*hint.Sender, *memqueue.Queue) {
	t.Helper()
	b := membackend.New()
	q, err := b.Ensure(t.Context(), "cloudmaster-hints", queue.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return hint.New(b, hint.Options{Work: "fib-work", Hints: "cloudmaster-hints"}), q.(*memqueue.Queue)
}

func TestHints(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hints, sent := newHints(t)
		r := newRequester(t, &fakeQueue{}, request.Options{Hints: hints})
		for i := range 10 { // four a second
			wantOutcome(t, r, fmt.Sprint(i), request.Queued)
			time.Sleep(250 * time.Millisecond)
		}
		if got := sent.Bodies(); len(got) != 3 || !strings.Contains(got[0], `"type":"hint","queue":"fib-work"`) {
			t.Errorf("got hints %q, want 3: one a second", got)
		}
	})
}

func TestAHintThatCannotBeSentIsNoFailure(t *testing.T) {
	t.Parallel()
	hints, sent := newHints(t)
	sent.FailAfter(memqueue.OpSend, 0, errors.New("away"))
	work := &fakeQueue{}
	wantOutcome(t, newRequester(t, work, request.Options{Hints: hints}), "a", request.Queued)
	if work.sent() != 1 || len(sent.Bodies()) != 0 {
		t.Errorf("got %d requests and hints %q, want 1 and none", work.sent(), sent.Bodies())
	}
}

func TestNoHintIsSentForARequestThatFailed(t *testing.T) {
	t.Parallel()
	hints, sent := newHints(t)
	r := newRequester(t, &fakeQueue{err: errors.New("away")}, request.Options{Hints: hints})
	wantOutcome(t, r, "a", request.Failed)
	if got := sent.Bodies(); len(got) != 0 {
		t.Errorf("got hints %q, want none", got)
	}
}

func TestNoHintsWhereNoneAreNeeded(t *testing.T) {
	t.Parallel()
	hints, sent := newHints(t)
	r, err := request.New(watched{&fakeQueue{}}.open, request.Options{Hints: hints})
	if err != nil {
		t.Fatal(err)
	}
	wantOutcome(t, r, "a", request.Queued)
	if got := sent.Bodies(); len(got) != 0 {
		t.Errorf("got hints %q, want none", got)
	}
}
