package loop

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
)

// requests are the requests for a server that were received and that no decision
// has served yet. They stay in flight until then: a controller that dies loses none,
// and a launch that fails uses up none of their deliveries.
type requests struct {
	held     map[string]queue.Receipt // by message, so that one that is delivered again counts once
	extendAt time.Time                // when they must be kept from becoming visible; zero: none is held
}

const (
	// requestBatch is how many requests one call takes.
	requestBatch = 500
	// mostHeld bounds the memory; what is more waits on the queue.
	mostHeld = 10_000
)

func (r *requests) count() int { return len(r.held) }

// take keeps those that are held, and receives what is there.
func (r *requests) take(ctx context.Context, q workQueue, some bool, now time.Time) error {
	if err := r.keep(ctx, q, now); err != nil {
		return err
	}
	for some && len(r.held) < mostHeld {
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
	if r.held == nil {
		r.held = make(map[string]queue.Receipt)
	}
	if len(r.held) == 0 {
		r.extendAt = extendAt
	}
	for i := range batch {
		r.held[batch[i].ID] = batch[i].Receipt
	}
}

func (r *requests) receipts() []queue.Receipt { return slices.Collect(maps.Values(r.held)) }

// keep holds on to what is held, in time.
func (r *requests) keep(ctx context.Context, q workQueue, now time.Time) error {
	if len(r.held) == 0 || now.Before(r.extendAt) {
		return nil
	}
	if err := q.Extend(ctx, r.receipts()...); err != nil {
		return fmt.Errorf("keep %d requests: %w", len(r.held), err)
	}
	r.extendAt = now.Add(q.Visibility() / 3)
	return nil
}

// release hands back what is held.
func (r *requests) release(ctx context.Context, q workQueue) error {
	if len(r.held) == 0 {
		return nil
	}
	if err := q.Release(ctx, r.receipts()...); err != nil {
		return fmt.Errorf("hand back %d requests: %w", len(r.held), err)
	}
	r.held, r.extendAt = nil, time.Time{}
	return nil
}

// settle ends the requests if a decision has served them: all that the policy
// asked for has happened, or it asked for nothing because there is a server, or one on
// its way. What limits or failures have held back is asked for again.
func (r *requests) settle(ctx context.Context, q workQueue, d *pool.Decision, acted bool) error {
	wanted, grown := d.Asked.Launch+d.Asked.Reactivate, d.Launch+len(d.Reactivate)
	if len(r.held) == 0 || !acted || grown < wanted {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	receipts := r.receipts()
	r.held, r.extendAt = nil, time.Time{} // also if they cannot be deleted: then they come again
	if err := q.Delete(ctx, receipts...); err != nil {
		return fmt.Errorf("delete %d requests: %w", len(receipts), err)
	}
	return nil
}
