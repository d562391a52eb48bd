package hint_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"cloudmaster/internal/backend/membackend"
	"cloudmaster/internal/hint"
	"cloudmaster/internal/queue"
	"cloudmaster/internal/queue/memqueue"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// counted is a backend with one queue of hints, and counts how often that is opened.
type counted struct {
	*membackend.Backend

	hints *memqueue.Queue
	mu    sync.Mutex
	opens int // guarded by mu
}

func newBackend(t *testing.T) *counted {
	t.Helper()
	b := membackend.New()
	q, err := b.Ensure(t.Context(), "cloudmaster-hints", queue.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return &counted{Backend: b, hints: q.(*memqueue.Queue)}
}

func (c *counted) Queue(ctx context.Context, name string) (queue.Queue, error) {
	c.mu.Lock()
	c.opens++
	c.mu.Unlock()
	return c.Backend.Queue(ctx, name)
}

func (c *counted) want(t *testing.T, hints, opens int) {
	t.Helper()
	got := c.hints.Bodies()
	if len(got) != hints || c.opens != opens {
		t.Errorf("got hints %q and the queue opened %d times, want %d hints and %d times", got, c.opens, hints,
			opens)
	}
	for _, body := range got {
		if !strings.Contains(body, `"type":"hint","queue":"fib-work"`) {
			t.Errorf("got %s, want a hint about fib-work", body)
		}
	}
}

var options = hint.Options{Work: "fib-work", Hints: "cloudmaster-hints"}

func TestOneHintASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBackend(t)
		s := hint.New(b, options)
		for range 10 { // four a second
			s.Stored(t.Context())
			time.Sleep(250 * time.Millisecond)
		}
		b.want(t, 3, 1)
	})
}

func TestFlushSendsTheHintThatIsOwed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBackend(t)
		s := hint.New(b, options)
		stopped, cancel := context.WithCancel(t.Context())
		s.Flush(stopped) // nothing was stored
		b.want(t, 0, 0)
		s.Stored(stopped)
		s.Flush(stopped) // all that was stored is told
		b.want(t, 1, 1)
		s.Stored(stopped)
		cancel()
		s.Flush(stopped)
		s.Flush(stopped)
		b.want(t, 2, 1)
	})
}

func TestOpenedBeforehand(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	s := hint.New(b, options)
	s.Open(t.Context())
	b.want(t, 0, 1)
	s.Stored(t.Context())
	b.want(t, 1, 1)
}

// After a hint that could not be sent the queue is opened anew.
func TestAFailureIsNoError(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBackend(t)
		b.hints.FailAfter(memqueue.OpSend, 0, errors.New("away"))
		s := hint.New(b, options)
		for range 3 {
			s.Stored(t.Context())
			time.Sleep(time.Second)
		}
		b.want(t, 0, 3)
		b.hints.Heal()
		s.Stored(t.Context())
		b.want(t, 1, 4)
	})
}

func TestThereIsNoSuchQueue(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	s := hint.New(b, hint.Options{Work: "fib-work", Hints: "other"})
	s.Open(t.Context())
	s.Stored(t.Context())
	b.want(t, 0, 2)
}

func TestASlowQueueIsGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		hint.New(hanging{}, options).Stored(t.Context())
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("took %s, want 2s", took)
		}
	})
}

// hanging is a backend that answers nothing.
type hanging struct{}

func (hanging) Queue(ctx context.Context, _ string) (queue.Queue, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestNoQueue(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	s := hint.New(b, hint.Options{Work: "fib-work"})
	s.Open(t.Context())
	s.Stored(t.Context())
	s.Flush(t.Context())
	b.want(t, 0, 0)
}

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	s := hint.New(b, options)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() { s.Stored(t.Context()) })
	}
	wg.Wait()
	b.want(t, 1, 1)
}

func TestNeeded(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	if hint.Needed(b.hints) {
		t.Error("a queue that tells of messages needs hints")
	}
	if !hint.Needed(struct{ queue.Queue }{b.hints}) {
		t.Error("a queue that cannot tell of messages needs no hints")
	}
}

func TestQueue(t *testing.T) {
	t.Parallel()
	for work, want := range map[string]string{
		"primes-work":      "cloudmaster-hints",
		"primes-work-demo": "cloudmaster-demo-hints",
		"my-primes-work-a": "cloudmaster-a-hints",
		"x-work-a-b":       "cloudmaster-a-b-hints",
		"jobs":             "",
		"primes-workers":   "",
		"homework-demo":    "",
		"work-demo":        "",
		"a-work-work-demo": "",
		"":                 "",
	} {
		if got := hint.Queue(work); got != want {
			t.Errorf("%q: got %q, want %q", work, got, want)
		}
	}
}
