package loop

import (
	"slices"
	"time"

	"cloudmaster/internal/pool"
)

// budget keeps the start and stop limits: in any window of one policy interval
// at most so many of each.
type budget struct {
	starts []time.Time // oldest first, within the window
	stops  []time.Time
	seeded bool
}

// seed counts, once, what can be seen of the launches and drains of a controller
// before us, so that a restart refills nothing.
func (b *budget) seed(instances func(time.Time) []pool.Instance, now time.Time) {
	if b.seeded {
		return
	}
	b.seeded = true
	for _, in := range instances(now) {
		b.starts = append(b.starts, in.Launched)
		if in.State == pool.ShutDown {
			b.stops = append(b.stops, in.StateSince)
		}
	}
	slices.SortFunc(b.starts, time.Time.Compare)
	slices.SortFunc(b.stops, time.Time.Compare)
}

// left returns what the window that ends now has left.
func (b *budget) left(now time.Time, limits pool.Limits, window time.Duration) pool.Budget {
	over := func(at time.Time) bool { return now.Sub(at) >= window }
	b.starts = slices.DeleteFunc(b.starts, over)
	b.stops = slices.DeleteFunc(b.stops, over)
	return pool.Budget{
		Starts: max(0, limits.StartLimit-len(b.starts)),
		Stops:  max(0, limits.StopLimit-len(b.stops)),
	}
}

func (b *budget) started(now time.Time) { b.starts = append(b.starts, now) }

// stopped takes one from what a decision is charged for, and counts it; no charge
// is nothing to count.
func (b *budget) stopped(now time.Time, charge *int) {
	if charge == nil || *charge == 0 {
		return
	}
	*charge--
	b.stops = append(b.stops, now)
}

// refill returns when the next start or stop leaves the window; zero if none is in it.
func (b *budget) refill(now time.Time, window time.Duration) time.Time {
	var at time.Time
	for _, list := range [][]time.Time{b.starts, b.stops} {
		if len(list) > 0 && (at.IsZero() || list[0].Before(at)) {
			at = list[0]
		}
	}
	if at.IsZero() {
		return now
	}
	return at.Add(window)
}
