package loop

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/pool"
	"cloudmaster/services/controller/internal/launcher"
	"cloudmaster/services/controller/internal/record"
	"cloudmaster/services/controller/internal/roster"
)

// stopAgain repairs what earlier passes, of this controller or another one, have left undone: it tells instances again
// to end that should have ended.
func (p *pass) stopAgain(ctx context.Context) error {
	list := p.ports.Roster.Untold(p.now, p.lost)
	if len(list) == 0 {
		return nil
	}
	// They may still be in the active set that another controller has published.
	if err := p.publish(ctx, pool.IDs(list)); err != nil {
		p.untouched(list, record.StopAgain, err)
		return err
	}
	list = p.ports.Roster.Untold(p.now, p.lost) // one that has found work in the meantime may finish it first
	refused, err := p.terminate(ctx, pool.IDs(list))
	p.note(list, record.StopAgain, refused)
	return err
}

// lost reports whether an instance that should have ended, and works on, is not heard of any more.
func (p *pass) lost(in *pool.Instance) bool {
	trust := !p.rec.Seen.Stale && !p.rec.Breaker.Open // else silence may be our fault
	return trust && p.opts.Judge.Watchdog.Lost(p.now, in)
}

// act carries the decision out: reactivate, launch, shut down, stop. If one of these fails, the others are
// still done. Instances that are about to end are shut down before anything else, because a launch may take long and
// clients must not be sent to them meanwhile. Hung instances are stopped first, and outdated ones that no successor
// waits for, so that their replacements fit under the maximum.
func (p *pass) act(ctx context.Context) error {
	d := &p.rec.Decision
	p.succeed()
	if d.Empty() {
		p.memory.unreturned = time.Time{}
		return nil
	}
	p.acted = true
	charge := d.Spent.Stops // how many of the endings count towards the stop limit
	failed := 0
	for failed < len(d.Stop) && d.Stop[failed].Cause.Failed() {
		failed++
	}
	ahead := failed
	for ahead < len(d.Stop) && d.Stop[ahead].Cause == pool.Outdated && d.Stop[ahead].Successor == "" {
		ahead++
	}
	leaving, others := interrupted(d.ShutDown)
	left := p.shutDown(ctx, leaving, nil)
	stopped := p.stop(ctx, d.Stop[:failed], nil)
	gone := p.stop(ctx, d.Stop[failed:ahead], &charge)
	more, reactivated := p.reactivate(ctx, d.Reactivate)
	return errors.Join(
		left, stopped, gone, reactivated,
		p.launch(ctx, d.Launch+more, d.Spent.Starts+more),
		p.shutDown(ctx, others, &charge),
		p.stop(ctx, d.Stop[ahead:], &charge),
	)
}

// interrupted parts the shut-downs of instances that are about to end, which stand first, from the others.
func interrupted(list []pool.Ending) (leaving, others []pool.Ending) {
	n := 0
	for n < len(list) && list[n].Cause == pool.Interrupted {
		n++
	}
	return list[:n], list[n:]
}

// reactivate makes draining instances active again. Their tags are written first, because a controller that takes over
// goes by them. They join the published set at the end of the pass. If the tags cannot be written for returnTimeout,
// reactivate returns how many new instances may be launched instead.
func (p *pass) reactivate(ctx context.Context, ids []pool.InstanceID) (instead int, err error) {
	now, since := p.ports.Now(), p.memory.unreturned
	p.memory.unreturned = time.Time{}
	if len(ids) == 0 {
		return 0, nil
	}
	t := roster.Tagging{State: pool.Active, Since: now, IDs: slices.SortedFunc(slices.Values(ids), cmp.Compare)}
	if err := p.tag(ctx, &t, tagTimeout); err != nil {
		if since.IsZero() {
			since = now
		}
		if p.memory.unreturned = since; now.Sub(since) < returnTimeout {
			return 0, err
		}
		d := &p.rec.Decision
		room := p.limits.Maximum - p.ports.Roster.Present() - d.Launch
		return max(0, min(len(ids), room, p.left.Starts-d.Spent.Starts)), err
	}
	for _, id := range ids {
		if p.ports.Roster.Mark(id, pool.Active, now) {
			p.rec.Reactivated = append(p.rec.Reactivated, id)
		}
	}
	p.ports.Roster.Tagged(t)
	return 0, nil
}

// launch starts n instances, of which paid count towards the start limit: first those that are warm.
func (p *pass) launch(ctx context.Context, n, paid int) error {
	if n == 0 {
		return nil
	}
	if p.rec.Wait = p.launcher.Wait(); p.rec.Wait != nil {
		if !p.now.Before(p.rec.Wait.Until) && p.listing.Err == nil { // if the list has failed, it is tried again anyway
			p.ports.Inventory.Refresh() // the next list shows what was launched, if anything was
		}
		return nil
	}
	if p.rec.Decision.Surge { // what is started would be one of those that the policy sees
		return p.launchNew(ctx, n, paid, pool.Startup)
	}
	taken, warm := p.startWarm(ctx, n, paid)
	if n, paid = n-taken, min(paid, n-taken); n == 0 {
		return warm
	}
	return errors.Join(warm, p.launchNew(ctx, n, paid, pool.Startup))
}

// launchNew launches n instances, of which paid count towards the start limit.
func (p *pass) launchNew(ctx context.Context, n, paid int, state pool.State) error {
	launched, said, err := p.launcher.Launch(ctx, launcher.Request{
		Count: n, Present: p.ports.Roster.Present(), Maximum: p.limits.Maximum, State: state,
		Surge: p.rec.Decision.Surge && state == pool.Startup,
	})
	if said == nil {
		return err
	}
	now := p.ports.Now()
	p.ports.Roster.Launched(launched, now)
	some := len(launched)
	if said.Open {
		some = said.Asked
	}
	p.budget.started(now, said.Token, some-(n-paid)) // launches up to the minimum do not count
	p.rec.Launches = append(p.rec.Launches, *said)
	return err
}

// shutDown drains instances. It takes them out of the published active set first, so that no allocator sends
// a client to an instance that is going. The drain counts from when that has happened.
func (p *pass) shutDown(ctx context.Context, list []pool.Ending, charge *int) error {
	if len(list) == 0 {
		return nil
	}
	if err := p.publish(ctx, pool.IDs(list)); err != nil {
		p.untouched(list, record.ShutDown, err)
		return fmt.Errorf("shut down %v: %w", pool.IDs(list), err)
	}
	now := p.ports.Now()
	var drained []pool.Ending
	for _, e := range list {
		if p.ports.Roster.Mark(e.Instance, pool.ShutDown, now) {
			p.ports.Roster.Succeed(e.Successor)
			p.budget.stopped(now, charge)
			drained = append(drained, e)
		}
	}
	p.note(drained, record.ShutDown, nil) // they drain even if their tags cannot be written
	if len(drained) == 0 {
		return nil
	}
	ids := slices.SortedFunc(slices.Values(pool.IDs(drained)), cmp.Compare)
	t := roster.Tagging{State: pool.ShutDown, Since: now, IDs: ids}
	if drained[0].Cause == pool.Interrupted { // then all of them are
		t.Interrupted = roster.Interrupted
	}
	if err := p.tag(ctx, &t, tagTimeout); err != nil {
		return err
	}
	p.ports.Roster.Tagged(t)
	return nil
}

// stop ends instances, or stops them so that they can be started again. It takes them out of the published active
// set first. An instance that has reported since the snapshot was made is left to the next pass, because it may
// have taken work.
func (p *pass) stop(ctx context.Context, list []pool.Ending, charge *int) error {
	if len(list) == 0 {
		return nil
	}
	if err := p.publish(ctx, pool.IDs(list)); err != nil {
		p.untouched(list, record.Stop, err)
		return fmt.Errorf("stop %v: %w", pool.IDs(list), err)
	}
	list, kept := p.keepWarm(ctx, list, charge)
	var ended []pool.Ending
	now := p.ports.Now()
	for _, e := range list {
		if !p.ports.Roster.End(e, p.heard, now) {
			p.rec.Endings = append(p.rec.Endings, record.Ending{Ending: e, Act: record.Stop, Spared: true})
			continue
		}
		ended = append(ended, e)
		p.ports.Roster.Succeed(e.Successor)
		// An instance that drains was counted towards the stop limit when its drain began.
		if in := p.rec.Seen.Find(e.Instance); in != nil && in.Counted() {
			p.budget.stopped(now, charge)
		}
	}
	refused, err := p.terminate(ctx, pool.IDs(ended))
	p.note(ended, record.Stop, refused)
	return errors.Join(kept, err)
}

// note enters into the record what was done to instances, with the error of those where it failed.
func (p *pass) note(list []pool.Ending, act record.Act, failed map[pool.InstanceID]error) {
	for _, e := range list {
		said := record.Ending{Ending: e, Act: act}
		if err := failed[e.Instance]; err != nil {
			said.Error = err.Error()
		}
		p.rec.Endings = append(p.rec.Endings, said)
	}
}

// untouched enters into the record that nothing was done to instances, because the active set without them
// could not be published.
func (p *pass) untouched(list []pool.Ending, act record.Act, err error) {
	for _, e := range list {
		p.rec.Endings = append(p.rec.Endings, record.Ending{Ending: e, Act: act, Unpublished: true, Error: err.Error()})
	}
}

// terminate ends instances. failed has the error of each one that could not be ended.
func (p *pass) terminate(ctx context.Context, ids []pool.InstanceID) (failed map[pool.InstanceID]error, err error) {
	if len(ids) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, actTimeout)
	defer cancel()
	p.acted = true
	failed = make(map[pool.InstanceID]error)
	err = p.part(ctx, slices.SortedFunc(slices.Values(ids), cmp.Compare), failed)
	p.ports.Inventory.Refresh()
	return failed, err
}

// part ends some of the instances. A cloud may refuse a whole request because of one instance in it, so a request that
// is refused is split into halves, which are tried separately.
func (p *pass) part(ctx context.Context, ids []pool.InstanceID, failed map[pool.InstanceID]error) error {
	err := p.cloud.Terminate(ctx, ids...)
	switch half := len(ids) / 2; {
	case err == nil:
		p.ports.Roster.Ended(p.ports.Now(), ids...)
		return nil
	case half > 0 && cloud.Refused(err):
		return errors.Join(p.part(ctx, ids[:half], failed), p.part(ctx, ids[half:], failed))
	}
	err = fmt.Errorf("terminate %v: %w", ids, err)
	for _, id := range ids {
		failed[id] = err
	}
	return err
}

// retag writes the state to the tags of instances where they do not say it: those that have reported for the first
// time, and those where an earlier attempt failed. Only a controller that takes over needs these tags, so a pass
// spends little time on them.
func (p *pass) retag(ctx context.Context) error {
	m, list := &p.memory, p.ports.Roster.Mistagged()
	if len(list) == 0 || p.now.Before(m.retag) {
		return nil
	}
	var errs []error
	end := p.ports.Now().Add(tagTimeout)
	for _, t := range list {
		left := end.Sub(p.ports.Now())
		if left <= 0 {
			break
		}
		if err := p.tag(ctx, &t, left); err != nil {
			errs = append(errs, err)
			continue
		}
		p.ports.Roster.Tagged(t)
	}
	if len(errs) == 0 {
		m.untagged, m.retag = 0, time.Time{}
		return nil
	}
	m.untagged++
	m.retag = p.ports.Now().Add(backoff(m.untagged + 1))
	return errors.Join(errs...)
}

func (p *pass) tag(ctx context.Context, t *roster.Tagging, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := p.cloud.Tag(ctx, t.Tags(), t.IDs...)
	if err != nil {
		p.ports.Inventory.Refresh() // one of them may be gone
		return fmt.Errorf("tag %v as %s: %w", t.IDs, t.State, err)
	}
	return nil
}
