package workload

import (
	"time"

	"cloudmaster/internal/pool"
)

// poll saves calls to a work queue that cannot tell of arrivals: it is read once in each interval, and what
// was read serves the passes in between.
type poll struct {
	last  pool.Backlog
	at    time.Time // when last was read; zero: it must be read
	told  time.Time // when the queue was last read because of a hint; zero: never
	again time.Time // when to read it once more after a hint; zero: not at all
}

const (
	// hintGap is the shortest time between two readings because of hints, however many hints are sent.
	hintGap = 500 * time.Millisecond
	// lookAgain is how long after a hint the queue is read once more: what the queue tells of its depth may
	// be older than the hint.
	lookAgain = 1500 * time.Millisecond
)

// usable reports whether the last reading can be used at the given time.
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

// follow has the queue read if there was a hint: at once, or when hintGap has passed since it was last read
// because of one.
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

// took corrects the reading for messages that were taken from the queue since.
func (p *poll) took(n int) {
	n = min(n, p.last.Visible)
	p.last.Visible -= n
	p.last.InFlight += n
}

// ended corrects the reading for messages that were deleted since.
func (p *poll) ended(n int) { p.last.InFlight = max(0, p.last.InFlight-n) }
