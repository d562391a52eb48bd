package loop

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
)

// poll spares calls to a work queue that cannot tell of arrivals: it is looked at every
// interval, and what was read then serves the passes in between.
type poll struct {
	on       bool
	interval time.Duration
	hinted   atomic.Bool // somebody has put work on the queue since the last reading

	// What follows belongs to the goroutine that runs passes.
	last  pool.Backlog
	at    time.Time // of last; zero: there is none
	told  time.Time // when a hint was last followed; zero: never
	again time.Time // when to look once more after a hint; zero: not
	fresh bool      // what the present pass goes by was read in it
}

// watches reports whether a queue can tell of arrivals.
func watches(q any) bool {
	_, ok := q.(queue.Watcher)
	return ok
}

// usable reports whether the last reading will do at the given time.
func (p *poll) usable(now time.Time) bool {
	if !p.on {
		return false
	}
	p.follow(now)
	if !p.again.IsZero() && !now.Before(p.again) {
		p.at, p.again = time.Time{}, time.Time{}
	}
	return !p.at.IsZero() && now.Sub(p.at) < p.interval
}

// hintGap is the least time between two readings that hints ask for, however many send them.
const hintGap = 500 * time.Millisecond

// follow has the queue looked at if a hint says so, now or when the last such look is long enough ago.
func (p *poll) follow(now time.Time) {
	next := p.told.Add(hintGap)
	switch {
	case !p.hinted.Load():
	case now.Before(next):
		if p.again.IsZero() || next.Before(p.again) {
			p.again = next
		}
	case p.hinted.Swap(false):
		p.at, p.told, p.again = time.Time{}, now, now.Add(lookAgain) // depths may lag behind the hint
	}
}

// keep remembers a reading.
func (p *poll) keep(b pool.Backlog, now time.Time) {
	if p.on {
		p.last, p.at = b, now
	}
}

// took corrects the reading by messages that we have taken since.
func (p *poll) took(n int) {
	n = min(n, p.last.Visible)
	p.last.Visible -= n
	p.last.InFlight += n
}

// ended corrects the reading by messages that we have deleted since.
func (p *poll) ended(n int) { p.last.InFlight = max(0, p.last.InFlight-n) }

// due returns when the queue must be looked at next; zero if nothing is known or
// nobody need look.
func (p *poll) due() time.Time {
	if p.at.IsZero() {
		return time.Time{}
	}
	return p.at.Add(p.interval)
}

// readWork finds the depth of the work queue and, where its messages are requests
// for a server, takes them. An error makes the backlog unknown. What was read less
// than a poll interval ago may do, unless it must be fresh.
func (l *Loop) readWork(ctx context.Context, now time.Time, fresh bool) error {
	l.backlog = pool.Backlog{}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if usable := l.poll.usable(now); usable && !fresh {
		l.poll.fresh = false
		if err := l.requests.keep(ctx, l.deps.Work, now); err != nil {
			return err
		}
		l.backlog = l.poll.last
		return nil
	}
	l.poll.at, l.poll.fresh = time.Time{}, true
	b, err := l.deps.Work.Backlog(ctx)
	if err != nil {
		return fmt.Errorf("read backlog: %w", err)
	}
	b.Known = true
	before := l.requests.count()
	if l.cfg.Requests() {
		if err := l.requests.take(ctx, l.deps.Work, b.Visible > 0, now); err != nil {
			return err // there may be more than we know of
		}
	}
	l.backlog = b
	l.poll.keep(b, now)
	l.poll.took(l.requests.count() - before)
	return nil
}
