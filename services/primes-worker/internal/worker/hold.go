package worker

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"cloudmaster/internal/backoff"
	"cloudmaster/internal/queue"
)

// errForgotten is why a job is let go whose message may be with another worker.
var errForgotten = errors.New("the broker was lost right after it gave the job, and may not remember that")

// hold is one delivery that the worker holds.
type hold struct {
	worker   *Worker
	message  queue.Message
	broker   queue.Linked // nil: this queue does not forget
	link     uint64       // the connection on which the delivery came
	recorded atomic.Bool  // the broker has written the delivery down
}

// hold begins to hold a message that was just received.
func (w *Worker) hold(m queue.Message) *hold {
	h := &hold{worker: w, message: m}
	if h.broker, _ = w.queue.(queue.Linked); h.broker == nil {
		h.recorded.Store(true)
		return h
	}
	h.link, _ = h.broker.Link()
	return h
}

// sure returns errForgotten if another worker may have been given the message: if the connection on which it came was
// lost before the broker had written down that it was delivered.
func (h *hold) sure() error {
	if h.recorded.Load() {
		return nil
	}
	if number, up := h.broker.Link(); number != h.link || !up {
		return errForgotten
	}
	return nil
}

// keep keeps the message in flight until letGo is called, which returns when no extension is under way any more. The
// context that it returns ends with errForgotten if another worker may have the message.
func (h *hold) keep(parent context.Context) (ctx context.Context, letGo func()) {
	ctx, cancel := context.WithCancelCause(parent)
	var wg sync.WaitGroup
	wg.Go(func() {
		for failures := 0; backoff.Wait(ctx, h.pause(failures)); {
			err := h.extend(ctx)
			switch {
			case ctx.Err() != nil:
				return
			case errors.Is(err, errForgotten):
				cancel(err)
				return
			case err == nil:
				failures = 0
				continue
			case failures == 0: // the job goes on; at worst another worker does it, too
				h.worker.opts.Log.WarnContext(ctx, "cannot extend a job's visibility; trying again", "error", err)
			}
			failures++
		}
	})
	return ctx, func() {
		cancel(nil)
		wg.Wait()
	}
}

// pause is how long to wait before the next extension.
func (h *hold) pause(failures int) time.Duration {
	wait := h.worker.queue.Visibility() / 3
	if !h.recorded.Load() {
		wait = min(wait, h.broker.Recording())
	}
	if failures > 0 {
		wait = min(wait, backoff.Delay(failures, leastBackoff, mostBackoff))
	}
	return wait
}

// extend extends the message's visibility. What may be with another worker is not extended. The first extension that
// the broker answers on the connection on which the message came shows that it lives and has written the delivery down.
func (h *hold) extend(ctx context.Context) error {
	if err := h.sure(); err != nil {
		return err
	}
	if err := h.worker.queue.Extend(ctx, h.message.Receipt); err != nil {
		return err
	}
	if err := h.sure(); err != nil {
		return err
	}
	h.recorded.Store(true)
	return nil
}
