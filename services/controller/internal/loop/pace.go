package loop

import "time"

const (
	// After quiet a pass runs at once, and leastGap later the next one may. As long as each pass has been waited for,
	// the pause grows by half, up to burstGap: the first word of a burst is acted on, and what follows is judged
	// together. So one more job is hardly delayed, and statuses that never end do not cost a pass each.
	leastGap, burstGap = 5 * time.Millisecond, 50 * time.Millisecond
	// A pass that begins so soon after it might was waited for, although timers and the machine are late.
	lateness = 2 * time.Millisecond
	// The pause after passes that failed grows with each failure in a row: up to mostGap before a pass that
	// something has asked for, and up to mostBackoff before one that only tries again.
	mostGap, mostBackoff = time.Second, 10 * time.Second
)

// pace is what decides how soon a pass may follow the last one that did not fail.
type pace struct {
	gap  time.Duration // the pause after the last pass
	free time.Time     // when the next pass might begin
}

// next returns when a pass may follow the one that has begun and ended at these times.
func (p *pace) next(began, ended time.Time) time.Time {
	if began.After(p.free.Add(lateness)) { // nobody has waited for it
		p.gap = leastGap
	} else {
		p.gap = min(p.gap+p.gap/2, burstGap)
	}
	p.free = ended.Add(p.gap)
	return p.free
}

// backoff returns the pause after so many passes in a row that have failed.
func backoff(failures int) time.Duration {
	return min(burstGap<<min(max(0, failures-1), 12), mostBackoff)
}
