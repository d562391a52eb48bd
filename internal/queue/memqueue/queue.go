// Package memqueue is a queue in memory that behaves like the real ones: messages become visible
// again, are delivered twice, and move to the dead letters after too many deliveries. Tests can
// inject faults (see faults.Set and Disturb).
//
// Nothing is kept after the process ends. The package starts no goroutine and uses plain time, so
// it works in testing/synctest bubbles.
package memqueue

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"cloudmaster/internal/faults"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
)

// MaxBody is the largest body that a queue in memory accepts, in bytes: the size that every queue must accept.
const MaxBody = 256 << 10

var (
	_ queue.Queue   = (*Queue)(nil)
	_ queue.Watcher = (*Queue)(nil)
)

// Queue is one queue in memory, with its dead letters. Make it with New.
type Queue struct {
	faults.Set // faults to inject; the zero value injects none

	name       string
	visibility time.Duration
	deliveries int // 0 means no limit
	retention  time.Duration
	dead       *Queue // nil if this is itself a queue of dead letters

	mu       sync.Mutex
	items    []*item                    // in the order sent; guarded by mu
	receipts map[queue.Receipt]*item    // of the newest delivery of each item; guarded by mu
	changed  chan struct{}              // closed and replaced when something becomes visible; guarded by mu
	watchers map[chan struct{}]struct{} // guarded by mu
	sequence int                        // numbers messages and receipts; guarded by mu
	removed  bool                       // guarded by mu
	disturb  Disturbance                // guarded by mu
}

// item is one message that has not been deleted.
type item struct {
	id         string
	body       []byte
	sentAt     time.Time
	visibleAt  time.Time
	deliveries int
	receipt    queue.Receipt // of the newest delivery; empty if it was never received, or was released
	reason     string        // why it is among the dead letters; empty elsewhere
}

// New returns an empty queue with its own dead letters. Zero limits mean the port's defaults.
func New(name string, limits queue.Limits) *Queue {
	dead := &Queue{
		name:       queue.DeadLetters(name),
		visibility: cmp.Or(limits.Visibility, queue.DefaultVisibility),
		changed:    make(chan struct{}),
		receipts:   map[queue.Receipt]*item{},
	}
	return &Queue{
		name:       name,
		visibility: cmp.Or(limits.Visibility, queue.DefaultVisibility),
		deliveries: cmp.Or(limits.Deliveries, queue.DefaultDeliveries),
		retention:  limits.Retention,
		dead:       dead,
		changed:    make(chan struct{}),
		receipts:   map[queue.Receipt]*item{},
	}
}

// Name implements queue.Queue.
func (q *Queue) Name() string { return q.name }

// Visibility implements queue.Queue.
func (q *Queue) Visibility() time.Duration { return q.visibility }

// Dead returns the queue of the dead letters; nil if q is itself one.
func (q *Queue) Dead() *Queue { return q.dead }

// Remove makes the queue vanish as if an operator had deleted it: from now on every call returns
// queue.ErrNotFound, and calls that wait return with it at once.
func (q *Queue) Remove() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.removed = true
	q.wakeLocked()
}

// Restore makes a queue that was removed exist again, empty, for those who have it open. It does nothing to one that
// exists.
func (q *Queue) Restore() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.removed {
		q.removed, q.items = false, nil
		clear(q.receipts)
	}
}

func (q *Queue) isRemoved() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.removed
}

// Send implements queue.Queue.
func (q *Queue) Send(ctx context.Context, bodies ...[]byte) error {
	for i, body := range bodies {
		if len(body) > MaxBody {
			return fmt.Errorf("send to %s: message %d has %d bytes, the limit is %d: %w",
				q.name, i, len(body), MaxBody, queue.ErrTooLarge)
		}
	}
	return q.call(ctx, OpSend, func() error {
		now := time.Now()
		for _, body := range bodies {
			q.appendLocked(&item{body: slices.Clone(body), sentAt: now, visibleAt: now.Add(q.disturb.Late)})
		}
		q.wakeLocked()
		return nil
	})
}

// Receive implements queue.Queue.
func (q *Queue) Receive(ctx context.Context, most int, wait time.Duration) ([]queue.Message, error) {
	if most < 1 {
		return nil, fmt.Errorf("receive from %s: at most %d messages asked for, want 1 or more", q.name, most)
	}
	deadline := time.Now().Add(wait)
	for {
		var got []queue.Message
		var changed <-chan struct{}
		var next time.Time
		err := q.call(ctx, OpReceive, func() error {
			got = q.takeLocked(most)
			changed, next = q.changed, q.nextVisibleLocked()
			return nil
		})
		if err != nil || len(got) > 0 || !time.Now().Before(deadline) {
			return got, err
		}
		if err := pause(ctx, changed, earliest(next, deadline)); err != nil {
			return nil, fmt.Errorf("receive from %s: %w", q.name, err)
		}
	}
}

// Extend implements queue.Queue.
func (q *Queue) Extend(ctx context.Context, receipts ...queue.Receipt) error {
	return q.each(ctx, OpExtend, receipts, func(it *item) {
		it.visibleAt = time.Now().Add(q.visibility)
	})
}

// Release implements queue.Queue.
func (q *Queue) Release(ctx context.Context, receipts ...queue.Receipt) error {
	return q.each(ctx, OpRelease, receipts, func(it *item) {
		delete(q.receipts, it.receipt)
		it.receipt = ""
		it.visibleAt = time.Now()
		q.wakeLocked()
	})
}

// Delete implements queue.Queue.
func (q *Queue) Delete(ctx context.Context, receipts ...queue.Receipt) error {
	gone := make(map[*item]bool, len(receipts))
	return q.call(ctx, OpDelete, func() error {
		for _, r := range receipts {
			if it, ok := q.receipts[r]; ok {
				gone[it] = true
				delete(q.receipts, r)
			}
		}
		q.dropLocked(gone)
		return nil
	})
}

// Bury implements queue.Queue.
func (q *Queue) Bury(ctx context.Context, m queue.Message, reason string) error {
	if q.dead == nil {
		return fmt.Errorf("bury in %s: a queue of dead letters has no dead letters of its own: %w",
			q.name, queue.ErrNotFound)
	}
	return q.call(ctx, OpBury, func() error {
		if q.dead.isRemoved() {
			return fmt.Errorf("bury in %s: %w", q.dead.name, queue.ErrNotFound)
		}
		it, ok := q.receipts[m.Receipt]
		if !ok {
			it = &item{id: m.ID, body: slices.Clone(m.Body), sentAt: m.SentAt, deliveries: m.Deliveries}
		}
		q.buryLocked(it, reason)
		return nil
	})
}

// Backlog implements queue.Queue.
func (q *Queue) Backlog(ctx context.Context) (pool.Backlog, error) {
	backlog := pool.Backlog{Known: true}
	err := q.call(ctx, OpBacklog, func() error {
		now := time.Now()
		for _, it := range q.items {
			if it.receipt != "" && it.visibleAt.After(now) {
				backlog.InFlight++
			} else {
				backlog.Visible++
			}
		}
		return nil
	})
	if err != nil {
		return pool.Backlog{}, err
	}
	return backlog, nil
}

// Watch implements queue.Watcher.
func (q *Queue) Watch(ctx context.Context) (<-chan struct{}, error) {
	c := make(chan struct{}, 1)
	err := q.call(ctx, OpWatch, func() error {
		if q.watchers == nil {
			q.watchers = map[chan struct{}]struct{}{}
		}
		q.watchers[c] = struct{}{}
		return nil
	})
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		delete(q.watchers, c)
	})
	return c, nil
}

// call runs f under the lock. It injects the faults that tests asked for: an error before f, or one
// after it, as if the answer had been lost.
func (q *Queue) call(ctx context.Context, op faults.Op, f func() error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s %s: %w", op, q.name, context.Cause(ctx))
	}
	before, after := q.Take(op)
	if before != nil {
		return fmt.Errorf("%s %s: %w", op, q.name, before)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.removed {
		return fmt.Errorf("%s %s: %w", op, q.name, queue.ErrNotFound)
	}
	q.expireLocked()
	if err := f(); err != nil {
		return err
	}
	if after != nil {
		return fmt.Errorf("%s %s: %w", op, q.name, after)
	}
	return nil
}

// each runs f on every item whose newest delivery has one of the receipts and has not timed out.
func (q *Queue) each(ctx context.Context, op faults.Op, receipts []queue.Receipt, f func(*item)) error {
	return q.call(ctx, op, func() error {
		for _, r := range receipts {
			if it, ok := q.receipts[r]; ok {
				f(it)
			}
		}
		return nil
	})
}

func (q *Queue) newNumberLocked() string {
	q.sequence++
	return strconv.Itoa(q.sequence)
}
