package policy

import (
	"cmp"
	"fmt"
	"slices"

	"cloudmaster/internal/pool"
)

// Rolling says how far the replacement of outdated instances is. The zero value: there are none.
type Rolling struct {
	State    RollingState       `json:"state,omitempty"`
	Outdated map[pool.Drift]int `json:"outdated,omitempty"` // instances by reason
	Done     int                `json:"done,omitempty"`     // instances that are not outdated
	Total    int                `json:"total,omitempty"`
	Text     string             `json:"text,omitempty"` // for people: how far it is, or what holds it up and what to do
}

// RollingState is whether outdated instances are replaced. The empty value: there are none.
type RollingState string

// The states of a rollout. They are written into records, so their values must not change.
const (
	Rolls         RollingState = "rolls"
	RolloutPaused RollingState = "paused"
	RolloutHalted RollingState = "halted" // what was launched has ended without having reported
	RolloutStuck  RollingState = "stuck"  // there is no room under the maximum for a successor
	RolloutOff    RollingState = "off"    // nothing is ever replaced
)

// rollout is how one decision replaces outdated instances.
//
// A successor is launched beyond the number that the policy wants, and is hidden from the policy and from the limits
// (pool.Instance.Surge) until it is active and an outdated instance has begun to end in its place. So the policy sees
// the same number of instances all the time, and what it decides of them is carried out as always.
type rollout struct {
	pool.Rollout

	limits pool.Limits
	all    *pool.Snapshot // those that are hung are stopping, and those about to end are draining
	trial  pool.Trial
	going  bool

	old     []*pool.Instance         // outdated, and not beyond the number that the policy wants
	hidden  map[pool.InstanceID]bool // Surge, and still beyond that number after this decision
	leaving map[pool.InstanceID]bool // are ended by this rollout
	ends    []pool.Ending            // those, as the limits must allow them
	ahead   []pool.Ending            // those that go before their successors are there
	paired  map[pool.InstanceID]bool // successors that take the place of one of ends
	succeed []pool.InstanceID        // are not Surge any more, whatever ends
	owed    int                      // see Verdict
}

// newRollout looks at a pool. s is as policies see it, with the limits in force.
func newRollout(conf pool.Rollout, s *pool.Snapshot, trial pool.Trial, stops int) *rollout {
	r := &rollout{
		Rollout: conf, limits: s.Limits, all: s, trial: trial,
		hidden: make(map[pool.InstanceID]bool), leaving: make(map[pool.InstanceID]bool),
		paired: make(map[pool.InstanceID]bool),
	}
	on := conf.On()
	r.going = on && !conf.Paused && !trial.Halted() && !s.Stale && !s.Resting
	var fresh, stale []*pool.Instance // Surge
	for i := range s.Instances {
		switch in := &s.Instances[i]; {
		case !in.Counted():
		case on && in.Surge && in.Drift != "":
			stale = append(stale, in)
			r.hidden[in.ID] = true
		case on && in.Surge:
			fresh = append(fresh, in)
			r.hidden[in.ID] = true
		case in.Drift != "":
			r.old = append(r.old, in)
		}
	}
	slices.SortStableFunc(fresh, func(a, b *pool.Instance) int { return cmp.Compare(b.State, a.State) }) // active first
	fresh = r.release(fresh)
	if s.Counted() > s.Limits.Maximum {
		r.count(fresh)
		r.count(stale)
		fresh, stale = nil, nil
	}
	if !r.going {
		r.release(stale) // they are not ended for being outdated now, but as all others
		return r
	}
	r.replace(fresh, stops)
	r.drop(stale)
	r.goAhead(stops)
	return r
}

// release makes successors count that nothing is left for, or that must take the place of instances that have gone by
// themselves. It returns the others.
func (r *rollout) release(fresh []*pool.Instance) []*pool.Instance {
	visible := r.all.Counted() - len(r.hidden)
	for len(fresh) > 0 && (len(fresh) > len(r.old) || visible < r.limits.Minimum) {
		r.count(fresh[:1])
		fresh, visible = fresh[1:], visible+1
	}
	return fresh
}

// count makes instances count as all others.
func (r *rollout) count(list []*pool.Instance) {
	for _, in := range list {
		delete(r.hidden, in.ID)
		r.succeed = append(r.succeed, in.ID)
	}
}

// replace ends an outdated instance for each successor that is active.
func (r *rollout) replace(fresh []*pool.Instance, stops int) {
	old := r.all.Pick(len(r.old), r.mayGo, r.limits.ByVictim(r.all.Now))
	for _, in := range fresh {
		if in.State != pool.Active || len(old) == 0 || len(r.ends) >= stops {
			continue
		}
		e := r.ending(old[0])
		e.Successor = in.ID
		r.ends, r.leaving[old[0]], r.paired[in.ID] = append(r.ends, e), true, true
		delete(r.hidden, in.ID)
		old = old[1:]
	}
}

// drop ends the successors that are outdated themselves, because the version has changed again.
func (r *rollout) drop(stale []*pool.Instance) {
	for _, in := range stale {
		if r.hidden[in.ID] && r.endable(in) {
			r.ends, r.leaving[in.ID] = append(r.ends, r.ending(in.ID)), true
			delete(r.hidden, in.ID)
		}
	}
}

// goAhead ends outdated instances whose successors are launched in the same pass: as many as may be missing, less those
// that are: that start, that the minimum lacks, or that could not be launched yet.
func (r *rollout) goAhead(stops int) {
	starting := 0
	for i := range r.all.Instances {
		if in := &r.all.Instances[i]; in.State == pool.Startup && !r.hidden[in.ID] && !r.leaving[in.ID] {
			starting++
		}
	}
	missing := max(0, r.limits.Minimum-(r.all.Counted()-len(r.hidden)-len(r.leaving)+len(r.paired)))
	n := min(r.MaxUnavailable-starting-max(missing, r.all.Owed, r.blocked()), stops-len(r.ends), r.tries())
	if n <= 0 {
		return
	}
	may := func(in *pool.Instance) bool {
		helps := in.Drift != pool.OtherZone || !r.all.Unlevel
		return in.State == pool.Active && r.mayGo(in) && helps
	}
	for _, id := range r.all.Pick(n, may, r.limits.ByVictim(r.all.Now)) {
		r.ahead, r.leaving[id] = append(r.ahead, r.ending(id)), true
	}
}

// blocked is how many outdated instances drain while there is no room for anything to take their place.
func (r *rollout) blocked() (n int) {
	if r.all.Count(pool.Startup, pool.Active, pool.ShutDown) < r.limits.Maximum {
		return 0
	}
	for i := range r.all.Instances {
		if in := &r.all.Instances[i]; in.State == pool.ShutDown && in.Drift != "" {
			n++
		}
	}
	return n
}

// tries is how many instances may be launched for this rollout: one until one of this version has reported.
func (r *rollout) tries() int {
	if r.trial.Proven {
		return len(r.all.Instances)
	}
	return 1 - len(r.trial.Trying)
}

func (r *rollout) ending(id pool.InstanceID) pool.Ending {
	in := r.all.Find(id)
	e := in.EndIdle(r.all.Now, pool.Outdated)
	e.Drift = in.Drift
	return e
}

// mayGo reports whether an outdated instance can be replaced now.
func (r *rollout) mayGo(in *pool.Instance) bool {
	return in.Counted() && in.Drift != "" && !in.Surge && !r.leaving[in.ID] && r.endable(in)
}

// endable reports whether nothing is at work on an instance, or it can be drained, and its lifetimes are over.
func (r *rollout) endable(in *pool.Instance) bool {
	if in.Drift == pool.OtherZone && !in.Idle() {
		return false // it is as good as any other, and its clients or its work are worth more than a level pool
	}
	if r.limits.Drain && in.State == pool.Active {
		return r.limits.Settled(r.all.Now, in)
	}
	return (in.Idle() || in.State == pool.Startup) && r.limits.Mature(r.all.Now, in)
}

// ripe is how many outdated instances could be replaced, if they were idle.
func (r *rollout) ripe() (n int) {
	for _, in := range r.old {
		if in.Drift == pool.OtherZone && (r.all.Unlevel || !in.Idle()) {
			continue
		}
		if !r.leaving[in.ID] && (r.limits.Drain && r.limits.Settled(r.all.Now, in) || r.limits.Mature(r.all.Now, in)) {
			n++
		}
	}
	return n
}

// view is the pool without the hidden instances. The policy sees it as it will be: those that a successor has replaced
// have gone, and those that go ahead are still there, because what replaces them is launched at once. The limits see it
// as it is, but for what goes ahead, which is no capacity any more.
func (r *rollout) view(forPolicy bool) pool.Snapshot {
	out := *r.all
	if len(r.hidden)+len(r.leaving) > 0 {
		out.Instances = slices.DeleteFunc(slices.Clone(out.Instances),
			func(in pool.Instance) bool { return r.hidden[in.ID] })
	}
	gone := r.ahead
	if forPolicy {
		gone = r.ends
	}
	for i := range gone {
		if in := out.Find(gone[i].Instance); in.State == pool.Active && r.limits.Drain {
			in.State, in.StateSince = pool.ShutDown, out.Now
		} else {
			in.State = pool.Stopping
		}
	}
	out.Limits.Maximum = max(out.Limits.Minimum, out.Limits.Maximum-len(r.hidden))
	return out
}

// ask adds what the rollout wants to what the policy wants.
func (r *rollout) ask(d *pool.Decision) {
	ours := func(e pool.Ending) bool { return r.leaving[e.Instance] }
	d.Stop, d.ShutDown = slices.DeleteFunc(d.Stop, ours), slices.DeleteFunc(d.ShutDown, ours)
	fewer := len(d.Stop) + len(d.ShutDown) // the policy does not need what replaces these
	r.owed = max(0, r.all.Owed-fewer)
	if r.going {
		d.Launch = max(d.Launch, r.owed)
	}
	if fewer -= r.all.Owed - r.owed; len(r.ahead) > fewer {
		d.Launch = max(d.Launch, 0) + len(r.ahead) - fewer
	}
	stops, drains := r.split(r.ends)
	d.Stop, d.ShutDown = append(stops, d.Stop...), append(drains, d.ShutDown...)
}

// hold makes a rollout do nothing in this pass.
func (r *rollout) hold() {
	for _, e := range r.ends {
		r.hidden[cmp.Or(e.Successor, e.Instance)] = true
	}
	r.going, r.ends, r.ahead = false, nil, nil
	clear(r.leaving)
	clear(r.paired)
}

func (r *rollout) split(list []pool.Ending) (stops, drains []pool.Ending) {
	for _, e := range list {
		if in := r.all.Find(e.Instance); in.State == pool.Active && r.limits.Drain {
			drains = append(drains, e)
		} else {
			stops = append(stops, e)
		}
	}
	return stops, drains
}

// finish adds to a decision that the limits have cut what they need not look at: what goes ahead, and successors.
// Successors are launched only if the pool is at rest otherwise.
func (r *rollout) finish(d *pool.Decision, left pool.Budget) {
	d.Succeed = r.succeed
	rest := len(d.Stop)+len(d.ShutDown)+len(d.Reactivate)+d.Launch+len(r.ends)+len(r.ahead)+len(r.succeed) == 0
	if n := r.successors(left.Starts - d.Spent.Starts); r.going && rest && n > 0 {
		d.Launch, d.Surge = n, true
		d.Spent.Starts += n
		d.Because("rollout: %d launched to replace outdated ones", n)
	}
	for _, list := range [][]pool.Ending{d.Stop, d.ShutDown, r.ahead} {
		if n := count(list, pool.Outdated); n > 0 {
			d.Because("rollout: %d outdated end", n)
		}
	}
	stops, drains := r.split(r.ahead)
	d.Stop, d.ShutDown = append(stops, d.Stop...), append(drains, d.ShutDown...)
	d.Spent.Stops += len(r.ahead)
}

func count(list []pool.Ending, cause pool.Cause) (n int) {
	for i := range list {
		if list[i].Cause == cause {
			n++
		}
	}
	return n
}

// successors is how many instances to launch beyond the number that the policy wants.
func (r *rollout) successors(starts int) int {
	present := r.all.Count(pool.Startup, pool.Active, pool.ShutDown)
	return min(min(r.MaxSurge, r.ripe())-len(r.hidden), r.tries(), r.limits.Maximum-present, starts)
}

// said says how far the rollout is.
func (r *rollout) said() Rolling {
	if len(r.old) == 0 {
		return Rolling{}
	}
	total := r.all.Counted() - len(r.hidden) - len(r.paired)
	out := Rolling{State: Rolls, Outdated: r.all.Outdated(), Done: total - len(r.old), Total: total}
	out.Text = fmt.Sprintf("rollout %d of %d", out.Done, total)
	switch full := r.all.Counted() == r.limits.Maximum && r.MaxUnavailable == 0; {
	case !r.On():
		out.State, out.Text = RolloutOff, ""
	case r.Paused:
		out.State = RolloutPaused
		out.Text = fmt.Sprintf("rollout paused: %d of %d instances are outdated, and stay until paused is false again",
			len(r.old), total)
	case r.trial.Halted():
		out.State = RolloutHalted
		out.Text = fmt.Sprintf("rollout halted: %s was launched as the pool is configured now, and has ended without "+
			"ever having reported; %d of %d instances are outdated and stay: correct image or settings, or configure "+
			"the old value again", r.trial.Failed, len(r.old), total)
	case r.going && full && len(r.hidden)+len(r.paired)+len(r.succeed) == 0:
		out.State = RolloutStuck
		out.Text += fmt.Sprintf(": there are as many instances as the maximum, %d, so that no successor can be "+
			"launched; raise maximum_number_of_instances, or set max_unavailable of rollout to 1", r.limits.Maximum)
	}
	return out
}

// keepDraining returns the instances as they are while nothing is replaced: a draining one that is outdated can be made
// active again, because what would be launched in its stead is not wanted now.
func keepDraining(list []pool.Instance) []pool.Instance {
	outdated := func(in *pool.Instance) bool { return in.State == pool.ShutDown && in.Drift != "" }
	copied := false
	for i := range list {
		if !outdated(&list[i]) {
			continue
		}
		if !copied {
			list, copied = slices.Clone(list), true
		}
		list[i].Drift = ""
	}
	return list
}
