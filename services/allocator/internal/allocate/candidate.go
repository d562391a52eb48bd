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
	activeset.Instance             // address of the newest set, load of the newest report
	own                assignments // by this allocator
	heard              assignments // by others, which have told of them
	untold             int         // own ones that the others have not been told of

	estimate float64 // what the order goes by: see scale
	index    int     // in the queue
	turn     uint64  // when it was last chosen; 0 never
	draw     uint64  // random order among those never chosen
}

// report takes over what a new active set says of the instance. A report that is older than the present one changes
// only the address: a controller that has restarted also lists instances that have not reported to it yet. The same
// report again confirms none of the assignments made since, even if the instance's clock is ahead of ours.
//
// It returns what the report tells of the time since the one before it, with clients of which a share leaves in a
// second, and false if it tells nothing.
func (c *candidate) report(in activeset.Instance, clientLoad, leaving float64) (change, bool) {
	if in.ReportedAt.Before(c.ReportedAt) {
		c.Address = in.Address
		return change{}, false
	}
	had := c.Instance
	c.Instance = in
	if !in.ReportedAt.After(had.ReportedAt) {
		return change{}, false
	}
	own, sent := c.own.confirm(in.ReportedAt, leaving)
	_, heard := c.heard.confirm(in.ReportedAt, leaving)
	return change{
		before: had.Load / clientLoad, after: in.Load / clientLoad,
		own: own, sent: sent + heard, seconds: in.ReportedAt.Sub(had.ReportedAt).Seconds(),
	}, !had.ReportedAt.IsZero()
}

// scale turns assignments into load. Loads and assignments are compared as of one moment, that of the newest set. A
// client that is assigned later counts for more than one that was there then, because fewer of its like have left. All
// fade equally from then on, so the order of the candidates never changes through time alone.
type scale struct {
	set     time.Time     // the moment
	longest time.Duration // after which fading makes no more difference
	leaving float64       // the share of clients that leave in a second
	load    float64       // what one assignment stands for: its client's load, and that of clients nobody tells of
}

// weight is what a client that is assigned at a time counts for, as of the set.
func (s *scale) weight(at time.Time) float64 {
	age := max(-s.longest, min(at.Sub(s.set), s.longest))
	return math.Exp(s.leaving * age.Seconds())
}

// now is the load that is left at a time of an estimate.
func (s *scale) now(estimate float64, now time.Time) float64 {
	if left := estimate / s.weight(now); left < roundable {
		return math.Round(left*decimals) / decimals
	}
	return estimate
}

// rank computes the estimate anew. The caller must then restore the order of the heap.
func (c *candidate) rank(s *scale) {
	c.estimate = c.Load + (c.own.weight+c.heard.weight)*s.load
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

func (q candidates) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

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
	weight  float64 // what they count for: see scale
}

// batch is a number of assignments that were made within batchWidth.
type batch struct {
	first, last time.Time
	clients     int
	all         float64 // these clients, and those that others have probably sent meanwhile without telling
	weight      float64
}

// add counts clients that were assigned now. Each stands for this many, and counts for the weight.
func (a *assignments) add(now time.Time, clients int, each, weight float64) {
	all := float64(clients) * each
	a.clients += clients
	a.weight += all * weight
	if n := len(a.batches); n > 0 {
		if b := &a.batches[n-1]; now.Sub(b.first) < batchWidth {
			b.clients += clients
			b.all += all
			b.weight += all * weight
			if now.After(b.last) {
				b.last = now
			}
			return
		}
	}
	a.batches = append(a.batches, batch{first: now, last: now, clients: clients, all: all, weight: all * weight})
}

// weigh computes anew what the assignments count for.
func (a *assignments) weigh(s *scale) {
	a.weight = 0
	for i := range a.batches {
		b := &a.batches[i]
		b.weight = b.all * s.weight(b.last)
		a.weight += b.weight
	}
}

// confirm drops the assignments that were made before a report was written. It returns how many of their clients have
// not left by then, if this share leaves in a second, and the same for all that they stand for.
func (a *assignments) confirm(reportedAt time.Time, leaving float64) (clients, all float64) {
	a.dropWhile(func(b batch) bool {
		over := b.last.Before(reportedAt)
		if over {
			there := math.Exp(-leaving * reportedAt.Sub(b.last).Seconds())
			clients += float64(b.clients) * there
			all += b.all * there
		}
		return over
	})
	return clients, all
}

// forget drops the assignments that were made at or before a time.
func (a *assignments) forget(until time.Time) {
	a.dropWhile(func(b batch) bool { return !b.last.After(until) })
}

func (a *assignments) dropWhile(over func(batch) bool) {
	n := 0
	for n < len(a.batches) && over(a.batches[n]) {
		a.clients -= a.batches[n].clients
		a.weight -= a.batches[n].weight
		n++
	}
	a.batches = slices.Delete(a.batches, 0, n)
	if a.clients == 0 {
		a.weight = 0 // sums of fractions leave a rest
	}
}
