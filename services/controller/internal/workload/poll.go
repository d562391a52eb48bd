package workload

import (
	"time"

	"cloudmaster/internal/pool"
)

// poll spares calls to a work queue that cannot tell of arrivals: it is looked at every
// interval, and what was read then serves the passes in between.
type poll struct {
	last  pool.Backlog
	at    time.Time // of last; zero: there is none
	told  time.Time // when a hint was last followed; zero: never
	again time.Time // when to look once more after a hint; zero: not
}

const (
	// hintGap is the least time between two readings that hints ask for, however many send them.
	hintGap = 500 * time.Millisecond
	// lookAgain is when the queue is read again after a hint: depths may lag behind it.
	lookAgain = 1500 * time.Millisecond
)

// usable reports whether the last reading will do at the given time.
func (w *Workload) usable(now time.Time) bool {
	if w.opts.Watched {
		return false
	}
	w.follow(now)
	p := &w.poll
	if !p.again.IsZero() && !now.Before(p.again) {
		p.at, p.again = time.Time{}, time.Time{}
	}
	return !p.at.IsZero() && now.Sub(p.at) < w.opts.PollInterval
}

// follow has the queue looked at if a hint says so: now, or when the last such look is long enough ago.
func (w *Workload) follow(now time.Time) {
	p := &w.poll
	next := p.told.Add(hintGap)
	switch {
	case !w.hinted.Load():
	case now.Before(next):
		if p.again.IsZero() || next.Before(p.again) {
			p.again = next
		}
	case w.hinted.Swap(false):
		p.at, p.told, p.again = time.Time{}, now, now.Add(lookAgain)
	}
}

// keep remembers a reading.
func (p *poll) keep(b pool.Backlog, now time.Time) { p.last, p.at = b, now }

// took corrects the reading by messages that were taken since.
func (p *poll) took(n int) {
	n = min(n, p.last.Visible)
	p.last.Visible -= n
	p.last.InFlight += n
}

// ended corrects the reading by messages that were deleted since.
func (p *poll) ended(n int) { p.last.InFlight = max(0, p.last.InFlight-n) }
