package workload

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
)

// requests are the pending requests for a server: they were received, and no decision has served them yet.
// Until then they stay in flight on the queue, so that no request is lost when a controller dies. They are
// not given back after a launch that failed, because that would use up one of their deliveries.
type requests struct {
	pending  map[string]queue.Receipt // by the id of the message, so that one that is delivered again counts once
	extendAt time.Time                // when their visibility timeout must be extended; zero: none is pending
}

const (
	// requestBatch is how many requests one call takes.
	requestBatch = 500
	// mostPending bounds the memory; further requests wait on the queue.
	mostPending = 10_000
)

func (r *requests) count() int { return len(r.pending) }

// take keeps the pending requests invisible on the queue, and receives new ones.
func (r *requests) take(ctx context.Context, q Queue, some bool, now time.Time) error {
	if err := r.keep(ctx, q, now); err != nil {
		return err
	}
	for some && len(r.pending) < mostPending {
		batch, err := q.Receive(ctx, requestBatch, 0)
		if err != nil {
			return fmt.Errorf("take requests: %w", err)
		}
		if len(batch) == 0 {
			return nil
		}
		r.add(batch, now.Add(q.Visibility()/3))
	}
	return nil
}

func (r *requests) add(batch []queue.Message, extendAt time.Time) {
	if r.pending == nil {
		r.pending = make(map[string]queue.Receipt)
	}
	if len(r.pending) == 0 {
		r.extendAt = extendAt
	}
	for i := range batch {
		r.pending[batch[i].ID] = batch[i].Receipt
	}
}

// receipts lists the receipts of pending requests in the order of their ids, so that a run can be repeated
// exactly.
func (r *requests) receipts() []queue.Receipt {
	out := make([]queue.Receipt, 0, len(r.pending))
	for _, id := range slices.Sorted(maps.Keys(r.pending)) {
		out = append(out, r.pending[id])
	}
	return out
}

// keep extends the visibility timeout of pending requests before it ends, so that the queue does not deliver
// them again.
func (r *requests) keep(ctx context.Context, q Queue, now time.Time) error {
	if len(r.pending) == 0 || now.Before(r.extendAt) {
		return nil
	}
	if err := q.Extend(ctx, r.receipts()...); err != nil {
		return fmt.Errorf("keep %d requests: %w", len(r.pending), err)
	}
	r.extendAt = now.Add(q.Visibility() / 3)
	return nil
}

// release gives pending requests back to the queue.
func (r *requests) release(ctx context.Context, q Queue) error {
	if len(r.pending) == 0 {
		return nil
	}
	if err := q.Release(ctx, r.receipts()...); err != nil {
		return fmt.Errorf("hand back %d requests: %w", len(r.pending), err)
	}
	r.pending, r.extendAt = nil, time.Time{}
	return nil
}

// settle deletes the pending requests if a decision has served them: either everything that the policy asked
// for has happened, or it asked for nothing because there is a server, or one that is starting. Otherwise
// they stay pending, and the policy asks again in the next pass.
func (r *requests) settle(ctx context.Context, q Queue, d *pool.Decision, acted bool) error {
	wanted, grown := d.Asked.Launch+d.Asked.Reactivate, d.Launch+len(d.Reactivate)
	if len(r.pending) == 0 || !acted || grown < wanted {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	receipts := r.receipts()
	// They are forgotten also if they cannot be deleted, because then the queue delivers them again.
	r.pending, r.extendAt = nil, time.Time{}
	if err := q.Delete(ctx, receipts...); err != nil {
		return fmt.Errorf("delete %d requests: %w", len(receipts), err)
	}
	return nil
}
