package allocate

import (
	"container/heap"
	"math"
	"time"

	"cloudmaster/internal/pool"
)

// An allocator that hears the others knows all but their newest assignments. If it took the least loaded server all the
// same, the same servers would get clients from each allocator within that time. With this much on the way, it draws so
// many servers that the one it takes is one of the first few of the queue: twice as many as there are clients on the
// way. In simulations of 50 to 1,000 servers and delays of 10 to 500 ms, half and double the numbers did as well.
const (
	// hearingDelay is the longest time from an assignment until others have heard of it: between two notices.
	hearingDelay = 20 * time.Millisecond
	onTheWay     = 0.25
	firstFew     = 2.0
	mostDraws    = 24
	// rateMemory is for how long clients count in the rate at which they are heard of.
	rateMemory = 5 * time.Second
)

// talk is what allocators tell each other of their assignments.
type talk struct {
	hearing bool         // others are told, and heard
	untold  []*candidate // those with clients that others have not been told of
	rate    float64      // clients in a second that others told of, as of last
	last    time.Time    // when others were last heard
}

// note remembers that c has one more client that others must be told of.
func (t *talk) note(c *candidate) {
	if !t.hearing {
		return
	}
	if c.untold == 0 {
		t.untold = append(t.untold, c)
	}
	c.untold++
}

// heard counts clients for the rate.
func (t *talk) heard(clients int, now time.Time) {
	t.rate = t.rateAt(now) + float64(clients)/rateMemory.Seconds()
	t.last = now
}

// rateAt is at how many clients in a second others send theirs.
func (t *talk) rateAt(now time.Time) float64 {
	if t.rate == 0 {
		return 0
	}
	return t.rate * math.Exp(-max(0, now.Sub(t.last)).Seconds()/rateMemory.Seconds())
}

// draws returns how many of n servers are to be drawn, because clients are on the way that others have not told of
// yet; 0 if there are too few to matter.
func (t *talk) draws(n int, now time.Time) int {
	clients := t.rateAt(now) * hearingDelay.Seconds()
	if clients < onTheWay {
		return 0
	}
	return max(int(fewestDraws), min(mostDraws, int(float64(n)/(1+firstFew*clients))))
}

// SetHearing says whether others hear from now on what this allocator assigns, and this one what they assign. While it
// does not hear them, it counts its own clients for those of the others.
func (p *Pool) SetHearing(hearing bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.talk.untold {
		c.untold = 0
	}
	p.talk = talk{hearing: hearing}
}

// Untold returns the clients of at most so many instances that were assigned while hearing and not returned yet, by
// instance; nil if there are none.
func (p *Pool) Untold(most int) map[pool.InstanceID]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := min(most, len(p.talk.untold))
	if n == 0 {
		return nil
	}
	news := make(map[pool.InstanceID]int, n)
	for _, c := range p.talk.untold[:n] {
		news[c.ID] += c.untold // an instance that has left the set and come back has two candidates
		c.untold = 0
	}
	p.talk.untold = append(p.talk.untold[:0], p.talk.untold[n:]...)
	return news
}

// Hear counts clients that another allocator has just assigned, by instance. Instances that are not in the set are
// ignored: only the other has read that set.
func (p *Pool) Hear(news map[pool.InstanceID]int, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.talk.hearing {
		return
	}
	total := 0
	for id, clients := range news {
		c := p.known[id]
		if c == nil || clients <= 0 {
			continue
		}
		total += clients
		c.heard.add(now, clients, 1, p.scale.weight(now))
		c.rank(&p.scale)
		heap.Fix(&p.queue, c.index)
	}
	p.talk.heard(total, now)
}
