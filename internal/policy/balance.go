package policy

import (
	"math"
	"slices"
	"time"

	"cloudmaster/internal/pool"
)

// Balance is what is remembered of the attempts to make a pool level over its places. The zero value has tried nothing.
type Balance struct {
	Gap   int           // between the fullest place and the emptiest open one, when the last instance was moved
	Open  []string      // the places that were open then
	Last  time.Time     // when that was; zero: never
	Pause time.Duration // after a move that did not help
}

// The pause after a move that did not make the pool more level doubles with each such move.
const (
	firstLevelPause = 10 * time.Minute
	mostLevelPause  = 6 * time.Hour
)

// Level marks as outdated, in a snapshot that it may change, the instances that are too many in the fullest place, from
// those that would be the first to go. It does so if that place has at least two more than the emptiest one in which
// launches are possible. open are these places; nil means that the pool need not be level. Instances that are to take
// the place of others do not count. While something else is outdated nothing is marked, because replacing that makes
// the pool level, too.
//
// Level says by Unlevel that no successors are to be launched for this. It waits with growing pauses unless the pool
// has become more level since the last move, so that a place that comes and goes moves only few instances.
func (b Balance) Level(s *pool.Snapshot, open []string) (gap int) {
	if open == nil {
		return 0
	}
	if slices.ContainsFunc(s.Instances, func(in pool.Instance) bool { return in.Counted() && in.Surge }) {
		open = slices.Concat(open, b.Open) // the move that has begun goes on
	}
	gap, fullest := unevenness(s, open)
	if gap < 2 || anyDrift(s) {
		return gap
	}
	s.Unlevel = b.waits(s.Now, gap)
	here := func(in *pool.Instance) bool { return in.Counted() && !in.Surge && in.Place == fullest }
	for _, id := range s.Pick(gap/2, here, s.Limits.ByVictim(s.Now)) {
		s.Find(id).Drift = pool.OtherZone
	}
	return gap
}

// Moved returns what is remembered when a successor is launched to make the pool more level.
func (b Balance) Moved(now time.Time, gap int, open []string) Balance {
	next := Balance{Gap: gap, Open: slices.Clone(open), Last: now, Pause: b.Pause}
	switch {
	case b.Last.IsZero(), now.Sub(b.Last) > 2*max(b.Pause, firstLevelPause):
		next.Pause = firstLevelPause
	case gap >= b.Gap:
		next.Pause = min(2*b.Pause, mostLevelPause)
	}
	return next
}

// waits reports whether the last move has not helped, or has been undone, and too little time has passed since.
func (b Balance) waits(now time.Time, gap int) bool {
	return !b.Last.IsZero() && gap >= b.Gap && now.Sub(b.Last) < b.Pause
}

// unevenness returns by how many instances the fullest place is ahead of the emptiest open one. Of places that are
// equally full, the first one by name counts.
func unevenness(s *pool.Snapshot, open []string) (gap int, fullest string) {
	have := make(map[string]int)
	for i := range s.Instances {
		if in := &s.Instances[i]; in.Counted() && !in.Surge && in.Place != "" {
			have[in.Place]++
		}
	}
	for place, n := range have {
		if n > have[fullest] || n == have[fullest] && place < fullest {
			fullest = place
		}
	}
	least := math.MaxInt
	for _, place := range open {
		least = min(least, have[place])
	}
	return max(0, have[fullest]-least), fullest
}

func anyDrift(s *pool.Snapshot) bool {
	for i := range s.Instances {
		if in := &s.Instances[i]; in.Counted() && in.Drift != "" {
			return true
		}
	}
	return false
}
