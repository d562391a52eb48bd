// Package allocate chooses the instance for the next client of a pool.
//
// # The choice
//
// The loads in an active set are always a little out of date. If each client were sent to the instance with the lowest
// load in the set, all clients between two reports would go to the same one. So a Pool adds to each reported load what
// it has assigned itself since the report was written, and what other allocators have told it that they assigned:
//
//	estimate = load_estimate + client load × assignments since reported_at
//
// An allocator that knows all assignments takes the lowest estimate. News of the others take a moment, and if they
// assign many clients in it, each takes the lowest estimate of a few instances that it draws, so that not all choose
// the same.
//
// While an allocator does not hear the others (their backend has no notices, or the broker is away), it counts each of
// its own clients once for each allocator that there seems to be. Since it does not know which instances they choose,
// it draws, the fewer the more allocators there are. An instance that seems full is taken only if all do.
//
// Among instances with equal estimates it takes one that was never chosen, at random, so that several allocators with
// the same set do not all choose the same; else the one that was chosen longest ago. An instance without an address is
// skipped.
//
// # What it learns
//
// Nobody tells an allocator how many others there are, nor for how long clients stay. It learns both from each report
// that follows another one: how much the load has grown, and how many clients are known to have been sent there (see
// moments). Whoever else sends clients counts like an allocator that cannot be heard, for instance clients that come
// back without asking. It also learns how many clients the allocators that it hears send for each of its own, so that
// it can reckon with them once it does not hear them. What it has learnt fades: it follows changes within some ten mean
// sessions.
//
// Clients that have probably left count less and less, those of the report and its own alike. So time alone never
// changes which instance has the lowest estimate; but of two own clients, the later one counts for more.
//
// Before reports have confirmed some clients of its own, it takes itself for the only one, and clients for staying.
//
// # When an assignment stops counting
//
//   - A report written after it: the client is in the reported load, or has left.
//     Reports carry the instance's clock, so clocks that differ by d make
//     assignments count up to d too long or too short.
//   - Options.Forget, if no report comes: a client that never arrived, or an
//     instance that has fallen silent, must not keep others away for ever.
//   - The instance leaves the set.
//
// Assignments within 100 ms of each other are kept as one and end with the newest of them, so memory is bounded by
// instances × Forget and not by the number of clients.
//
// # Versions
//
// A document that is older than the one in use, by version and by time, is ignored. A lower version with a later time
// is taken: the controller has started to count anew. An instance's older report never replaces its newer one.
//
// The package reads no clock: callers pass the time. Loads have no unit: 0 means that nothing is connected, 1 that the
// instance is full.
package allocate

import (
	"cmp"
	"container/heap"
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"sync"
	"time"

	"cloudmaster/internal/activeset"
	"cloudmaster/internal/pool"
)

// Defaults of Options.
const (
	DefaultClientLoad = 0.1
	// DefaultForget is long enough for an active set that is written once a minute and missed once.
	DefaultForget = 3 * time.Minute
)

// Several allocators that do not hear each other and all take the least loaded instance send their clients to the same
// one. Those that draw a few and take the least loaded of them do not. The more there are, the fewer they must draw:
// with 20 shared among them, and 2 more, the fewest clients went to full servers in simulations of 1 to 8 allocators
// and 3 to 100 servers.
const (
	fewestDraws = 2.0
	moreDraws   = 20.0
	redraws     = 4    // how many times as many are drawn while all that were drawn are full
	alone       = 0.25 // with less than this share of clients by others, there is no other allocator but chance
)

// sweepInterval is how often old assignments are looked for.
const sweepInterval = time.Second

// The reasons for which no instance can be given.
var (
	// ErrNoServers: the pool has no active instance with an address.
	ErrNoServers = errors.New("no servers are running")
	// ErrUnread: the active set has not been read yet, so it is not known whether there are any.
	ErrUnread = errors.New("the active set has not been read yet")
)

// Options of a Pool; the zero value works.
type Options struct {
	ClientLoad float64       // what one client adds to an instance's load; 0 means DefaultClientLoad
	Forget     time.Duration // how long an assignment counts that no report confirms; 0 means DefaultForget
	Rand       func() uint64 // orders instances never chosen, and draws; nil means a random seed
}

// Pool is one pool's active set and what was assigned from it. It is safe for concurrent use. Until the first Update or
// Clear it does not know whether the pool has instances.
type Pool struct {
	name       pool.Name
	clientLoad float64
	forget     time.Duration
	random     func() uint64

	mu        sync.Mutex
	header    header     // guarded by mu
	queue     candidates // guarded by mu: a heap, the next choice first
	known     byID       // guarded by mu: the candidates of the queue
	turn      uint64     // guarded by mu: counts choices
	habits    habits     // guarded by mu
	scale     scale      // guarded by mu
	sweepFrom time.Time  // guarded by mu: when to look for old assignments next
	talk      talk       // guarded by mu
}

type byID = map[pool.InstanceID]*candidate

// header is what is known of the document as a whole.
type header struct {
	read      bool // the store has given a document, or said that there is none
	exists    bool
	version   int
	writtenAt time.Time
	checkedAt time.Time // when the store last said that this is the present document
	listed    int       // instances in the document, those without address included
}

// Allocation is the instance for one client.
type Allocation struct {
	ID      pool.InstanceID
	Address string
	Load    float64 // the estimate it was chosen by: before this client
}

// New returns a Pool whose active set has not been read yet.
func New(name pool.Name, opts Options) (*Pool, error) {
	p := &Pool{
		name:       name,
		clientLoad: cmp.Or(opts.ClientLoad, DefaultClientLoad),
		forget:     cmp.Or(opts.Forget, DefaultForget),
		random:     opts.Rand,
	}
	if p.random == nil {
		p.random = rand.Uint64
	}
	if !pool.ValidLoad(p.clientLoad) {
		return nil, fmt.Errorf("pool %s: client load is %v: it must be a finite number above 0", name, p.clientLoad)
	}
	if p.forget < 0 {
		return nil, fmt.Errorf("pool %s: assignments are forgotten after %v: it must be above 0", name, p.forget)
	}
	return p, nil
}

// Name returns the pool's name.
func (p *Pool) Name() pool.Name { return p.name }

// Allocate chooses an instance and counts the client on it. The error is
// ErrNoServers or ErrUnread.
func (p *Pool) Allocate(now time.Time) (Allocation, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.header.read {
		return Allocation{}, ErrUnread
	}
	if len(p.queue) == 0 {
		return Allocation{}, ErrNoServers
	}
	p.sweepLocked(now)
	i := p.chooseLocked(now)
	c := p.queue[i]
	chosen := Allocation{ID: c.ID, Address: c.Address, Load: p.scale.now(c.estimate, now)}
	p.turn++
	c.turn = p.turn
	c.own.add(now, 1, p.eachLocked(), p.scale.weight(now))
	c.rank(&p.scale)
	p.talk.note(c)
	heap.Fix(&p.queue, i)
	return chosen, nil
}

// chooseLocked returns the index of the next choice: the first of the queue if it is known what others assign, else the
// first among a few drawn at random. If those all seem full but the first of the queue does not, more are drawn, and at
// last the first of the queue is taken.
func (p *Pool) chooseLocked(now time.Time) int {
	draws := p.drawsLocked(now)
	if draws == 0 {
		return 0
	}
	full := p.scale.weight(now) // a load of 1 now, as of the set
	room := p.queue[0].estimate < full
	best := p.drawLocked()
	for n := 1; n < draws || room && n < redraws*draws && p.queue[best].estimate >= full; n++ {
		if i := p.drawLocked(); p.queue[i].before(p.queue[best]) {
			best = i
		}
	}
	if room && p.queue[best].estimate >= full {
		return 0
	}
	return best
}

// drawsLocked returns how many candidates are drawn for a choice; 0 if the first of the queue is taken.
func (p *Pool) drawsLocked(now time.Time) int {
	if all := p.habits.untold() * p.eachLocked(); all-1 >= alone {
		return int(fewestDraws + moreDraws/all)
	}
	return p.talk.draws(len(p.queue), now)
}

// eachLocked is how many clients a client that is assigned now stands for: itself and, while this allocator does not
// hear the others, those that they send meanwhile.
func (p *Pool) eachLocked() float64 {
	if p.talk.hearing {
		return 1
	}
	return 1 + p.habits.peers
}

// drawLocked returns the index of any candidate.
func (p *Pool) drawLocked() int {
	i, _ := bits.Mul64(p.random(), uint64(len(p.queue)))
	return int(i)
}

// Update makes set the one in use and returns true. If set is older than the one in use it changes nothing and returns
// false. set is not kept.
func (p *Pool) Update(set activeset.Set, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.header.exists && older(set, p.header) {
		return false
	}
	p.header = header{
		read: true, exists: true, version: set.Version,
		writtenAt: set.WrittenAt, checkedAt: now, listed: len(set.Instances),
	}
	p.replaceLocked(set.Instances)
	p.scale = scale{
		set: now, longest: p.forget, leaving: p.habits.leaving, load: p.clientLoad * p.habits.untold(),
	}
	for _, c := range p.queue {
		c.own.weigh(&p.scale)
		c.heard.weigh(&p.scale)
		c.rank(&p.scale)
	}
	heap.Init(&p.queue)
	return true
}

// replaceLocked makes candidates of the instances of a new set, and learns from their reports.
func (p *Pool) replaceLocked(instances []activeset.Instance) {
	var news moments
	had := p.known
	p.known = make(byID, len(instances))
	p.queue = make(candidates, 0, len(instances))
	for _, in := range instances {
		if in.Address == "" {
			continue
		}
		c := had[in.ID]
		if c == nil {
			c = &candidate{draw: p.random()}
		}
		if seen, ok := c.report(in, p.clientLoad, p.habits.leaving); ok && p.tells(seen) {
			news.add(seen, p.habits.leaving)
		}
		c.index = len(p.queue)
		p.queue = append(p.queue, c)
		p.known[c.ID] = c
	}
	p.habits.learn(news, p.forget)
}

// tells reports whether something can be learnt from a change: own clients are not forgotten within its time, and no
// load is beyond what a server can have. One such load would outweigh all others.
func (p *Pool) tells(c change) bool {
	most := plausible / p.clientLoad
	return c.seconds < p.forget.Seconds() && c.before < most && c.after < most
}

// older reports whether a document is older than the one in use, both by version and by time.
func older(set activeset.Set, have header) bool {
	return set.Version < have.version && !set.WrittenAt.After(have.writtenAt)
}

// Clear is called when the store has no document for this pool, which means that there are no servers.
func (p *Pool) Clear(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.header = header{read: true, checkedAt: now}
	p.queue, p.known = nil, nil
}

// Confirm is called when the store has said that the document in use is the present one.
func (p *Pool) Confirm(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.header.checkedAt = now
}

// sweepLocked forgets old assignments. It looks at all instances and therefore does not do so at every call.
func (p *Pool) sweepLocked(now time.Time) {
	if now.Before(p.sweepFrom) {
		return
	}
	p.sweepFrom = now.Add(min(sweepInterval, p.forget))
	for _, c := range p.queue {
		c.own.forget(now.Add(-p.forget))
		c.heard.forget(now.Add(-p.forget))
		c.rank(&p.scale)
	}
	heap.Init(&p.queue)
}
