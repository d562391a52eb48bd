package request_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"cloudmaster/internal/queue"
	"cloudmaster/services/allocator/internal/request"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeQueue keeps what is sent. It can be missing, broken, or slow.
type fakeQueue struct {
	mu     sync.Mutex
	bodies []string      // guarded by mu
	opens  int           // guarded by mu
	err    error         // guarded by mu: what Send returns
	absent error         // guarded by mu: what opening returns
	delay  time.Duration // guarded by mu: how long Send takes
}

func (q *fakeQueue) open(context.Context) (request.Sender, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.opens++
	if q.absent != nil {
		return nil, q.absent
	}
	return q, nil
}

func (q *fakeQueue) Send(ctx context.Context, bodies ...[]byte) error {
	q.mu.Lock()
	delay := q.delay
	q.mu.Unlock()
	select {
	case <-time.After(delay):
	case <-ctx.Done():
		return ctx.Err()
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil {
		return q.err
	}
	for _, b := range bodies {
		q.bodies = append(q.bodies, string(b))
	}
	return nil
}

func (q *fakeQueue) set(change func(q *fakeQueue)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	change(q)
}

func (q *fakeQueue) sent() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.bodies)
}

func newRequester(t *testing.T, q *fakeQueue, opts request.Options) *request.Requester {
	t.Helper()
	r, err := request.New(q.open, opts)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func wantOutcome(t *testing.T, r *request.Requester, client string, want request.Outcome) {
	t.Helper()
	got, err := r.Request(t.Context(), client)
	if got != want || (err != nil) != (want == request.Failed) {
		t.Errorf("%s: got %v and error %v, want %v", client, got, err, want)
	}
}

func TestOnePerClientAndInterval(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := &fakeQueue{}
		r := newRequester(t, q, request.Options{Interval: time.Minute})
		wantOutcome(t, r, "a", request.Queued)
		wantOutcome(t, r, "a", request.Recent)
		time.Sleep(30 * time.Second)
		wantOutcome(t, r, "b", request.Queued)
		time.Sleep(30*time.Second - time.Nanosecond)
		wantOutcome(t, r, "a", request.Recent)
		time.Sleep(time.Nanosecond)
		wantOutcome(t, r, "a", request.Queued)
		wantOutcome(t, r, "b", request.Recent)
		if got, want := strings.Join(q.bodies, " "), "startup startup startup"; got != want {
			t.Errorf("got %q on the queue, want %q", got, want)
		}
		if q.opens != 1 {
			t.Errorf("got %d opens of the queue, want 1", q.opens)
		}
	})
}

func TestAFailedRequestIsRetriedAtTheNextCall(t *testing.T) {
	t.Parallel()
	q := &fakeQueue{absent: queue.ErrNotFound}
	r := newRequester(t, q, request.Options{})
	_, err := r.Request(t.Context(), "a")
	if !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("queue missing: got %v, want ErrNotFound", err)
	}
	q.set(func(q *fakeQueue) { q.absent, q.err = nil, queue.ErrThrottled })
	wantOutcome(t, r, "a", request.Failed)
	q.set(func(q *fakeQueue) { q.err = nil })
	wantOutcome(t, r, "a", request.Queued)
	wantOutcome(t, r, "a", request.Recent)
	if q.opens != 2 {
		t.Errorf("got %d opens, want 2: a throttled queue is kept", q.opens)
	}
}

func TestAVanishedQueueIsOpenedAnew(t *testing.T) {
	t.Parallel()
	for _, gone := range []error{queue.ErrNotFound, queue.ErrClosed} {
		t.Run(gone.Error(), func(t *testing.T) {
			t.Parallel()
			q := &fakeQueue{err: fmt.Errorf("send: %w", gone)}
			r := newRequester(t, q, request.Options{})
			wantOutcome(t, r, "a", request.Failed)
			q.set(func(q *fakeQueue) { q.err = nil })
			wantOutcome(t, r, "a", request.Queued)
			if q.opens != 2 {
				t.Errorf("got %d opens, want 2", q.opens)
			}
		})
	}
}

func TestTheTimeoutBoundsTheAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := &fakeQueue{delay: time.Hour}
		r := newRequester(t, q, request.Options{Timeout: time.Second})
		start := time.Now()
		wantOutcome(t, r, "a", request.Failed)
		if got := time.Since(start); got != time.Second {
			t.Errorf("took %v, want 1s", got)
		}
	})
}

func TestAClientThatHangsUpIsStillCounted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := &fakeQueue{delay: time.Second}
		r := newRequester(t, q, request.Options{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if got, err := r.Request(ctx, "a"); got != request.Queued {
			t.Errorf("got %v, %v, want queued", got, err)
		}
	})
}

// While one call of a client is being sent, a second one must not send again.
func TestSideBySide(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := &fakeQueue{delay: time.Second}
		r := newRequester(t, q, request.Options{})
		var wg sync.WaitGroup
		for i := range 40 {
			wg.Go(func() {
				if _, err := r.Request(t.Context(), fmt.Sprint("client", i%4)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if got := q.sent(); got != 4 {
			t.Errorf("got %d messages for 4 clients, want 4", got)
		}
	})
}

func TestTheTableIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := &fakeQueue{}
		r := newRequester(t, q, request.Options{Clients: 3, Interval: time.Minute})
		for i := range 1000 {
			if _, err := r.Request(t.Context(), fmt.Sprint("client", i)); err != nil {
				t.Fatal(err)
			}
		}
		if got := q.sent(); got != 4 {
			t.Errorf("got %d messages, want 3 and one for the crowd", got)
		}
		time.Sleep(time.Minute)
		wantOutcome(t, r, "client999", request.Queued)
		wantOutcome(t, r, "client999", request.Recent)
	})
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for _, opts := range []request.Options{{Interval: -1}, {Timeout: -1}, {Clients: -1}} {
		if _, err := request.New(nil, opts); err == nil {
			t.Errorf("%+v: got no error", opts)
		}
	}
}

func TestOutcomeNames(t *testing.T) {
	t.Parallel()
	want := map[request.Outcome]string{
		request.Failed: "failed", request.Queued: "queued", request.Recent: "recently_queued", 99: "unknown",
	}
	for o, name := range want {
		if got := o.String(); got != name {
			t.Errorf("got %q, want %q", got, name)
		}
	}
}
