package loop

import (
	"slices"
	"time"

	"cloudmaster/internal/pool"
)

// budget keeps to the start and stop limits: so many of each at most in any period of one policy interval.
type budget struct {
	starts []start     // oldest first, within the window
	stops  []time.Time // likewise
	seeded bool
}

// start is one instance that was launched, or may have been.
type start struct {
	at    time.Time
	token string // of the launch; empty: launched by a controller before this one
}

// seed counts, once, the launches and drains of the last policy interval that can be seen from the instances,
// so that a restart does not refill the budget.
func (b *budget) seed(instances func(time.Time) []pool.Instance, now time.Time) {
	if b.seeded {
		return
	}
	b.seeded = true
	for _, in := range instances(now) {
		b.starts = append(b.starts, start{at: in.Launched})
		if in.State == pool.ShutDown && !in.Interrupted {
			b.stops = append(b.stops, in.StateSince)
		}
	}
	slices.SortFunc(b.starts, func(x, y start) int { return x.at.Compare(y.at) })
	slices.SortFunc(b.stops, time.Time.Compare)
}

// left returns what is left in the policy interval that ends now. What was counted for the launch with the token open,
// of which it is not known whether it took effect, may be used again to ask for it again.
func (b *budget) left(now time.Time, limits pool.Limits, window time.Duration, open string) pool.Budget {
	over := func(at time.Time) bool { return now.Sub(at) >= window }
	b.starts = slices.DeleteFunc(b.starts, func(s start) bool { return over(s.at) })
	b.stops = slices.DeleteFunc(b.stops, over)
	used := 0
	for _, s := range b.starts {
		if open == "" || s.token != open {
			used++
		}
	}
	return pool.Budget{
		Starts: max(0, limits.StartLimit-used),
		Stops:  max(0, limits.StopLimit-len(b.stops)),
	}
}

// started counts n instances that a launch has started now, or may have started. It replaces what earlier attempts with
// the same token have counted.
func (b *budget) started(now time.Time, token string, n int) {
	b.starts = slices.DeleteFunc(b.starts, func(s start) bool { return s.token == token })
	for range n {
		b.starts = append(b.starts, start{now, token})
	}
}

// stopped counts one ending, if the charge of the decision is not used up, and takes it from the charge. It
// counts nothing if there is no charge.
func (b *budget) stopped(now time.Time, charge *int) {
	if charge == nil || *charge == 0 {
		return
	}
	*charge--
	b.stops = append(b.stops, now)
}

// refill returns when the oldest start or stop is a policy interval old, so that it does not count any more;
// now if there is none.
func (b *budget) refill(now time.Time, window time.Duration) time.Time {
	switch {
	case len(b.starts)+len(b.stops) == 0:
		return now
	case len(b.stops) == 0, len(b.starts) > 0 && b.starts[0].at.Before(b.stops[0]):
		return b.starts[0].at.Add(window)
	}
	return b.stops[0].Add(window)
}
