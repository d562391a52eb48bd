package allocate

import (
	"container/heap"
	"math"
	"slices"
	"time"

	"cloudmaster/internal/activeset"
)

// batchWidth is the time within which assignments are kept as one.
const batchWidth = 100 * time.Millisecond

// Estimates below roundable are rounded to six decimals. Sums of tenths that differ in their last bit only are then
// equal, so that their instances take turns.
const (
	decimals  = 1e6
	roundable = 1e9
)

// candidate is one instance that a client can be sent to.
type candidate struct {
	activeset.Instance // address of the newest set, load of the newest report
	own                assignments

	estimate float64 // the reported load and our own clients
	turn     uint64  // when it was last chosen; 0 never
	draw     uint64  // random order among those never chosen
}

// report takes over what a new active set says of the instance. A report that is older than the present one changes
// only the address: a controller that has restarted also lists instances that have not reported to it yet. The same
// report again confirms none of the assignments made since, even if the instance's clock is ahead of ours.
func (c *candidate) report(in activeset.Instance) {
	if in.ReportedAt.Before(c.ReportedAt) {
		c.Address = in.Address
		return
	}
	if in.ReportedAt.After(c.ReportedAt) {
		c.own.confirm(in.ReportedAt)
	}
	c.Instance = in
}

// rank computes the estimate anew. The caller must then restore the order of the heap.
func (c *candidate) rank(clientLoad float64) {
	c.estimate = c.Load + float64(c.own.clients)*clientLoad
	if c.estimate < roundable {
		c.estimate = math.Round(c.estimate*decimals) / decimals
	}
}

// before reports whether c is chosen rather than d.
func (c *candidate) before(d *candidate) bool {
	switch {
	case c.estimate != d.estimate:
		return c.estimate < d.estimate
	case c.turn != d.turn:
		return c.turn < d.turn
	}
	return c.draw < d.draw
}

// candidates is a heap. Its first element is the next to be chosen.
type candidates []*candidate

var _ heap.Interface = (*candidates)(nil)

func (q candidates) Len() int           { return len(q) }
func (q candidates) Less(i, j int) bool { return q[i].before(q[j]) }
func (q candidates) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }

// Push and Pop complete heap.Interface. They are not used, because candidates are only replaced as a whole.
func (q *candidates) Push(c any) { *q = append(*q, c.(*candidate)) }

func (q *candidates) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

// assignments are the clients sent to one instance that no report has confirmed.
type assignments struct {
	batches []batch // oldest first
	clients int     // their sum
}

// batch is a number of assignments that were made within batchWidth.
type batch struct {
	first, last time.Time
	clients     int
}

func (a *assignments) add(now time.Time) {
	a.clients++
	if n := len(a.batches); n > 0 {
		if b := &a.batches[n-1]; now.Sub(b.first) < batchWidth {
			b.clients++
			if now.After(b.last) {
				b.last = now
			}
			return
		}
	}
	a.batches = append(a.batches, batch{first: now, last: now, clients: 1})
}

// confirm drops the assignments that were made before a report was written.
func (a *assignments) confirm(reportedAt time.Time) {
	a.dropWhile(func(b batch) bool { return b.last.Before(reportedAt) })
}

// forget drops the assignments that were made at or before a time.
func (a *assignments) forget(until time.Time) {
	a.dropWhile(func(b batch) bool { return !b.last.After(until) })
}

func (a *assignments) dropWhile(over func(batch) bool) {
	n := 0
	for n < len(a.batches) && over(a.batches[n]) {
		a.clients -= a.batches[n].clients
		n++
	}
	a.batches = slices.Delete(a.batches, 0, n)
}
