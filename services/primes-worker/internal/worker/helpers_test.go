package worker_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cloudmaster/internal/message"
	"cloudmaster/internal/queue"
	"cloudmaster/internal/queue/memqueue"
	"cloudmaster/services/primes-worker/internal/worker"
)

// bench is a worker at a queue in memory, in a synctest bubble.
type bench struct {
	queue  *memqueue.Queue
	voice  *voice
	sieve  *sieve
	log    *logs
	opts   worker.Options
	source func(*memqueue.Queue) source // wraps the queue; may be nil
}

// source is what a worker asks of its queue.
type source interface {
	Receive(ctx context.Context, most int, wait time.Duration) ([]queue.Message, error)
	Extend(ctx context.Context, receipts ...queue.Receipt) error
	Visibility() time.Duration
	Delete(ctx context.Context, receipts ...queue.Receipt) error
	Release(ctx context.Context, receipts ...queue.Receipt) error
	Bury(ctx context.Context, m queue.Message, reason string) error
}

func newBench() *bench {
	return &bench{
		queue: memqueue.New("primes-work", queue.Limits{Visibility: 30 * time.Second}),
		voice: &voice{}, sieve: &sieve{}, log: &logs{},
	}
}

func (b *bench) send(t *testing.T, bodies ...string) {
	t.Helper()
	for _, body := range bodies {
		if err := b.queue.Send(t.Context(), []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
}

// start runs the worker until the returned function is called, which waits for its end.
func (b *bench) start(t *testing.T) (stop func()) {
	t.Helper()
	b.opts.Log = slog.New(slog.NewTextHandler(b.log, nil))
	var q source = b.queue
	if b.source != nil {
		q = b.source(b.queue)
	}
	w, err := worker.New(q, b.voice, b.sieve.nth, b.opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: got %v, want nil", err)
		}
	}
}

// run lets the worker work for so long, in the bubble's time.
func (b *bench) run(t *testing.T, d time.Duration) {
	t.Helper()
	stop := b.start(t)
	wait(d)
	stop()
}

// wait lets time pass until everybody has done what there was to do.
func wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (b *bench) wantSaid(t *testing.T, want ...string) {
	t.Helper()
	if got := b.voice.texts(); !slices.Equal(got, want) {
		t.Errorf("said: got %q, want %q", got, want)
	}
}

func (b *bench) wantQueue(t *testing.T, want ...string) {
	t.Helper()
	if got := b.queue.Bodies(); !slices.Equal(got, want) {
		t.Errorf("queue holds: got %q, want %q", got, want)
	}
}

func (b *bench) wantVisible(t *testing.T, want int) {
	t.Helper()
	got, err := b.queue.Backlog(t.Context())
	if err != nil || got.Visible != want {
		t.Errorf("backlog: got %+v, %v, want %d visible", got, err, want)
	}
}

// sieve stands for the real one: N seconds for the prime N+1000.
type sieve struct {
	mu   sync.Mutex
	asks []int         // guarded by mu
	unit time.Duration // a job of n takes so long, times n; 0 means a second
	err  error
}

func (s *sieve) nth(ctx context.Context, n int) (uint64, error) {
	s.mu.Lock()
	s.asks = append(s.asks, n)
	s.mu.Unlock()
	if s.err != nil {
		return 0, s.err
	}
	select {
	case <-time.After(time.Duration(n) * cmp.Or(s.unit, time.Second)):
		return uint64(n + 1000), nil
	case <-ctx.Done():
		return 0, fmt.Errorf("prime number %d: %w", n, context.Cause(ctx))
	}
}

func (s *sieve) asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asks)
}

// voice is an agent whose broker can be away.
type voice struct {
	mu       sync.Mutex
	said     []string      // guarded by mu
	flushed  int           // guarded by mu; how many of said are stored
	statuses []string      // guarded by mu; only changes, as an agent sends them
	away     chan struct{} // guarded by mu; closed when the broker is back; nil if it is there
}

func (v *voice) Report(load float64, activity message.Activity) {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := fmt.Sprint(activity, " ", load)
	if len(v.statuses) == 0 || v.statuses[len(v.statuses)-1] != s {
		v.statuses = append(v.statuses, s)
	}
}

func (v *voice) Say(text string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.said = append(v.said, text)
}

func (v *voice) Retract(text string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.said = slices.DeleteFunc(v.said, func(s string) bool { return s == text })
}

func (v *voice) Flush(ctx context.Context) error {
	v.mu.Lock()
	away, want := v.away, len(v.said)
	v.mu.Unlock()
	if away != nil {
		select {
		case <-away:
		case <-ctx.Done():
			return fmt.Errorf("flush: %w", context.Cause(ctx))
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.flushed = max(v.flushed, want)
	return nil
}

// unstored returns how many texts the broker has not got.
func (v *voice) unstored() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.said) - v.flushed
}

// goAway makes Flush wait until the returned function is called.
func (v *voice) goAway() (comeBack func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	away := make(chan struct{})
	v.away = away
	return func() { close(away) }
}

func (v *voice) texts() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.said)
}

func (v *voice) changes() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.statuses)
}

// logs is the operator's log.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logs) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Count(l.buf.Bytes(), []byte(text))
}
