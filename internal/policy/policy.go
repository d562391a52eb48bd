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
	// too, if there was something to decide. After an error nothing is done but what
	// the limits demand.
	Decide(s *pool.Snapshot) (pool.Decision, error)
}

// Limiter is a policy that changes the limits of its pool with time.
type Limiter interface {
	// Limits returns the limits in force at a time, made from those that are configured.
	Limits(now time.Time, configured pool.Limits) pool.Limits
}

// Checker is a policy that does not go with all limits.
type Checker interface {
	// Check returns all that stands against the configured limits of the pool, joined. Each error begins with its key.
	Check(configured pool.Limits) error
}

// Timer is a policy whose answer can change although nothing happens.
type Timer interface {
	// Next returns when to ask again at the latest, given how the pool is after the last
	// decision was carried out. Zero: whenever the pool is looked at anyway. Times before s.Now are ignored.
	Next(s *pool.Snapshot) time.Time
}

// ceil rounds up to a number of instances, forgiving what floating point adds to
// a whole number: three loads of 0.1 over 0.3 are one server, not two. Nobody
// runs more than MaxInt32 instances, so infinity is that.
func ceil(x float64) int {
	if !(x > 0) { // NaN, too
		return 0
	}
	return int(min(math.Ceil(x*(1-1e-9)), math.MaxInt32))
}

// atLeast returns one error for each whole number that is below its least.
func atLeast(values ...whole) error {
	var errs []error
	for _, v := range values {
		if v.value < v.least {
			errs = append(errs, fmt.Errorf("%s is %d, the least is %d", v.key, v.value, v.least))
		}
	}
	return errors.Join(errs...)
}

type whole struct {
	key          string
	value, least int
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
	Hung    []pool.Ending // to be replaced; sorted by instance
	Silent  int           // of the active instances, how many are silent
	Active  int
	Breaker bool  // open: so many are silent that at most one is replaced
	Failed  error // the policy's; nothing was done but what the limits demand

	Rolling Rolling    // how far the replacement of outdated instances is
	Trial   pool.Trial // what the next snapshot should have
	Owed    int        // what is left of Snapshot.Owed, before anything that this decision does
}

// Inspect looks for hung instances among those that are counted or draining.
// While the inventory is unknown nothing is hung, and while the breaker is open one at most.
// The breaker does not look at those that are about to end: their silence proves nothing.
func (w Watchdog) Inspect(s *pool.Snapshot) Verdict {
	var v Verdict
	counted := s.Count(pool.Stopping) // they count, or the breaker would close by what it lets go
	for i := range s.Instances {
		in := &s.Instances[i]
		hung := w.hung(s.Now, in)
		if hung {
			v.Hung = append(v.Hung, ending(s.Now, in))
		}
		if in.Interrupted || !in.Counted() {
			continue
		}
		if counted++; in.State == pool.Active {
			if v.Active++; hung {
				v.Silent++
			}
		}
	}
	v.Breaker = counted >= breakerLeast && float64(v.Silent) > w.BreakerRatio*float64(v.Active)
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
func (w Watchdog) probe(s *pool.Snapshot) []pool.Ending {
	starting := s.Count(pool.Startup) > 0
	var best *pool.Instance
	for i := range s.Instances {
		in := &s.Instances[i]
		candidate := in.State == pool.Active && !in.Interrupted && w.silent(s.Now, in, probeAfter)
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
	return []pool.Ending{ending(s.Now, best)}
}

// ending says why an instance counts as hung.
func ending(now time.Time, i *pool.Instance) pool.Ending {
	e := pool.Ending{Instance: i.ID, Cause: pool.Hung, For: now.Sub(i.HeardAt), Load: i.Load}
	if i.State == pool.Startup {
		e.Cause = pool.NeverStarted
	}
	return e
}

func (w Watchdog) hung(now time.Time, i *pool.Instance) bool { return w.silent(now, i, 1) }

// Lost reports whether an instance that was told to end, and works on, is not heard of any more.
func (w Watchdog) Lost(now time.Time, i *pool.Instance) bool {
	at := *i
	at.State = pool.Active
	return w.hung(now, &at)
}

// silent reports whether nothing was heard for more than so many times the deadline.
func (w Watchdog) silent(now time.Time, i *pool.Instance, times int) bool {
	deadline := w.Interval
	switch i.State {
	case pool.Startup:
		deadline = cmp.Or(w.BootDeadline, w.Interval)
	case pool.Active, pool.ShutDown:
	case pool.Unknown, pool.Stopping, pool.Warming, pool.Warm:
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
	Limits   pool.Limits // as configured
	Rollout  pool.Rollout
}

// Check returns all that is wrong with the limits: in themselves, and for the policy.
func (j Judge) Check() error {
	err := j.Limits.Validate()
	if c, ok := j.Policy.(Checker); ok {
		err = errors.Join(err, c.Check(j.Limits))
	}
	return err
}

// LimitsAt returns the limits in force at a time.
func (j Judge) LimitsAt(now time.Time) pool.Limits {
	if l, ok := j.Policy.(Limiter); ok {
		return l.Limits(now, j.Limits)
	}
	return j.Limits
}

// Next returns when the policy wants to be asked again, given how the pool is after
// the last decision was carried out; zero if it does not mind.
func (j Judge) Next(s *pool.Snapshot) time.Time {
	if t, ok := j.Policy.(Timer); ok {
		return t.Next(s)
	}
	return time.Time{}
}

// Decide returns the decision to carry out, and what the watchdog saw. Hung
// instances are no capacity to policy and limits, so that they are replaced in
// the same pass; their stops ignore lifetimes and limits, and stand first. The same is
// true of active instances that say that they are about to end: they are shut down.
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
	if leaving := interrupted(s, v.Hung); len(leaving) > 0 {
		d.ShutDown = append(leaving, d.ShutDown...)
		d.Because("%d about to end", len(leaving))
	}
	if v.Breaker {
		d.Because("breaker open: %d of %d silent", v.Silent, v.Active)
	}
	v.Trial = v.Trial.Without(d.Stop)
	return d, v
}

// decide asks policy, rollout and limits what to do about the instances that are neither hung nor about to end.
func (j Judge) decide(s *pool.Snapshot, left pool.Budget, v *Verdict) pool.Decision {
	rest := *s
	rest.Limits = j.LimitsAt(s.Now)
	rest.Stale = s.Stale || v.Breaker // last loads of the silent ones prove nothing either
	rest.Instances = without(s, v.Hung)
	v.Trial = s.Trial.Look(s, v.Hung)
	r := newRollout(j.Rollout, &rest, v.Trial, left.Stops)
	v.Rolling = r.said()
	if !r.going {
		rest.Instances = keepDraining(rest.Instances)
	}
	seen := r.view(true)
	var want pool.Decision
	want, v.Failed = j.Policy.Decide(&seen)
	if v.Failed != nil {
		want = pool.Decision{}
		want.Because("the policy failed: holding")
		r.hold()
	}
	if v.Breaker && len(v.Hung) > 0 {
		want.Launch = max(want.Launch, 1)
	}
	if !rest.Limits.Drain {
		endLeftovers(&seen, &want)
	}
	r.ask(&want)
	v.Owed = r.owed
	bounded := r.view(false)
	d := bounded.Limits.Apply(&bounded, want, left)
	r.finish(&d, left)
	return d
}

// endLeftovers ends the instances that drain in a pool whose policy drains none: it had another policy when they were
// shut down, and the present one does not finish drains. They end when they say that nobody is connected.
func endLeftovers(s *pool.Snapshot, d *pool.Decision) {
	n := len(d.Stop)
	for i := range s.Instances {
		in := &s.Instances[i]
		empty := in.ReportedAt.After(in.StateSince) && !in.Busy && in.Load == 0
		if in.State == pool.ShutDown && empty &&
			!slices.ContainsFunc(d.Stop, func(e pool.Ending) bool { return e.Instance == in.ID }) {
			d.Stop = append(d.Stop, in.EndIdle(s.Now, pool.Drained))
		}
	}
	if ended := len(d.Stop) - n; ended > 0 {
		d.Because("%d drained", ended)
	}
}
