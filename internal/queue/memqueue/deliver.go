package memqueue

import (
	"context"
	"fmt"
	"slices"
	"time"

	"cloudmaster/internal/queue"
)

// takeLocked delivers up to most visible messages. It moves those that have already been delivered
// too often to the dead letters instead.
func (q *Queue) takeLocked(most int) []queue.Message {
	now := time.Now()
	var out []queue.Message
	for _, it := range q.candidatesLocked() {
		if len(out) == most {
			break
		}
		switch {
		case it.visibleAt.After(now):
		case q.deliveries > 0 && it.deliveries >= q.deliveries:
			q.buryLocked(it, fmt.Sprintf("delivered %d times without being deleted", it.deliveries))
		default:
			out = append(out, q.deliverLocked(it))
		}
	}
	return out
}

// candidatesLocked returns a copy of the items in the order of delivery.
func (q *Queue) candidatesLocked() []*item {
	items := slices.Clone(q.items)
	if q.disturb.Shuffle != nil {
		q.disturb.Shuffle.Shuffle(len(items), func(i, j int) { items[i], items[j] = items[j], items[i] })
	}
	return items
}

func (q *Queue) deliverLocked(it *item) queue.Message {
	delete(q.receipts, it.receipt)
	it.receipt = queue.Receipt(it.id + "/" + q.newNumberLocked())
	it.deliveries++
	it.visibleAt = time.Now().Add(q.visibility)
	if q.disturb.Duplicate > 0 {
		q.disturb.Duplicate--
		it.visibleAt = time.Now() // visible at once, so that another receiver gets it as well
	}
	q.receipts[it.receipt] = it
	return queue.Message{
		ID: it.id, Body: slices.Clone(it.body), SentAt: it.sentAt, Deliveries: it.deliveries, Receipt: it.receipt,
	}
}

// buryLocked moves an item to the dead letters. It is the only place that locks two queues. They
// cannot deadlock, because it always locks the queue first and then its dead letters.
func (q *Queue) buryLocked(it *item, reason string) {
	delete(q.receipts, it.receipt)
	q.dropLocked(map[*item]bool{it: true})
	q.dead.mu.Lock()
	defer q.dead.mu.Unlock()
	now := time.Now()
	q.dead.appendLocked(&item{body: it.body, sentAt: now, visibleAt: now, reason: reason})
	q.dead.wakeLocked()
}

func (q *Queue) appendLocked(it *item) {
	it.id = q.newNumberLocked()
	q.items = append(q.items, it)
}

func (q *Queue) dropLocked(gone map[*item]bool) {
	if len(gone) > 0 {
		q.items = slices.DeleteFunc(q.items, func(it *item) bool { return gone[it] })
	}
}

// expireLocked forgets messages that nobody took within the retention time.
func (q *Queue) expireLocked() {
	if q.retention == 0 {
		return
	}
	limit := time.Now().Add(-q.retention)
	if len(q.items) == 0 || q.items[0].sentAt.After(limit) {
		return
	}
	gone := map[*item]bool{}
	for _, it := range q.items {
		if it.sentAt.Before(limit) {
			gone[it] = true
			delete(q.receipts, it.receipt)
		}
	}
	q.dropLocked(gone)
}

// nextVisibleLocked returns when the next invisible message becomes visible; zero if there is none.
func (q *Queue) nextVisibleLocked() time.Time {
	var next time.Time
	for _, it := range q.items {
		next = earliest(next, it.visibleAt)
	}
	return next
}

// wakeLocked signals to all receivers that wait, and to all watchers, that something has become visible.
func (q *Queue) wakeLocked() {
	close(q.changed)
	q.changed = make(chan struct{})
	for c := range q.watchers {
		select {
		case c <- struct{}{}:
		default: // it has not read the last signal yet, which stands for this one as well
		}
	}
}

// earliest returns the earlier of two times. A zero time means "none" and is ignored.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// pause waits until changed is closed or the time has come. It returns an error only if ctx ends
// first: its cause.
func pause(ctx context.Context, changed <-chan struct{}, until time.Time) error {
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}
