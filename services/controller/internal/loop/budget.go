package loop

import (
	"slices"
	"time"

	"cloudmaster/internal/pool"
)

// budget keeps to the start and stop limits: so many of each at most in any period of one policy interval.
type budget struct {
	starts []time.Time // oldest first, within the window
	stops  []time.Time
	seeded bool
}

// seed counts, once, the launches and drains of the last policy interval that can be seen from the instances,
// so that a restart does not refill the budget.
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

// left returns what is left in the policy interval that ends now.
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
