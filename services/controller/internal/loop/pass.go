package loop

import (
	"context"
	"fmt"
	"slices"
	"time"

	"cloudmaster/internal/activeset"
	"cloudmaster/internal/pool"
	"cloudmaster/services/controller/internal/inventory"
	"cloudmaster/services/controller/internal/record"
	"cloudmaster/services/controller/internal/roster"
	"cloudmaster/services/controller/internal/workload"
)

// pass is one pass, with what its steps hand to each other.
type pass struct {
	*Loop

	now     time.Time
	limits  pool.Limits // those in force now
	rec     *record.Record
	listing inventory.Listing
	reading workload.Reading
	heard   uint64 // how many statuses had been accepted when the snapshot was made
	left    pool.Budget
	gap     int        // by how many instances the fullest place is ahead, see policy.Balance
	trial   pool.Trial // what this pass found out about the present version
	owed    int        // see policy.Verdict
	acted   bool       // something was changed, so the instances must be read from the roster again
}

func (p *pass) run(ctx context.Context) {
	if err := p.leads(p.now); err != nil {
		p.blind(err)
		return
	}
	if !p.observe(ctx) {
		return
	}
	p.decide(ctx)
	if ctx.Err() != nil {
		p.rec.Fail(ctx.Err())
		return
	}
	if err := p.leads(p.ports.Now()); err != nil { // asked again, because observing may have taken long
		p.blind(err)
		return
	}
	p.rec.Fail(p.remember(ctx))
	p.rec.Fail(p.stopAgain(ctx))
	p.rec.Fail(p.repairWarm(ctx))
	acts := p.act(ctx)
	p.noteMove()
	p.noteOwed()
	p.rec.Fail(acts)
	served := acts == nil && p.rec.Wait == nil
	p.rec.Fail(p.work.Settle(ctx, &p.rec.Decision, served))
	p.rec.Fail(p.tendWarm(ctx))
	p.rec.Fail(p.retag(ctx))
	p.rec.Fail(p.publish(ctx, nil))
}

// leads returns nil if no other controller can lead at the given time.
func (p *pass) leads(now time.Time) error {
	_, err := p.calls.until(now)
	return err
}

// blind enters why nothing may be done in this pass.
func (p *pass) blind(err error) {
	p.rec.Blind = err.Error()
	p.rec.Fail(err)
}

// observe brings roster, backlog and requests up to date and makes the snapshot. It returns false while the
// cloud has not been listed, because then nothing is known and nothing may be decided. What cannot be
// observed is unknown, and the record says why; the pass goes on.
func (p *pass) observe(ctx context.Context) bool {
	p.listing = p.ports.Inventory.Latest()
	switch {
	case p.listing.At.IsZero():
		p.rec.Blind = "the cloud has not been listed yet"
		p.rec.Fail(p.listing.Err)
		return false
	case p.listing.At.Before(p.ports.Since):
		p.rec.Blind = "the cloud has not been listed since the pool was added"
		p.ports.Inventory.Refresh()
		return false
	}
	list := p.listing.Instances[p.ports.Pool]
	changes := p.ports.Roster.Observe(list, p.listing.At, p.now)
	p.rec.Adopted, p.rec.Outside, p.rec.Gone = changes.Adopted, changes.Outside, changes.Gone
	p.takeOver(ctx)
	if !p.opts.TakesRequests && p.work.Pending() > 0 { // it took requests until its options were changed
		p.rec.Fail(p.work.HandBack(ctx))
	}
	p.launcher.Observe(list, p.listing.At)
	p.launcher.Died(died(changes.Gone), p.now)
	for _, id := range p.ports.Roster.Ready() { // they have reported for the first time
		if p.ports.Roster.Mark(id, pool.Active, p.now) {
			p.rec.Began = append(p.rec.Began, id)
			p.launcher.Lives()
		}
	}
	p.noteStrangers()
	p.foresee(ctx)
	p.read(ctx, false)
	p.look()
	return true
}

// died returns the endings of instances that nobody has ended and that never reported.
func died(gone []pool.Ending) (out []pool.Ending) {
	for i := range gone {
		if gone[i].Cause == pool.Outside && gone[i].Unheard {
			out = append(out, gone[i])
		}
	}
	return out
}

// noteStrangers notes the instances whose addresses the cloud does not know. The cloud may have given them these since
// it was last listed, so it is listed again when there are others than before.
func (p *pass) noteStrangers() {
	p.rec.Strangers = p.ports.Roster.Strangers()
	if len(p.rec.Strangers) > 0 && !slices.Equal(p.rec.Strangers, p.memory.strangers) {
		p.ports.Inventory.Refresh()
	}
	p.memory.strangers = p.rec.Strangers
}

// takeOver learns what another controller has done before this one, until it has learned it once: from the
// instances, what it has started lately; from the launch journal, what lists may not show yet; from the
// active set, what the instances reported to it; and from the store, what the policy remembered.
func (p *pass) takeOver(ctx context.Context) {
	p.budget.seed(p.ports.Roster.Instances, p.now)
	p.rec.Fail(p.launcher.Load(ctx, p.now))
	if p.ports.Orders != nil {
		p.rec.Fail(p.ports.Orders.Load(ctx))
	}
	if p.set.Known() {
		return
	}
	old, found, err := p.set.Load(ctx)
	p.rec.Fail(err)
	if found {
		p.ports.Roster.Seed(old, p.now)
	}
}

// read finds out what is on the work queue.
func (p *pass) read(ctx context.Context, fresh bool) {
	var err error
	p.reading, err = p.work.Read(ctx, p.now, fresh)
	p.rec.Fail(err)
}

// look makes the snapshot from what is known now.
func (p *pass) look() {
	r := p.ports.Roster
	p.heard = r.Heard()
	deaf := r.Deaf()
	seen := &p.memory.preview
	r.SetWanted(roster.Wanted{
		Version: p.opts.Version, Lifetime: p.opts.MaximumLifetime, Images: seen.Images, Types: seen.Types,
	})
	s := pool.Snapshot{
		Now: p.now, Pool: p.ports.Pool, ListedAt: p.listing.At, Limits: p.limits,
		Backlog: p.reading.Backlog, BacklogAt: p.reading.At, Requests: p.reading.Requests,
		Instances: r.Instances(p.now), Stale: p.listing.Err != nil || deaf,
		Version: seen.version(p.opts.Version), Trial: p.memory.trial, Resting: p.rests(),
		Owed: p.memory.owed,
	}
	if p.ports.Orders != nil {
		s.Orders, s.Memory = p.ports.Orders.Pending()
		s.Stale = s.Stale || !p.ports.Orders.Known() // without its memory the policy might end too many
	}
	p.gap = p.memory.preview.balance.Level(&s, seen.Open)
	p.rec.Seen = s
	p.rec.Inputs = record.InputsOf(&s, p.listing.Err, deaf)
}

// decide asks the judge. A decision that ends something must not be based on an old reading of the work
// queue: then the queue is read, and the judge is asked again.
func (p *pass) decide(ctx context.Context) {
	p.left = p.budget.left(p.now, p.limits, p.opts.PolicyInterval, p.launcher.Open())
	p.judge()
	if d := &p.rec.Decision; len(d.ShutDown)+len(d.Stop) > 0 && !p.reading.Fresh {
		p.read(ctx, true)
		p.look()
		p.judge()
	}
	p.rec.Words = p.rec.Decision.String()
	p.noteRollout()
	b := &p.rec.Breaker
	b.Changed, p.memory.breaker = b.Open != p.memory.breaker, b.Open
}

func (p *pass) judge() {
	d, v := p.opts.Judge.Decide(&p.rec.Seen, p.left)
	p.rec.Decision = d
	p.rec.Breaker = record.Breaker{Open: v.Breaker, Silent: v.Silent, Active: v.Active}
	p.rec.Rollout.Rolling, p.trial, p.owed = v.Rolling, v.Trial, v.Owed
	p.rec.Policy = ""
	if v.Failed != nil {
		p.rec.Policy = v.Failed.Error()
	}
}

// remember stores what the policy wants to remember. If that fails, the decision is put off, because another controller
// that started now would not know of it and decide otherwise. What no policy has decided is done all the same: hung
// instances are stopped, and those that are about to end are shut down.
func (p *pass) remember(ctx context.Context) error {
	d := &p.rec.Decision
	if p.rec.Policy != "" {
		p.rec.Fail(fmt.Errorf("the policy could not decide: %s", p.rec.Policy))
		if p.ports.Orders != nil {
			p.ports.Orders.Reread() // it may be the memory, which somebody corrects
		}
	}
	if p.ports.Orders == nil || d.Memory == nil {
		return nil
	}
	err := p.ports.Orders.Commit(ctx, d.Memory, p.rec.Seen.Orders)
	if err != nil {
		failed := pool.Decision{Asked: d.Asked, Reason: d.Reason}
		failed.Because("it is put off until the store can be written")
		for _, e := range d.Stop {
			if e.Cause.Failed() {
				failed.Stop = append(failed.Stop, e)
			}
		}
		failed.ShutDown, _ = interrupted(d.ShutDown)
		*d = failed
		p.rec.Words = d.String()
	}
	return err
}

// publish writes the active set as it is now, without the excluded instances. A nil error means that the
// members in the store are right; their loads may be written later.
func (p *pass) publish(ctx context.Context, exclude []pool.InstanceID) error {
	members := p.ports.Roster.Serving()
	if len(exclude) > 0 {
		out := make(map[pool.InstanceID]bool, len(exclude))
		for _, id := range exclude {
			out[id] = true
		}
		members = slices.DeleteFunc(members, func(in activeset.Instance) bool { return out[in.ID] })
	}
	_, err := p.set.Publish(ctx, members, p.ports.Now())
	return err
}

// end completes the record: how the pool is now, and when the next pass is due.
func (p *pass) end(ctx context.Context) {
	r, m := p.rec, &p.memory
	r.Instances = r.Seen.Instances
	if p.acted {
		r.Instances = p.ports.Roster.Instances(p.now)
	}
	if ages := p.ages.Load(); ages != nil {
		r.Ages = *ages
	}
	r.Warm = p.ports.Roster.Reserve(p.now)
	r.Cost = p.opts.Prices.Cost(append(slices.Clip(r.Instances), warming(r.Warm)...))
	if r.Blind == "" {
		r.Tell = p.tells()
	}
	if r.Err != nil && ctx.Err() == nil {
		m.failures++
	} else if r.Err == nil {
		m.failures = 0
	}
	ended := p.ports.Now()
	r.Took, r.Failures = ended.Sub(r.At), m.failures
	r.Next = p.next()
	r.NotBefore = m.pace.next(r.At, ended)
	if m.failures > 0 {
		again := backoff(m.failures)
		r.NotBefore = ended.Add(min(again, mostGap))
		if at := ended.Add(again); at.Before(r.Next) {
			r.Next = at // a pass that failed is tried again before the policy interval ends
		}
	}
	p.calls.begin(nil)
}

// tells reports whether to tell people how the pool is: when instances or backlog have changed, and at the
// latest every report interval.
func (p *pass) tells() bool {
	t := &p.memory.told
	same := p.reading.Backlog == t.backlog && len(p.rec.Warm) == t.warm &&
		slices.EqualFunc(p.rec.Instances, t.states, func(a, b pool.Instance) bool {
			return a.ID == b.ID && a.State == b.State
		})
	t.wants = time.Time{}
	switch age := p.now.Sub(t.at); {
	case same && age < p.opts.ReportInterval:
		return false
	case !same && age < leastToldGap:
		t.wants = t.at.Add(leastToldGap)
		return false
	}
	*t = told{at: p.now, backlog: p.reading.Backlog, states: p.rec.Instances, warm: len(p.rec.Warm)}
	return true
}

// next returns when the next pass is due although nothing happens.
func (p *pass) next() time.Time {
	next := p.now.Add(p.opts.PolicyInterval)
	sooner := func(at time.Time) {
		if at.After(p.now) && at.Before(next) {
			next = at
		}
	}
	if p.rec.Blind != "" {
		if p.listing.At.Before(p.ports.Since) && !p.listing.At.IsZero() {
			sooner(p.now.Add(time.Second)) // the inventory tells of lists that differ, and the next one may not
		}
		return next
	}
	d := &p.rec.Decision
	if len(d.Clamps) > 0 && (p.left.Starts < p.limits.StartLimit || p.left.Stops < p.limits.StopLimit || !d.Empty()) {
		sooner(p.budget.refill(p.now, p.opts.PolicyInterval))
	}
	after := p.rec.Seen
	after.Instances = p.rec.Instances
	sooner(p.opts.Judge.Next(&after))
	sooner(p.launcher.Next())
	sooner(p.memory.retag)
	sooner(p.memory.fill.next)
	sooner(p.waitsUntil())
	for _, at := range p.work.Next() {
		sooner(at)
	}
	sooner(p.set.Next())
	sooner(p.memory.told.due(p.opts.ReportInterval))
	return next
}

// waitsUntil returns when launches that wait can be looked at again.
func (p *pass) waitsUntil() time.Time {
	w := p.rec.Wait
	switch {
	case w == nil:
		return time.Time{}
	case w.Until.After(p.now):
		return w.Until
	}
	return p.now.Add(time.Second) // by then the list that was asked for should be there
}
