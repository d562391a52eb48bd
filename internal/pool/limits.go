package pool

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// Limits bound every decision about a pool. They are applied once, after the policy, and are the same for all
// policies.
type Limits struct {
	Minimum    int // instances are launched at once until there are so many
	Maximum    int // nothing is launched past it, and what is above it is ended
	StartLimit int // most launches in one policy interval; those up to Minimum are not counted
	StopLimit  int // most instances shut down or stopped in one policy interval; the end of a drain is not counted

	MinimumLifetime   time.Duration // a policy cannot stop an instance that was launched more recently
	MinimumActiveTime time.Duration // nor stop or shut down one that became active more recently

	// Drain says how instances that are too many leave. True: they are shut down first, because clients are
	// connected to them. False: they are stopped, but only while they are idle.
	Drain bool
}

// Budget is how many launches and endings the start and stop limits still allow in this policy interval.
type Budget struct {
	Starts, Stops int
}

// Validate returns all that is wrong with the limits.
func (l Limits) Validate() error {
	var errs []error
	for _, f := range []struct {
		key   string
		value int
	}{
		{"minimum_number_of_instances", l.Minimum},
		{"maximum_number_of_instances", l.Maximum},
		{"start_limit", l.StartLimit},
		{"stop_limit", l.StopLimit},
	} {
		if f.value < 0 {
			errs = append(errs, fmt.Errorf("%s is %d, less than 0", f.key, f.value))
		}
	}
	if l.Minimum > l.Maximum && l.Maximum >= 0 {
		errs = append(errs, fmt.Errorf("minimum_number_of_instances is %d, more than maximum_number_of_instances, %d",
			l.Minimum, l.Maximum))
	}
	if l.MinimumLifetime < 0 {
		errs = append(errs, fmt.Errorf("minimum_lifetime is %s, less than 0", l.MinimumLifetime))
	}
	if l.MinimumActiveTime < 0 {
		errs = append(errs, fmt.Errorf("minimum_active_time is %s, less than 0", l.MinimumActiveTime))
	}
	return errors.Join(errs...)
}

// Mature reports whether the lifetimes of an instance are over, so that a policy may shut it down or stop it.
func (l Limits) Mature(now time.Time, i *Instance) bool {
	if now.Sub(i.Launched) < l.MinimumLifetime {
		return false
	}
	return i.State != Active || now.Sub(i.ActiveAt) >= l.MinimumActiveTime
}

// Settled reports whether an active instance has been active for the minimum
// active time, so that it may be shut down. It may be stopped when it is Mature.
func (l Limits) Settled(now time.Time, i *Instance) bool {
	return i.State == Active && now.Sub(i.ActiveAt) >= l.MinimumActiveTime
}

// Apply returns the decision that may be carried out: d without what the state machine and the limits forbid,
// and with what minimum and maximum demand. The result says what was asked for, which limits changed it, and
// what it takes from the budget that is left. Neither s nor d is changed.
func (l Limits) Apply(s *Snapshot, d Decision, left Budget) Decision {
	c := clamping{Limits: l, snapshot: s, out: d, serving: s.Counted()}
	keep := d.Clamps // a policy may have cut something itself
	if l.Drain {     // a starting server cannot take the place of one that serves clients
		c.serving = s.Count(Active) - l.Minimum
	}
	c.look(&d)
	c.out.Asked, c.out.Clamps, c.out.Spent = d.ask(), slices.Clone(keep), Budget{}
	c.sanitize()
	if s.Stale {
		c.endNothing()
	} else {
		c.shrinkage(left.Stops)
		c.surplus()
	}
	c.growth(left.Starts)
	return c.out
}

// clamping is one run of Apply, in the order of its methods.
type clamping struct {
	Limits
	snapshot *Snapshot
	serving  int // how many active instances may go: with Drain, the minimum must be active
	out      Decision
	named    map[InstanceID]*Instance // those that the decision names; nil: there is none of that id
}

// look finds the instances that a decision names, once for all that is asked of them.
func (c *clamping) look(d *Decision) {
	c.named = make(map[InstanceID]*Instance, len(d.Reactivate)+len(d.ShutDown)+len(d.Stop))
	for _, id := range d.Reactivate {
		c.named[id] = c.snapshot.Find(id)
	}
	for _, list := range [][]Ending{d.ShutDown, d.Stop} {
		for i := range list {
			c.named[list[i].Instance] = c.snapshot.Find(list[i].Instance)
		}
	}
}

// sanitize drops what the state machine forbids, because no policy is trusted to keep to it.
func (c *clamping) sanitize() {
	if c.out.Launch < 0 {
		c.out.Clamp(ByState, -c.out.Launch, "%d cannot be launched", c.out.Launch)
		c.out.Launch = 0
	}
	seen := make(map[InstanceID]bool, len(c.named))
	refused := func(id InstanceID, verb string, ok func(*Instance) bool) bool {
		i := c.named[id]
		if i == nil || seen[id] || !ok(i) {
			c.out.Clamp(ByState, 1, "%s cannot be %s", id, verb)
			return true
		}
		seen[id] = true
		return false
	}
	c.out.Reactivate = slices.DeleteFunc(slices.Clone(c.out.Reactivate), func(id InstanceID) bool {
		return refused(id, "reactivated", (*Instance).Reactivatable)
	})
	c.out.ShutDown = slices.DeleteFunc(slices.Clone(c.out.ShutDown), func(e Ending) bool {
		return refused(e.Instance, "shut down", func(i *Instance) bool { return i.State == Active })
	})
	clear(seen) // one that is to be reactivated is stopped if there is no room for it
	for _, e := range c.out.ShutDown {
		seen[e.Instance] = true
	}
	c.out.Stop = slices.DeleteFunc(slices.Clone(c.out.Stop), func(e Ending) bool {
		return refused(e.Instance, "stopped", func(i *Instance) bool {
			// An active instance is stopped only if it is known to be idle: any other may be at work.
			return i.State.CanBecome(Stopping) && (i.State != Active || i.Idle())
		})
	})
}

// endNothing drops all endings from a decision about a stale snapshot: instances that look superfluous may be
// the only ones that still work.
func (c *clamping) endNothing() {
	c.spareReactivated()
	n := len(c.out.ShutDown) + len(c.out.Stop)
	if n == 0 {
		return
	}
	c.out.ShutDown, c.out.Stop = nil, nil
	c.out.Clamp(ByStaleView, n, "the view of the pool is stale: nothing shrinks")
}

// shrinkage drops the endings that the lifetimes, the minimum or the stop limit forbid.
func (c *clamping) shrinkage(left int) {
	young := 0
	grown := func(list []Ending, old func(time.Time, *Instance) bool) []Ending {
		return slices.DeleteFunc(list, func(e Ending) bool {
			if old(c.snapshot.Now, c.named[e.Instance]) {
				return false
			}
			young++
			return true
		})
	}
	c.out.Stop = grown(c.out.Stop, c.Mature)
	c.out.ShutDown = grown(c.out.ShutDown, c.Settled)
	if young > 0 {
		c.out.Clamp(ByLifetime, young, "%d too young to stop", young)
	}
	c.trim(left)
}

// trim drops the endings that the minimum or the stop limit forbids. Those that the policy named first are
// allowed first. The end of a drain is always allowed, because it takes no capacity away.
func (c *clamping) trim(left int) {
	spare, needed, limited := c.snapshot.Counted()-c.Minimum, 0, 0
	keep := func(e Ending) bool {
		i := c.named[e.Instance]
		switch {
		case !i.Counted():
			return false
		case spare <= 0, i.State == Active && c.serving <= 0:
			needed++
			return true
		case left <= 0:
			limited++
			return true
		}
		left, spare = left-1, spare-1
		if i.State == Active {
			c.serving--
		}
		c.out.Spent.Stops++
		return false
	}
	c.out.Stop = slices.DeleteFunc(c.out.Stop, keep)
	c.out.ShutDown = slices.DeleteFunc(c.out.ShutDown, keep)
	if needed > 0 {
		c.out.Clamp(ByMinimum, needed, "minimum %d keeps %d", c.Minimum, needed)
	}
	if limited > 0 {
		c.out.Clamp(ByStopLimit, limited, "stop limit keeps %d", limited)
	}
}

// surplus ends instances above the maximum, whatever the policy says. Nothing that is at work is stopped: it
// is drained, or stays until it is idle.
func (c *clamping) surplus() {
	over := c.counted() - c.Maximum
	if over <= 0 {
		return
	}
	drained, stopped := 0, 0
	c.out.ShutDown = slices.Grow(c.out.ShutDown, min(over, max(0, c.serving)))
	for _, rank := range c.superfluous() {
		if drained+stopped == over {
			break
		}
		i := &c.snapshot.Instances[rank.at]
		c.named[i.ID] = i
		switch {
		case !c.Drain || i.State != Active:
			c.out.Stop = append(c.out.Stop, i.EndIdle(c.snapshot.Now, OverMaximum))
			stopped++
		case drained < c.serving:
			c.out.ShutDown = append(c.out.ShutDown, i.EndIdle(c.snapshot.Now, OverMaximum))
			drained++
		}
	}
	c.out.Clamp(ByMaximum, drained+stopped, "maximum %d: %d over, %d shut down, %d stopped", c.Maximum, over, drained,
		stopped)
}

// superfluous returns the instances that may go when there are too many; those that should go first come
// first.
func (c *clamping) superfluous() []Rank {
	leaving := endingsOf(c.out.Stop, c.out.ShutDown)
	return c.snapshot.pick(math.MaxInt, func(i *Instance) bool {
		return (i.State == Startup || i.Idle() || c.Drain && i.State == Active) && !leaving[i.ID]
	}, ByVictim)
}

// growth raises what is asked for to the minimum, reactivates draining instances before it launches new ones,
// and bounds the launches by the start limit and both by the maximum.
func (c *clamping) growth(left int) {
	counted := c.counted()
	room := max(0, c.Maximum-counted)
	if n := len(c.out.Reactivate); n > room {
		c.out.Clamp(ByMaximum, n-room, "maximum %d allows %d of %d reactivations", c.Maximum, room, n)
		c.out.Reactivate = c.out.Reactivate[:room]
	}
	c.spareReactivated()
	missing := max(0, c.Minimum-counted-len(c.out.Reactivate))
	if missing > c.out.Launch {
		c.out.Clamp(ByMinimum, missing-c.out.Launch, "minimum %d adds %d", c.Minimum, missing-c.out.Launch)
		c.out.Launch = missing
	}
	c.boundLaunches(room - len(c.out.Reactivate))
	back := c.reactivateFirst()
	owed := max(0, missing-back) // launches up to the minimum, which the start limit does not bound
	if allowed := owed + max(0, left); c.out.Launch > allowed {
		c.out.Clamp(ByStartLimit, c.out.Launch-allowed, "start limit allows %d of %d launches", allowed, c.out.Launch)
		c.out.Launch = allowed
	}
	// Draining instances count here, because the pool must not have more instances than the maximum after a
	// launch. If there is something left to launch, all that drained before are reactivated already, except those
	// that are about to end. These count also if the decision stops them, because they are there until the cloud
	// accepts that.
	c.boundLaunches(c.Maximum - counted - len(c.out.Reactivate) - len(c.out.ShutDown) - c.snapshot.Leaving())
	c.out.Spent.Starts = max(0, c.out.Launch-owed)
}

// spareReactivated takes from the endings the instances that are reactivated.
func (c *clamping) spareReactivated() {
	back := setOf(c.out.Reactivate)
	c.out.Stop = slices.DeleteFunc(c.out.Stop, func(e Ending) bool { return back[e.Instance] })
}

func (c *clamping) boundLaunches(room int) {
	if room = max(0, room); c.out.Launch > room {
		c.out.Clamp(ByMaximum, c.out.Launch-room, "maximum %d allows %d of %d launches", c.Maximum, room, c.out.Launch)
		c.out.Launch = room
	}
}

// reactivateFirst replaces launches by reactivations as long as there are draining instances, also such that
// the decision was about to stop. It returns how many it has replaced.
func (c *clamping) reactivateFirst() int {
	if c.out.Launch == 0 {
		return 0
	}
	named := setOf(c.out.Reactivate)
	back := c.snapshot.Pick(c.out.Launch, func(i *Instance) bool { return i.Reactivatable() && !named[i.ID] },
		ByLoadDescending)
	if len(back) == 0 {
		return 0
	}
	wanted := setOf(back)
	c.out.Stop = slices.DeleteFunc(c.out.Stop, func(e Ending) bool { return wanted[e.Instance] })
	c.out.Reactivate = append(c.out.Reactivate, back...)
	c.out.Launch -= len(back)
	c.out.Clamp(ByDraining, len(back), "%d reactivated before launching", len(back))
	return len(back)
}

// counted returns the capacity that is left after the decision's endings.
func (c *clamping) counted() int {
	n := c.snapshot.Counted() - len(c.out.ShutDown)
	for i := range c.out.Stop {
		if c.named[c.out.Stop[i].Instance].Counted() {
			n--
		}
	}
	return n
}

func setOf(ids []InstanceID) map[InstanceID]bool {
	set := make(map[InstanceID]bool, len(ids))
	for _, id := range ids {
		set[id] = true
	}
	return set
}

func endingsOf(lists ...[]Ending) map[InstanceID]bool {
	count := 0
	for _, list := range lists {
		count += len(list)
	}
	set := make(map[InstanceID]bool, count)
	for _, list := range lists {
		for i := range list {
			set[list[i].Instance] = true
		}
	}
	return set
}
