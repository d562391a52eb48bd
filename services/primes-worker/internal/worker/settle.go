package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"cloudmaster/internal/backoff"
	"cloudmaster/internal/message"
	"cloudmaster/internal/queue"
)

// refuse reports what is wrong with a message and moves it to the dead letters.
func (w *Worker) refuse(ctx context.Context, m queue.Message, reason error) {
	w.reporter.Say(fmt.Sprintf("Refused: %s: %v", message.Excerpt(m.Body), reason))
	w.opts.Log.WarnContext(ctx, "refused a message", "body", message.Excerpt(m.Body), "reason", reason)
	w.opts.Metrics.count(refused)
	// After the visibility timeout another worker may have the message, so this is tried no longer than that.
	ctx, cancel := context.WithTimeout(ctx, w.queue.Visibility())
	defer cancel()
	w.insist(ctx, "bury", func() error { return w.queue.Bury(ctx, m, reason.Error()) })
}

// remove deletes a finished job's message, however long it takes.
func (w *Worker) remove(ctx context.Context, m queue.Message) {
	w.insist(ctx, "delete", func() error { return w.queue.Delete(ctx, m.Receipt) })
}

// handBack makes a message visible to other workers at once, and waits until the broker has stored what was reported of
// it. If that fails, the message becomes visible when its visibility timeout is over.
func (w *Worker) handBack(ctx context.Context, m queue.Message) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	w.insist(ctx, "release", func() error { return w.queue.Release(ctx, m.Receipt) })
	if err := w.reporter.Flush(ctx); err != nil {
		w.opts.Log.WarnContext(ctx, "handing back a job was not reported", "error", err)
	}
}

// insist repeats an act until it succeeds, trying again cannot help, or ctx ends.
func (w *Worker) insist(ctx context.Context, act string, do func() error) {
	for failures := 1; ; failures++ {
		err := do()
		switch {
		case err == nil:
			return
		case hopeless(err), !backoff.Wait(ctx, backoff.Delay(failures, leastBackoff, mostBackoff)):
			w.opts.Log.ErrorContext(ctx, "gave up settling a message; it will be delivered again", "act", act,
				"error", err)
			return
		case failures == 1:
			w.opts.Log.WarnContext(ctx, "cannot settle a message; trying again", "act", act, "error", err)
		}
	}
}

// hopeless reports whether trying again cannot help.
func hopeless(err error) bool {
	return errors.Is(err, queue.ErrNotFound) || errors.Is(err, queue.ErrDenied) ||
		errors.Is(err, queue.ErrClosed) || errors.Is(err, queue.ErrTooLarge)
}

const (
	leastBackoff = 50 * time.Millisecond
	mostBackoff  = 5 * time.Second
)

// mostFinished is how many finished messages are remembered. That is more than a queue is likely to deliver between a
// delete that was lost and the redelivery of its message.
const mostFinished = 256

// finishedMessage identifies a message. The id is not enough, because a queue that was deleted and created again may
// give the same ids to other messages.
type finishedMessage struct {
	id     string
	sentAt time.Time
}

// memory is the newest finished messages, oldest first.
type memory []finishedMessage

func (f memory) has(m queue.Message) bool {
	return slices.ContainsFunc(f,
		func(old finishedMessage) bool { return old.id == m.ID && old.sentAt.Equal(m.SentAt) })
}

func (f *memory) add(m queue.Message) {
	if len(*f) == mostFinished {
		*f = slices.Delete(*f, 0, 1)
	}
	*f = append(*f, finishedMessage{id: m.ID, sentAt: m.SentAt})
}
