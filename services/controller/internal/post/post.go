// Package post takes the messages that are for the whole deployment and not for one pool: the hints of programs that
// send work, and what a cloud says of instances. Each has a queue of its own, which one Box long-polls for all pools.
package post

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"cloudmaster/internal/backoff"
	"cloudmaster/internal/message"
	"cloudmaster/internal/queue"
	"cloudmaster/services/controller/internal/driver"
	"cloudmaster/services/controller/internal/quota"
)

// Queue is what a Box needs of a queue.
type Queue interface {
	Receive(ctx context.Context, most int, wait time.Duration) ([]queue.Message, error)
	Delete(ctx context.Context, receipts ...queue.Receipt) error
}

// Taken says what became of a message.
type Taken struct {
	Outcome string // as metrics have it
	// Again leaves the message on the queue, so that it comes again when its visibility timeout is over: what it
	// says would be lost if this controller died now.
	Again bool
	Err   error // why the message does not count; it is logged, and the message is removed
}

// Options of a Box. All are required, except where a comment says what nil or 0 means.
type Options struct {
	Use   string // what the queue carries, for people: hints, events
	Name  string // of the queue
	Until string // what happens as long as nobody can read the queue, for people
	Open  func(ctx context.Context, name string) (Queue, error)
	Take  func(ctx context.Context, body []byte) Taken
	// Ready reports whether messages can be understood now. They wait on the queue until then. Nil: always.
	Ready func() bool
	// Lead says until when this controller may take messages, or why it may not; nil: it always may.
	Lead  func(now time.Time) (until time.Time, err error)
	Count func(use, outcome string, n int) // for metrics; nil: nobody counts
	Pause func(failures int) time.Duration // after looks that failed in a row; nil: it grows, with chance in it
	Wait  time.Duration                    // how long a look waits for messages; 0 means 20 s, the longest of SQS
	Now   func() time.Time
	Log   *slog.Logger
}

const (
	batch    = 100 // messages that one look takes
	longWait = 20 * time.Second
	slack    = 10 * time.Second // how much longer than its wait a look may take
	// callTimeout bounds a deletion, and opening the queue.
	callTimeout = 5 * time.Second
	// aside is how long a Box that may not take messages waits before it looks whether it may.
	aside = time.Second
	// missing is how long a queue that does not exist is left alone: somebody has to make it.
	missing = time.Minute
	// The pause after looks that failed grows from leastPause to mostPause.
	leastPause, mostPause = time.Second, time.Minute
)

// Box is one queue for the whole deployment. It is used by one goroutine.
type Box struct {
	opts     Options
	queue    Queue // nil until it is open
	failures int   // looks in a row that failed
	absent   bool  // it was said that the queue does not exist
	garbage  quota.Lines
}

// New returns the box of a queue.
func New(opts Options) *Box {
	if opts.Wait == 0 {
		opts.Wait = longWait
	}
	if opts.Count == nil {
		opts.Count = func(string, string, int) {}
	}
	if opts.Pause == nil {
		opts.Pause = func(failures int) time.Duration { return backoff.Delay(failures, leastPause, mostPause) }
	}
	opts.Log = opts.Log.With("use", opts.Use, "queue", opts.Name)
	return &Box{opts: opts}
}

// Task empties the box as long as it runs.
func (b *Box) Task() driver.Task {
	return driver.Task{
		Name: "post/" + b.opts.Use,
		Step: func(ctx context.Context, now time.Time) (driver.Again, error) {
			at := now.Add(b.Step(ctx, now))
			if ended := b.opts.Now(); at.Before(ended) {
				at = ended
			}
			return driver.Again{At: at, NotBefore: at}, nil
		},
	}
}

// Step takes the messages that are there, or waits for some, and returns how long after now the next look should be at
// the earliest.
func (b *Box) Step(ctx context.Context, now time.Time) (pause time.Duration) {
	if !b.may(now) {
		return aside
	}
	messages, err := b.receive(ctx)
	switch {
	case ctx.Err() != nil:
		return 0
	case err != nil:
		return b.opts.Now().Sub(now) + b.failed(ctx, err)
	case b.failures > 0:
		b.opts.Log.InfoContext(ctx, "a queue of the deployment can be read again", "failures", b.failures)
	}
	b.failures, b.absent = 0, false
	if len(messages) > 0 && b.may(b.opts.Now()) { // the look may have lasted longer than the lease
		b.takeIn(ctx, messages)
	}
	return 0
}

func (b *Box) may(now time.Time) bool {
	if b.opts.Ready != nil && !b.opts.Ready() {
		return false
	}
	if b.opts.Lead == nil {
		return true
	}
	_, err := b.opts.Lead(now)
	return err == nil
}

// receive opens the queue if need be, and waits for messages.
func (b *Box) receive(ctx context.Context) ([]queue.Message, error) {
	if b.queue == nil {
		bounded, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		opened, err := b.opts.Open(bounded, b.opts.Name)
		if err != nil {
			return nil, err
		}
		b.queue = opened
	}
	bounded, cancel := context.WithTimeout(ctx, b.opts.Wait+slack)
	defer cancel()
	return b.queue.Receive(bounded, batch, b.opts.Wait)
}

// failed says once why the queue cannot be read, and returns the pause until it is tried again.
func (b *Box) failed(ctx context.Context, err error) time.Duration {
	b.failures++
	if errors.Is(err, queue.ErrNotFound) {
		b.queue = nil
		if !b.absent {
			b.absent = true
			b.opts.Log.WarnContext(ctx, "the deployment has no queue of this use; run controller setup, which makes it",
				"until_then", b.opts.Until, "error", err)
		}
		return missing
	}
	if b.failures == 1 {
		b.opts.Log.ErrorContext(ctx, "a queue of the deployment cannot be read; trying again",
			"until_then", b.opts.Until, "error", err)
	}
	return b.opts.Pause(b.failures)
}

// takeIn hands the messages on, and removes those that are done with.
func (b *Box) takeIn(ctx context.Context, messages []queue.Message) {
	var done []queue.Receipt
	outcomes := make(map[string]int)
	for i := range messages {
		said := b.opts.Take(ctx, messages[i].Body)
		outcomes[said.Outcome]++
		if said.Err != nil {
			b.drop(ctx, &messages[i], said.Err)
		}
		if !said.Again {
			done = append(done, messages[i].Receipt)
		}
	}
	for outcome, n := range outcomes {
		b.opts.Count(b.opts.Use, outcome, n)
	}
	if len(done) == 0 {
		return
	}
	bounded, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := b.queue.Delete(bounded, done...); err != nil && ctx.Err() == nil {
		b.opts.Log.WarnContext(ctx, "messages that were taken in could not be removed; they will come again, which "+
			"does no harm", "messages", len(done), "error", err)
	}
}

// drop logs a message that does not count, unless there were many in this minute.
func (b *Box) drop(ctx context.Context, m *queue.Message, why error) {
	if ok, unsaid := b.garbage.May(b.opts.Now()); ok {
		b.opts.Log.WarnContext(ctx, "a message on a queue of the deployment does not count, and is removed",
			"error", why, "body", message.Excerpt(m.Body), "unsaid", unsaid)
	}
}
