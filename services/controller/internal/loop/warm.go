package loop

import (
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

// A pool may keep some instances warm: stopped, and started instead of new ones launched. Their states are in the tags
// before the cloud is told, so that a controller that takes over knows what was meant, whatever the cloud has done:
//
//	keep warm:  publish the set without it, tag warm, stop       tagged, not stopped: stopped again (repairWarm)
//	start:      tag startup with the time, start                 tagged, not started: started again (repairWarm)
//
// While it is not known whether an instance was started it counts as one that runs.

// startWarm starts warm instances instead of launching n new ones, of which paid count towards the start limit.
// One that boots to be stopped just goes on. It returns how many need not be launched.
func (p *pass) startWarm(ctx context.Context, n, paid int) (taken int, err error) {
	if p.launcher.Open() != "" { // it may have started some already, which count towards the maximum
		return 0, nil
	}
	r := p.ports.Roster
	for _, id := range first(r.Warming(), n) {
		taken++
		r.Mark(id, pool.Startup, p.ports.Now()) // its tags follow at the end of the pass
		p.rec.Starts = append(p.rec.Starts, record.Start{Instance: id, Outcome: record.StartBooting})
	}
	if p.opts.Warm == 0 {
		return taken, nil
	}
	var errs []error
	for _, id := range r.Startable(p.now) {
		if taken == n || r.Present() >= p.limits.Maximum {
			break
		}
		if !p.current(id) {
			continue
		}
		out, err := p.rouse(ctx, id)
		if !errors.Is(err, cloud.ErrCapacity) { // then one is launched, which tells if there is no room either
			errs = append(errs, err)
		}
		if out == record.StartRefused {
			continue
		}
		if taken++; taken > n-paid { // launches up to the minimum do not count
			p.budget.started(p.ports.Now(), fmt.Sprintf("start-%s-%d", id, p.ports.Now().UnixNano()), 1)
		}
		if out == record.StartUnknown { // whether the others could be started is not known either
			break
		}
	}
	return taken, errors.Join(errs...)
}

func first(ids []pool.InstanceID, n int) []pool.InstanceID { return ids[:min(n, len(ids))] }

// current reports whether an instance may be started, and be kept, instead of one that is launched now. While outdated
// instances are not replaced (docs/rollout.md), outdated ones may: also because what is launched now never reports.
func (p *pass) current(id pool.InstanceID) bool {
	how := p.opts.Judge.Rollout
	replaces := how.On() && !how.Paused && !p.trial.Halted()
	return !replaces || !p.ports.Roster.Outdated(id, p.now)
}

// rouse starts one warm instance: it writes down that it is started, and then asks the cloud.
func (p *pass) rouse(ctx context.Context, id pool.InstanceID) (record.Started, error) {
	now := p.ports.Now()
	t := roster.Tagging{State: pool.Startup, Since: now, Started: now, IDs: []pool.InstanceID{id}}
	if err := p.tag(ctx, &t, tagTimeout); err != nil {
		p.ports.Roster.Doubt(id)
		return p.started(id, record.StartRefused, false, err), err
	}
	if !p.ports.Roster.Rouse(id, now) {
		p.ports.Roster.Doubt(id)
		return record.StartRefused, nil
	}
	p.ports.Roster.Tagged(t)
	p.acted = true
	return p.wake(ctx, id, false)
}

// wake asks the cloud to start an instance that is in startup.
func (p *pass) wake(ctx context.Context, id pool.InstanceID, again bool) (record.Started, error) {
	bounded, cancel := context.WithTimeout(ctx, actTimeout)
	defer cancel()
	err := p.cloud.Start(bounded, id)
	p.ports.Inventory.Refresh()
	switch {
	case err == nil:
		p.ports.Roster.Roused(id)
		return p.started(id, record.StartAccepted, again, nil), nil
	case cloud.Refused(err) && !again: // an earlier try may have been carried out
		p.ports.Roster.Unroused(id, p.ports.Now())
		return p.started(id, record.StartRefused, again, err), fmt.Errorf("start %s: %w", id, err)
	}
	return p.started(id, record.StartUnknown, again, err), fmt.Errorf("start %s: %w", id, err)
}

// started enters what came of a start into the record.
func (p *pass) started(id pool.InstanceID, out record.Started, again bool, err error) record.Started {
	said := record.Start{Instance: id, Outcome: out, Again: again}
	if err != nil {
		said.Reason, said.Error = launcher.Reason(err), err.Error()
	}
	p.rec.Starts = append(p.rec.Starts, said)
	return out
}

// repairWarm repairs what earlier passes, of this controller or another one, have left undone: it stops instances that
// should be warm and run, and starts those that should have been started.
func (p *pass) repairWarm(ctx context.Context) error {
	errs := []error{p.startAgain(ctx)}
	list := p.ports.Roster.Uncooled(p.now, p.lost)
	if len(list) == 0 {
		return errors.Join(errs...)
	}
	p.acted = true
	if err := p.publish(ctx, list); err != nil { // another controller may have published them
		return errors.Join(append(errs, err)...)
	}
	var endings []pool.Ending
	for _, id := range p.ports.Roster.Uncooled(p.now, p.lost) { // one may have found work in the meantime
		endings = append(endings, pool.Ending{Instance: id, Cause: pool.Warmed})
	}
	lost, err := p.cool(ctx, endings)
	return errors.Join(append(errs, err, p.discard(ctx, lost))...)
}

// startAgain starts the instances that should have been started. All calls together take as long as one may: those that
// a cloud that hangs leaves no time for are started by a later pass.
func (p *pass) startAgain(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, actTimeout)
	defer cancel()
	var errs []error
	for _, id := range p.ports.Roster.Unstarted(p.now) {
		if ctx.Err() != nil {
			break
		}
		p.acted = true
		_, err := p.wake(ctx, id, true)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// keepWarm stops those of the instances that are to end which the warm pool has room for. It returns the others, which
// must end: also those that could not be stopped. They are out of the published active set.
func (p *pass) keepWarm(ctx context.Context, list []pool.Ending, charge *int) (others []pool.Ending, err error) {
	room := p.opts.Warm
	reserve := p.ports.Roster.Reserve(p.now)
	for i := range reserve {
		if reserve[i].State == pool.Warm && p.current(reserve[i].ID) { // outdated ones make room for it
			room--
		}
	}
	warming := len(p.ports.Roster.Warming())
	var kept []pool.Ending
	now := p.ports.Now()
	for _, e := range list {
		fits := e.Cause == pool.Warmed && room > 0 ||
			(e.Cause == pool.IdleSurplus || e.Cause == pool.Drained) && room > warming
		if !fits || !p.current(e.Instance) || !p.ports.Roster.Cool(e, p.heard, now) {
			others = append(others, e)
			continue
		}
		room--
		kept = append(kept, e)
	}
	if len(kept) == 0 {
		return others, nil
	}
	p.acted = true
	t := roster.Tagging{State: pool.Warm, Since: now, IDs: slices.Sorted(slices.Values(pool.IDs(kept)))}
	if err := p.tag(ctx, &t, tagTimeout); err != nil {
		return append(others, kept...), err
	}
	p.ports.Roster.Tagged(t)
	lost, err := p.cool(ctx, p.spare(kept))
	for _, e := range kept {
		if in := p.rec.Seen.Find(e.Instance); in != nil && in.Counted() && !slices.Contains(lost, e) {
			p.budget.stopped(now, charge)
		}
	}
	return append(others, lost...), err
}

// spare leaves out the instances that have found work while their tags were written. They are stopped when they have
// done it (repairWarm).
func (p *pass) spare(list []pool.Ending) []pool.Ending {
	working := p.ports.Roster.Occupied(p.ports.Now(), p.lost)
	return slices.DeleteFunc(slices.Clone(list), func(e pool.Ending) bool {
		spared := slices.Contains(working, e.Instance)
		if spared {
			p.rec.Endings = append(p.rec.Endings, record.Ending{Ending: e, Act: record.KeepWarm, Spared: true})
		}
		return spared
	})
}

// cool tells the cloud to stop warm instances. It returns those that it refuses to stop, which must end. All calls
// together take as long as one may: those that a cloud that hangs leaves no time for are stopped by a later pass.
func (p *pass) cool(ctx context.Context, list []pool.Ending) (lost []pool.Ending, err error) {
	ctx, cancel := context.WithTimeout(ctx, actTimeout)
	defer cancel()
	var errs []error
	for _, e := range list {
		if ctx.Err() != nil {
			break
		}
		err := p.cloud.Stop(ctx, e.Instance)
		failed := make(map[pool.InstanceID]error)
		switch {
		case err == nil:
			p.ports.Roster.Stopped(p.ports.Now(), e.Instance)
		case cloud.Refused(err):
			lost = append(lost, e)
			errs = append(errs, fmt.Errorf("stop %s: it is ended instead: %w", e.Instance, err))
			continue
		default:
			failed[e.Instance] = err
			errs = append(errs, fmt.Errorf("stop %s: %w", e.Instance, err))
		}
		p.note([]pool.Ending{e}, record.KeepWarm, failed)
	}
	p.ports.Inventory.Refresh()
	return lost, errors.Join(errs...)
}

// discard ends instances that are not published, except those that have reported since the snapshot was made.
func (p *pass) discard(ctx context.Context, list []pool.Ending) error {
	var ended []pool.Ending
	for _, e := range list {
		if p.ports.Roster.End(e, p.heard, p.ports.Now()) {
			ended = append(ended, e)
		}
	}
	refused, err := p.terminate(ctx, pool.IDs(ended))
	p.note(ended, record.Stop, refused)
	return err
}

// tendWarm brings the warm pool to its size: it ends what is too much or outdated, stops what has booted for it, ends
// what never did, and launches one more if the pool is quiet.
func (p *pass) tendWarm(ctx context.Context) error {
	reserve := p.ports.Roster.Reserve(p.now)
	if len(reserve) == 0 && p.opts.Warm == 0 {
		return nil
	}
	errs := []error{p.discard(ctx, p.needless(reserve))}
	if dead := p.neverBooted(reserve); len(dead) > 0 {
		p.memory.fill.failed(p.now)
		errs = append(errs, p.discard(ctx, dead))
	}
	var booted []pool.Ending
	for _, id := range p.ports.Roster.Warmed() {
		p.memory.fill = fill{}
		p.launcher.Lives()
		booted = append(booted, pool.Ending{Instance: id, Cause: pool.Warmed})
	}
	return errors.Join(append(errs, p.stop(ctx, booted, nil), p.fillWarm(ctx))...)
}

// needless returns the instances of the warm pool that are to end because fewer are wanted. A stopped one that is
// outdated stays until a successor has booted and is stopped.
func (p *pass) needless(reserve []pool.Instance) (out []pool.Ending) {
	slices.SortStableFunc(reserve, func(a, b pool.Instance) int { return int(b.State) - int(a.State) }) // warm first
	working := p.ports.Roster.Occupied(p.now, p.lost)
	stopped, booting := 0, 0 // that are not outdated, and stay
	var outdated []pool.Ending
	for i := range reserve {
		in := &reserve[i]
		current, warm := p.current(in.ID), in.State == pool.Warm
		switch {
		case slices.Contains(working, in.ID): // it may finish that first
			booting++
		case warm && in.Announced != "": // the cloud is about to end it
			out = append(out, pool.Ending{Instance: in.ID, Cause: pool.Interrupted, Reason: in.Announced})
		case warm && !current:
			outdated = append(outdated, pool.Ending{Instance: in.ID, Cause: pool.WarmOutdated})
		case !current:
			out = append(out, pool.Ending{Instance: in.ID, Cause: pool.WarmOutdated})
		case stopped+booting >= p.opts.Warm || !warm && p.ports.Roster.Present() > p.limits.Maximum:
			out = append(out, pool.Ending{Instance: in.ID, Cause: pool.WarmSurplus})
		case warm:
			stopped++
		default:
			booting++
		}
	}
	return append(out, outdated[min(len(outdated), max(0, p.opts.Warm-stopped)):]...)
}

// neverBooted returns the instances that were launched to be stopped and have never reported.
func (p *pass) neverBooted(reserve []pool.Instance) []pool.Ending {
	s := pool.Snapshot{Now: p.now, Stale: p.rec.Seen.Stale}
	for _, in := range reserve {
		if in.State == pool.Warming && in.ReportedAt.IsZero() {
			in.State = pool.Startup
			s.Instances = append(s.Instances, in)
		}
	}
	return p.opts.Judge.Watchdog.Inspect(&s).Hung
}

// fill is what is remembered of the launches for the warm pool.
type fill struct {
	failures int       // in a row
	next     time.Time // nothing is launched before
}

// The pause after an instance that was launched for the warm pool never reported. It doubles with each in a row.
const leastFillPause, mostFillPause = time.Minute, time.Hour

func (f *fill) failed(now time.Time) {
	f.next = now.Add(min(leastFillPause<<min(f.failures, 10), mostFillPause))
	f.failures++
}

// fillWarm launches one instance for the warm pool, if there are too few and the pool is quiet.
func (p *pass) fillWarm(ctx context.Context) error {
	r := p.ports.Roster
	reserve := slices.DeleteFunc(r.Reserve(p.now), func(in pool.Instance) bool { return !p.current(in.ID) })
	if len(reserve) >= p.opts.Warm || !p.quiet() || r.Present() >= p.limits.Maximum {
		return nil
	}
	return p.launchNew(ctx, 1, 1, pool.Warming)
}

// quiet reports whether nothing goes on in the pool that an instance for the warm pool might be in the way of.
func (p *pass) quiet() bool {
	s := &p.rec.Seen
	left := p.budget.left(p.now, p.limits, p.opts.PolicyInterval, "")
	return p.rec.Decision.Empty() && p.rec.Err == nil && !s.Stale && !p.rec.Breaker.Open && !p.opts.Retiring &&
		s.Backlog.Known && s.Backlog.Visible == 0 && s.Requests == 0 &&
		s.Count(pool.Startup, pool.ShutDown, pool.Stopping) == 0 && len(p.ports.Roster.Warming()) == 0 &&
		p.launcher.Open() == "" && p.launcher.Wait() == nil && left.Starts > 0 && !p.now.Before(p.memory.fill.next)
}

// warming returns the instances of the warm pool that run.
func warming(reserve []pool.Instance) []pool.Instance {
	return slices.DeleteFunc(slices.Clone(reserve), func(in pool.Instance) bool { return in.State == pool.Warm })
}
