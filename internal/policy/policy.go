// Package policy holds the deciders: pure functions from a snapshot of a pool to
// a decision. They see no clock, no logger and no cloud, do not modify the
// snapshot, and for equal snapshots return equal decisions.
//
// docs/policies.md has the rules in words. "Counted" there and here is startup +
// active. What a decision may really do is the limits' business: see pool.Limits.
package policy

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"cloudmaster/internal/pool"
)

// Policy decides what should happen to a pool.
type Policy interface {
	// Decide returns what the policy wants and why. An empty decision says why
	// too, if there was something to decide.
	Decide(s *pool.Snapshot) pool.Decision
}

// Settings are the keys of all policies that come with CloudMaster; each policy
// reads its own.
type Settings struct {
	Job      JobSettings
	Resource ResourceSettings
	Limits   pool.Limits // for choosing victims whose lifetimes are over first
}

// Factory makes a policy from settings and refuses settings that make no sense,
// naming all that is wrong.
type Factory func(Settings) (Policy, error)

// Fixed keeps the pool between its minimum and maximum, which the limits do: it
// asks for nothing itself.
type Fixed struct{}

// Decide asks for nothing.
func (Fixed) Decide(*pool.Snapshot) pool.Decision { return pool.Decision{} }

// ceil rounds up to a number of instances, forgiving what floating point adds to
// a whole number: three loads of 0.1 over 0.3 are one server, not two. Nobody
// runs more than MaxInt32 instances, so infinity is that.
func ceil(x float64) int {
	if !(x > 0) { // NaN, too
		return 0
	}
	return int(min(math.Ceil(x*(1-1e-9)), math.MaxInt32))
}

// positive returns one error for each value that is not a number above 0.
func positive(values ...setting) error {
	var errs []error
	for _, v := range values {
		if !(v.value > 0) || math.IsInf(v.value, 0) { // NaN fails the comparison
			errs = append(errs, fmt.Errorf("%s is %v, not a number above 0", v.key, v.value))
		}
	}
	return errors.Join(errs...)
}

type setting struct {
	key   string
	value float64
}

// Watchdog finds the instances that are hung: silent, or never started.
type Watchdog struct {
	Interval     time.Duration // silence that makes an instance hung; 0 turns the watchdog off
	BootDeadline time.Duration // an instance in startup for longer is hung; 0 means Interval
	BreakerRatio float64       // more of the active instances silent than this: the fault is ours
}

// breakerLeast is how many instances there must be before the silence of the active ones can
// be ours. Those that never spoke say nothing about us: their image may be bad.
const breakerLeast = 4

// probeAfter is how many times as long as makes an instance hung it must be silent to be
// replaced while the breaker is open.
const probeAfter = 3

// Verdict is what the watchdog found.
type Verdict struct {
	Hung    []pool.InstanceID // to be replaced
	Silent  int               // of the active instances, how many are silent
	Active  int
	Breaker bool // open: so many are silent that at most one is replaced
}

// Inspect looks for hung instances among those that are counted or draining.
// While the inventory is unknown nothing is hung, and while the breaker is open one at most.
func (w Watchdog) Inspect(s *pool.Snapshot) Verdict {
	v := Verdict{Active: s.Count(pool.Active)}
	for i := range s.Instances {
		if !w.hung(s.Now, &s.Instances[i]) {
			continue
		}
		v.Hung = append(v.Hung, s.Instances[i].ID)
		if s.Instances[i].State == pool.Active {
			v.Silent++
		}
	}
	// Those on their way out count, or the breaker would close by what it lets go.
	v.Breaker = s.Counted()+s.Count(pool.Stopping) >= breakerLeast && float64(v.Silent) > w.BreakerRatio*float64(v.Active)
	switch {
	case s.Stale: // what we cannot see is no proof
		v.Hung = nil
	case v.Breaker:
		v.Hung = w.probe(s)
	}
	return v
}

// probe chooses the one that is replaced to find out whose fault the silence is. If what
// takes its place is heard, the others are hung and follow. As long as one is
// starting, that is being found out; if it is never heard, it is replaced again and again,
// and no other: at most one worker falls victim to an outage of ours.
func (w Watchdog) probe(s *pool.Snapshot) []pool.InstanceID {
	starting := s.Count(pool.Startup) > 0
	var best *pool.Instance
	for i := range s.Instances {
		in := &s.Instances[i]
		candidate := in.State == pool.Active && w.silent(s.Now, in, probeAfter)
		if starting {
			candidate = in.State == pool.Startup && w.hung(s.Now, in)
		}
		if candidate && (best == nil || in.HeardAt.Before(best.HeardAt)) {
			best = in
		}
	}
	if best == nil {
		return nil
	}
	return []pool.InstanceID{best.ID}
}

func (w Watchdog) hung(now time.Time, i *pool.Instance) bool { return w.silent(now, i, 1) }

// silent reports whether nothing was heard for more than so many times the deadline.
func (w Watchdog) silent(now time.Time, i *pool.Instance, times int) bool {
	deadline := w.Interval
	switch i.State {
	case pool.Startup:
		deadline = cmp.Or(w.BootDeadline, w.Interval)
	case pool.Active, pool.ShutDown:
	case pool.Unknown, pool.Stopping:
		return false
	}
	if deadline > math.MaxInt64/probeAfter { // longer than anybody waits
		return false
	}
	deadline *= time.Duration(times)
	// Nobody is silent before being launched.
	return deadline > 0 && now.Sub(i.HeardAt) > deadline && now.Sub(i.Launched) > deadline
}

// Judge is the whole judgement of a pool: what is hung, what the policy wants,
// what the limits allow. It is as pure as its parts.
type Judge struct {
	Policy   Policy
	Watchdog Watchdog
	Limits   pool.Limits
}

// Decide returns the decision to carry out, and what the watchdog saw. Hung
// instances are no capacity to policy and limits, so that they are replaced in
// the same pass; their stops ignore lifetimes and limits.
func (j Judge) Decide(s *pool.Snapshot, left pool.Budget) (pool.Decision, Verdict) {
	v := j.Watchdog.Inspect(s)
	d := j.decide(s, left, &v)
	if v.Breaker && len(v.Hung) > 0 && d.Launch == 0 {
		v.Hung = nil // without a successor its end would prove nothing
		d = j.decide(s, left, &v)
	}
	if len(v.Hung) > 0 {
		d.Stop = append(slices.Clone(v.Hung), d.Stop...)
		d.Because("%d hung", len(v.Hung))
	}
	if v.Breaker {
		d.Because("breaker open: %d of %d silent", v.Silent, v.Active)
	}
	return d, v
}

// decide asks policy and limits what to do about the instances that are not hung.
func (j Judge) decide(s *pool.Snapshot, left pool.Budget, v *Verdict) pool.Decision {
	rest := *s
	rest.Stale = s.Stale || v.Breaker // last loads of the silent ones prove nothing either
	if len(v.Hung) > 0 {
		rest.Instances = slices.Clone(s.Instances)
		for i := range rest.Instances {
			if slices.Contains(v.Hung, rest.Instances[i].ID) {
				rest.Instances[i].State = pool.Stopping
			}
		}
	}
	want := j.Policy.Decide(&rest)
	if v.Breaker && len(v.Hung) > 0 {
		want.Launch = max(want.Launch, 1)
	}
	return j.Limits.Apply(&rest, want, left)
}
