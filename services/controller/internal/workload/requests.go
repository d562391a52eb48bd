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

// requests are the pending requests for a server: received, and served by no decision
// yet. They stay in flight until then: a controller that dies loses none,
// and a launch that fails uses up none of their deliveries.
type requests struct {
	pending  map[string]queue.Receipt // by message, so that one that is delivered again counts once
	extendAt time.Time                // when they must be kept from becoming visible; zero: none is pending
}

const (
	// requestBatch is how many requests one call takes.
	requestBatch = 500
	// mostPending bounds the memory; what is more waits on the queue.
	mostPending = 10_000
)

func (r *requests) count() int { return len(r.pending) }

// take keeps those that are pending, and receives what is there.
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

// receipts lists the receipts in the order of their messages' ids, so that equal states make equal calls.
func (r *requests) receipts() []queue.Receipt {
	out := make([]queue.Receipt, 0, len(r.pending))
	for _, id := range slices.Sorted(maps.Keys(r.pending)) {
		out = append(out, r.pending[id])
	}
	return out
}

// keep prolongs the time for which nobody else gets those that are pending, before it is over.
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

// release hands back those that are pending.
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

// settle ends the requests if a decision has served them: all that the policy
// asked for has happened, or it asked for nothing because there is a server, or one on
// its way. What limits or failures have held back is asked for again.
func (r *requests) settle(ctx context.Context, q Queue, d *pool.Decision, acted bool) error {
	wanted, grown := d.Asked.Launch+d.Asked.Reactivate, d.Launch+len(d.Reactivate)
	if len(r.pending) == 0 || !acted || grown < wanted {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	receipts := r.receipts()
	r.pending, r.extendAt = nil, time.Time{} // also if they cannot be deleted: then they come again
	if err := q.Delete(ctx, receipts...); err != nil {
		return fmt.Errorf("delete %d requests: %w", len(receipts), err)
	}
	return nil
}
