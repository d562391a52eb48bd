package app

import (
	"context"
	"log/slog"
	"time"

	"cloudmaster/internal/backend"
	"cloudmaster/internal/message"
	"cloudmaster/internal/queue"
)

const (
	// hintGap is the least time between two hints while jobs are sent.
	hintGap = time.Second
	// hintTimeout bounds what a hint costs.
	hintTimeout = 2 * time.Second
)

// hinter tells the controller of jobs on a queue that cannot tell by itself. What it
// cannot say is no loss: the controller looks at the queue now and then.
type hinter struct {
	backend backend.Backend
	work    string
	status  string // queue that hints go to; empty: none are sent
	log     *slog.Logger

	queue  queue.Queue // nil until opened
	at     time.Time   // of the last hint, sent or not
	unsaid bool        // jobs were sent since
}

func newHinter(set settings, b backend.Backend, work queue.Queue, log *slog.Logger) *hinter {
	h := &hinter{backend: b, work: set.queue, status: set.status, log: log}
	if _, tells := work.(queue.Watcher); tells {
		h.status = ""
	}
	return h
}

// prepare opens the queue before there are jobs, so that the hint follows them at once.
// If that fails it is tried again with the hint, which then says so.
func (h *hinter) prepare(ctx context.Context) {
	if h.status == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, hintTimeout)
	defer cancel()
	_ = h.open(ctx)
}

// sent notes that jobs were sent, and says so unless it has just done.
func (h *hinter) sent(ctx context.Context) {
	h.unsaid = true
	if h.at.IsZero() || time.Since(h.at) >= hintGap {
		h.say(ctx)
	}
}

// finish says what is unsaid, also when the feed was stopped.
func (h *hinter) finish(ctx context.Context) {
	if h.unsaid {
		h.say(context.WithoutCancel(ctx))
	}
}

func (h *hinter) say(ctx context.Context) {
	if h.status == "" {
		return
	}
	h.at, h.unsaid = time.Now(), false
	ctx, cancel := context.WithTimeout(ctx, hintTimeout)
	defer cancel()
	if err := h.send(ctx); err != nil {
		h.log.DebugContext(ctx, "no hint could be sent; the controller will find the jobs by itself", "queue", h.status, "error", err)
	}
}

func (h *hinter) open(ctx context.Context) error {
	if h.queue != nil {
		return nil
	}
	q, err := h.backend.Queue(ctx, h.status)
	if err != nil {
		return err
	}
	h.queue = q
	return nil
}

func (h *hinter) send(ctx context.Context) error {
	if err := h.open(ctx); err != nil {
		return err
	}
	body, err := message.EncodeHint(message.Hint{Queue: h.work, Timestamp: time.Now()})
	if err != nil {
		return err
	}
	return h.queue.Send(ctx, body)
}
