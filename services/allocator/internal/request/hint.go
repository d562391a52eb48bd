package request

import (
	"context"
	"time"

	"cloudmaster/internal/message"
	"cloudmaster/internal/queue"
)

// hintGap is the least time between two hints.
const hintGap = time.Second

// hint tells the controller of a message on a work queue that cannot tell by itself.
func (r *Requester) hint(ctx context.Context, now time.Time) {
	if r.opts.Hints == nil || !r.mayHint(now) {
		return
	}
	if err := r.sendHint(ctx, now); err != nil {
		r.mu.Lock()
		r.hints = nil
		r.mu.Unlock()
		r.opts.Log.DebugContext(ctx, "no hint could be sent; the controller will find the request by itself", "queue", r.opts.Queue, "error", err)
	}
}

// mayHint reports whether a hint is due, and takes its turn.
func (r *Requester) mayHint(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, tells := r.sender.(queue.Watcher); tells || !r.hinted.IsZero() && now.Sub(r.hinted) < hintGap {
		return false
	}
	r.hinted = now
	return true
}

func (r *Requester) sendHint(ctx context.Context, now time.Time) error {
	body, err := message.EncodeHint(message.Hint{Queue: r.opts.Queue, Timestamp: now})
	if err != nil {
		return err
	}
	r.mu.Lock()
	q := r.hints
	r.mu.Unlock()
	if q == nil {
		if q, err = r.opts.Hints(ctx); err != nil {
			return err
		}
		r.mu.Lock()
		r.hints = q
		r.mu.Unlock()
	}
	return q.Send(ctx, body)
}
