package pool

import (
	"cmp"
	"math"
	"time"
)

// Ranking says where an instance stands among those that can be chosen.
type Ranking func(*Instance) Rank

// Rank is an instance's place in an order. It is a small copy of what the order looks at, because many instances are
// sorted much faster when their ranks lie side by side than when each comparison looks two of them up. Of two that are
// equal in everything else, the one with the lower id comes first.
type Rank struct {
	load     float64 // the least first
	idle     int64   // the time since when it is idle; the earliest first
	launched int64   // the earliest first
	at       int32   // where it is in the snapshot, which is sorted by id
	young    bool    // those that are not come first, whatever the rest says
	fresh    bool    // those that are not come first, of those that are equally young
}

func (r Rank) compare(other Rank) int {
	switch {
	case r.young != other.young:
		if r.young {
			return 1
		}
		return -1
	case r.fresh != other.fresh:
		if r.fresh {
			return 1
		}
		return -1
	case r.load != other.load:
		return cmp.Compare(r.load, other.load)
	case r.idle != other.idle:
		return cmp.Compare(r.idle, other.idle)
	case r.launched != other.launched:
		return cmp.Compare(r.launched, other.launched)
	}
	return cmp.Compare(r.at, other.at)
}

// ByVictim orders candidates for a stop: outdated ones first, then lowest load, then longest idle, then oldest launch,
// then id. It does not look at lifetimes: callers leave out the instances that are too young.
func ByVictim(i *Instance) Rank {
	r := Rank{load: i.Load, idle: math.MaxInt64, launched: nanoseconds(i.Launched), fresh: i.Drift == ""}
	if !i.IdleSince.IsZero() {
		r.idle = i.IdleSince.UnixNano()
	}
	return r
}

// ByVictim orders candidates for a shut-down or a stop: those whose lifetimes are over first, then outdated ones, then
// lowest load, then idle longest, then oldest launch, then id.
func (l Limits) ByVictim(now time.Time) Ranking {
	return func(i *Instance) Rank {
		r := ByVictim(i)
		r.young = !l.Mature(now, i)
		return r
	}
}

// ByLoadDescending orders candidates for reactivation: highest load first, then oldest launch, then id.
func ByLoadDescending(i *Instance) Rank {
	return Rank{load: -i.Load, launched: nanoseconds(i.Launched)}
}

// nanoseconds returns a time as a number, and the least number for one that is not known.
func nanoseconds(t time.Time) int64 {
	if t.IsZero() {
		return math.MinInt64
	}
	return t.UnixNano()
}
