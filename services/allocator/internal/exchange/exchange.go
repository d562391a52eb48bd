// Package exchange tells the other allocators of a deployment what this one assigns, and hears what they assign.
//
// # Notices
//
// Every Interval in which it has assigned clients, an allocator sends one notice to all others (see notice). Nobody
// stores notices: a client that is not heard of is found in the next report of its server.
//
// # Hearing
//
// An allocator must know whether it hears the others, because it counts otherwise (see the package allocate). Silence
// says nothing, as the others may have nothing to tell. But it also hears itself: it sends a notice at least every half
// second, and while its own ones come back in time, it hears, and is heard. It is deaf when none has come back for
// Patience, at once when one cannot be sent or comes back late, and until the first one has come back. Then it ignores
// what comes, for it may be old, and sends empty notices only.
//
// Ages are of one clock each: that of an allocator's own notice is by its own monotonic clock, and what others tell
// counts from when it is heard.
package exchange

import (
	"context"
	"crypto/rand"
	"log/slog"
	"sync"
	"time"

	"cloudmaster/internal/backend"
	"cloudmaster/internal/backoff"
	"cloudmaster/internal/pool"
)

const (
	// Interval is the shortest time between two notices, and about how late others hear of a client.
	Interval = 20 * time.Millisecond
	// Patience is how long an allocator takes itself for hearing after it has last heard itself.
	Patience = 2 * time.Second

	topic    = "allocations"
	probing  = Patience / 4 // the longest time between two notices
	latest   = time.Second  // the age from which an own notice comes back late
	mostIDs  = 10_000       // in one notice; a broker takes 1 MB
	leastTry = time.Second  // between tries to listen
	mostTry  = 30 * time.Second

	complaints = time.Minute // between two lines of the log on damaged notices
)

// Outcome is what became of a notice.
type Outcome string

// The outcomes of a notice.
const (
	Sent    Outcome = "sent"
	Failed  Outcome = "failed"  // it could not be sent
	Heard   Outcome = "heard"   // it was another allocator's, and counts
	Ignored Outcome = "ignored" // it was another allocator's, but came while this one was deaf
	Damaged Outcome = "damaged" // it cannot be understood
)

// Pool is what is needed of an allocate.Pool.
type Pool interface {
	Name() pool.Name
	SetHearing(hearing bool)
	Untold(most int) map[pool.InstanceID]int
	Hear(news map[pool.InstanceID]int, now time.Time)
}

// Options of an Exchange; the zero value works.
type Options struct {
	Log     *slog.Logger      // nil discards
	Observe func(out Outcome) // called once for each notice; may be nil
}

// Exchange is one allocator's part in the exchange. Its Run may be called once.
type Exchange struct {
	board backend.Notices
	pools []Pool
	opts  Options
	name  string    // tells this allocator's notices from others'
	start time.Time // ages of notices count from here

	mu      sync.Mutex
	self    time.Time // guarded by mu: when an own notice last came back in time; zero: deaf
	sent    time.Time // guarded by mu: when the last notice was sent or tried
	hearing bool      // guarded by mu: what the pools have been told
	unclear time.Time // guarded by mu: when the log last said that a notice was damaged
}

// New returns an Exchange that has not begun to listen. Its pools are deaf until then.
func New(board backend.Notices, pools []Pool, opts Options) *Exchange {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Observe == nil {
		opts.Observe = func(Outcome) {}
	}
	return &Exchange{board: board, pools: pools, opts: opts, name: rand.Text(), start: time.Now()}
}

// Run takes part until ctx ends, and returns nil.
func (e *Exchange) Run(ctx context.Context) error {
	stop, ok := e.listen(ctx)
	if !ok {
		return nil
	}
	defer stop()
	tick := time.NewTicker(Interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			e.Step(time.Now())
		}
	}
}

// listen tries until it listens. It returns false if ctx ends before.
func (e *Exchange) listen(ctx context.Context) (stop func(), ok bool) {
	for try := 1; ctx.Err() == nil; try++ {
		stop, err := e.Listen(time.Now)
		if err == nil {
			return stop, true
		}
		if try == 1 {
			e.opts.Log.WarnContext(ctx, "other allocators cannot be heard; trying again", "error", err)
		}
		backoff.Wait(ctx, backoff.Delay(try, leastTry, mostTry))
	}
	return nil, false
}

// Listen begins to hear others, until stop is called. The clock is that of Step. Run does both; simulations call them.
func (e *Exchange) Listen(clock func() time.Time) (stop func(), err error) {
	return e.board.Listen(topic, func(data []byte) { e.take(data, clock()) })
}

// Step does what is due: it tells the pools whether this allocator hears, and sends a notice if there is something to
// tell, or if none was sent for long.
func (e *Exchange) Step(now time.Time) {
	hearing := e.settle(now)
	n := notice{From: e.name, At: now.Sub(e.start).Milliseconds()}
	if hearing {
		n.Clients = e.untold()
	}
	e.mu.Lock()
	due := len(n.Clients) > 0 || e.sent.IsZero() || now.Sub(e.sent) >= probing
	if due {
		e.sent = now
	}
	e.mu.Unlock()
	if due {
		e.send(n)
	}
}

// settle tells the pools and the log if this allocator has begun or ceased to hear, and returns whether it hears.
func (e *Exchange) settle(now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	hearing := e.hearsLocked(now)
	if hearing == e.hearing {
		return hearing
	}
	e.hearing = hearing
	for _, p := range e.pools {
		p.SetHearing(hearing)
	}
	if hearing {
		e.opts.Log.Info("allocators tell each other what they assign")
	} else {
		e.opts.Log.Warn("other allocators cannot be heard; until they are, own clients count for theirs as well")
	}
	return hearing
}

func (e *Exchange) hearsLocked(now time.Time) bool {
	return !e.self.IsZero() && now.Sub(e.self) < Patience
}

func (e *Exchange) untold() map[pool.Name]map[pool.InstanceID]int {
	var all map[pool.Name]map[pool.InstanceID]int
	left := mostIDs
	for _, p := range e.pools {
		news := p.Untold(left)
		if len(news) == 0 {
			continue
		}
		if all == nil {
			all = map[pool.Name]map[pool.InstanceID]int{}
		}
		all[p.Name()] = news
		left -= len(news)
	}
	return all
}

// send sends a notice. If it cannot be sent, this allocator is deaf from now on: others do not hear it either.
func (e *Exchange) send(n notice) {
	err := e.board.Notify(topic, n.encode())
	if err == nil {
		e.opts.Observe(Sent)
		return
	}
	e.opts.Observe(Failed)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.self = time.Time{}
}

// take takes in a notice of any allocator, also of this one.
func (e *Exchange) take(data []byte, now time.Time) {
	n, err := decode(data)
	if err != nil {
		e.complain(data, err, now)
		return
	}
	e.mu.Lock()
	if n.From == e.name {
		e.self = now
		if now.Sub(e.start)-time.Duration(n.At)*time.Millisecond >= latest {
			e.self = time.Time{}
		}
		e.mu.Unlock()
		return
	}
	hears := e.hearsLocked(now)
	e.mu.Unlock()
	if !hears {
		e.opts.Observe(Ignored)
		return
	}
	e.opts.Observe(Heard)
	for _, p := range e.pools {
		if news := n.Clients[p.Name()]; len(news) > 0 {
			p.Hear(news, now)
		}
	}
}

// complain counts a damaged notice, and logs one a minute.
func (e *Exchange) complain(data []byte, err error, now time.Time) {
	e.opts.Observe(Damaged)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.unclear.IsZero() || now.Sub(e.unclear) >= complaints {
		e.unclear = now
		e.opts.Log.Warn("a notice of an allocator is damaged and ignored; is there an allocator of another version?",
			"error", err, "notice", beginning(data))
	}
}
