package agent_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"cloudmaster/internal/agent"
	"cloudmaster/internal/message"
)

// fakeQueue keeps what it is sent. While err is set it stores the first of the
// bodies, as a queue may, and fails; while blocked it waits for ctx.
type fakeQueue struct {
	mu      sync.Mutex
	stored  []message.Message
	err     error
	prefix  int // bodies stored by a call that fails
	blocked chan struct{}
	calls   int
}

func (q *fakeQueue) Send(ctx context.Context, bodies ...[]byte) error {
	q.mu.Lock()
	q.calls++
	blocked := q.blocked
	q.mu.Unlock()
	if blocked != nil {
		select {
		case <-blocked:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil {
		bodies = bodies[:min(q.prefix, len(bodies))]
	}
	for _, body := range bodies {
		m, err := message.ParseStd(body)
		if err != nil {
			return fmt.Errorf("a message that no controller can read: %w", err)
		}
		q.stored = append(q.stored, m)
	}
	return q.err
}

func (q *fakeQueue) fail(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.err = err
}

// block makes calls from now on wait until the function it returns is called.
func (q *fakeQueue) block() (unblock func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	c := make(chan struct{})
	q.blocked = c
	return func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if q.blocked == c {
			q.blocked = nil
		}
		close(c)
	}
}

func (q *fakeQueue) count() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.calls
}

// take returns what has been stored since the last call, in words.
func (q *fakeQueue) take() []string {
	var words []string
	for _, m := range q.takeMessages() {
		switch m := m.(type) {
		case message.Status:
			words = append(words, fmt.Sprintf("%v %s", m.Load, m.Activity))
		case message.Log:
			words = append(words, m.Text)
		}
	}
	return words
}

func (q *fakeQueue) takeMessages() []message.Message {
	q.mu.Lock()
	defer q.mu.Unlock()
	out := q.stored
	q.stored = nil
	return out
}

// run starts an agent; stop ends it and waits.
func run(t *testing.T, q *fakeQueue, opts agent.Options) (a *agent.Agent, stop func()) {
	t.Helper()
	a = agent.New(q, "i-0abc", opts)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	return a, func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: got %v, want nil", err)
		}
	}
}

func want(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
