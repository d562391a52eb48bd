// Package hint tells the controller of messages on a work queue that cannot tell of them by itself, as SQS's
// cannot.
//
// A hint is a message on the deployment's queue for hints (message.Hint). The controller then looks at the work
// queue at once. Hints are optional: without one the controller finds the messages at its next look (poll_interval), so
// sending a hint never fails for the caller, and at most one is sent each second.
package hint

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"cloudmaster/internal/message"
	"cloudmaster/internal/queue"
)

const (
	// gap is the least time between two hints.
	gap = time.Second
	// timeout bounds how long a caller may be kept waiting for a hint.
	timeout = 2 * time.Second
)

// Needed reports whether the controller needs hints about a work queue: the queue is no queue.Watcher.
func Needed(work any) bool {
	_, tells := work.(queue.Watcher)
	return !tells
}

// QueueOf returns the name of a deployment's queue for hints.
func QueueOf(deployment string) string {
	if deployment == "" {
		return "cloudmaster-hints"
	}
	return "cloudmaster-" + deployment + "-hints"
}

// Queue returns the queue that hints about a work queue go to, if the work queue's name has the form that the
// controller gives it: primes-work-demo belongs to the deployment demo. Otherwise it returns "".
func Queue(work string) string {
	parts := strings.Split(work, "-")
	at := 0
	for i, part := range parts {
		switch {
		case part != "work" || i == 0:
		case at > 0:
			return "" // "work" is there twice, and nothing says which of them the deployment follows
		default:
			at = i
		}
	}
	if at == 0 {
		return ""
	}
	return QueueOf(strings.Join(parts[at+1:], "-"))
}

// Options of a Sender.
type Options struct {
	Work  string       // name of the work queue that the hints are about
	Hints string       // name of the queue that they are sent to; empty: none are sent
	Log   *slog.Logger // nil discards
}

// opener is what is needed of a backend.
type opener interface {
	Queue(ctx context.Context, name string) (queue.Queue, error)
}

// Sender sends hints about one work queue. It is safe for concurrent use. A nil Sender sends nothing.
type Sender struct {
	backend opener
	opts    Options

	mu    sync.Mutex
	queue queue.Queue // guarded by mu; nil until opened, and again after an error
	last  time.Time   // guarded by mu: when a hint was last sent or tried
	owed  bool        // guarded by mu: messages were stored after the last hint
}

// New returns a Sender that opens the queue of hints on b, or nil if Options.Hints names none.
func New(b opener, opts Options) *Sender {
	if opts.Hints == "" {
		return nil
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	return &Sender{backend: b, opts: opts}
}

// Open opens the queue of hints, so that the first hint need not wait for it. An error is not reported here: the
// first hint tries again and logs what goes wrong.
func (s *Sender) Open(ctx context.Context) {
	if s == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	_, _ = s.open(ctx)
}

// Stored is called after messages were stored in the work queue. It sends a hint, unless the last one is less than
// a second old; then Flush sends it.
func (s *Sender) Stored(ctx context.Context) {
	if s != nil && s.due(time.Now()) {
		s.send(ctx)
	}
}

// Flush sends the hint that Stored did not send because it came too soon after another. The end of ctx does not
// stop it.
func (s *Sender) Flush(ctx context.Context) {
	if s != nil && s.takeOwed(time.Now()) {
		s.send(context.WithoutCancel(ctx))
	}
}

// due reports whether a hint may be sent now, and notes that it is; if not, it notes that one is owed.
func (s *Sender) due(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.owed = !s.last.IsZero() && now.Sub(s.last) < gap
	if !s.owed {
		s.last = now
	}
	return !s.owed
}

// takeOwed reports whether a hint is owed, and notes that it is sent now.
func (s *Sender) takeOwed(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.owed {
		return false
	}
	s.owed, s.last = false, now
	return true
}

// send sends a hint and logs an error. After an error the queue is opened anew: it may have been made again.
func (s *Sender) send(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := s.try(ctx); err != nil {
		s.keep(nil)
		s.opts.Log.DebugContext(ctx, "no hint could be sent; the controller finds the messages at its next look",
			"queue", s.opts.Work, "hint_queue", s.opts.Hints, "error", err)
	}
}

func (s *Sender) try(ctx context.Context) error {
	body, err := message.EncodeHint(message.Hint{Queue: s.opts.Work, Timestamp: time.Now()})
	if err != nil {
		return err
	}
	hints, err := s.open(ctx)
	if err != nil {
		return err
	}
	return hints.Send(ctx, body)
}

// open returns the queue of hints. Two callers may open it side by side; it does not matter which handle is kept.
func (s *Sender) open(ctx context.Context) (queue.Queue, error) {
	s.mu.Lock()
	opened := s.queue
	s.mu.Unlock()
	if opened != nil {
		return opened, nil
	}
	opened, err := s.backend.Queue(ctx, s.opts.Hints)
	if err != nil {
		return nil, err
	}
	s.keep(opened)
	return opened, nil
}

func (s *Sender) keep(opened queue.Queue) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue = opened
}
