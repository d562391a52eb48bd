package loop

import (
	"context"
	"errors"
	"fmt"
	"time"

	"cloudmaster/internal/blob"
	"cloudmaster/internal/pool"
	"cloudmaster/services/controller/internal/report"
	"cloudmaster/services/controller/internal/roster"
)

// observe brings roster, backlog and requests up to date and returns the
// snapshot, or false while the cloud has not been listed: then nothing is known
// and nothing may be decided. What cannot be observed is unknown, and the error
// says why; the pass goes on.
func (l *Loop) observe(ctx context.Context, now time.Time) (pool.Snapshot, bool, error) {
	listing := l.deps.Inventory.Latest()
	if listing.At.IsZero() {
		return pool.Snapshot{}, false, listing.Err
	}
	var errs []error
	gone, adopted := l.roster.Observe(listing.Instances[l.cfg.Name], listing.At, now)
	if len(adopted) > 0 {
		l.log.InfoContext(ctx, "adopted running instances", "instances", adopted)
	}
	for _, id := range gone {
		l.log.InfoContext(ctx, "instance is gone", "instance", string(id))
		l.report(ctx, report.Event{Kind: report.Gone, Instance: id})
	}
	errs = append(errs, l.takeOver(ctx, now), l.repair(ctx, now))
	l.activateReady(now)
	errs = append(errs, l.retag(ctx))
	errs = append(errs, l.readWork(ctx, now, false))
	return l.snapshot(now), true, errors.Join(errs...)
}

// snapshot is what is known now.
func (l *Loop) snapshot(now time.Time) pool.Snapshot {
	l.heard = l.roster.Heard()
	s := pool.Snapshot{
		Now: now, Pool: l.cfg.Name, Backlog: l.backlog, Requests: l.requests.count(),
		Instances: l.roster.Instances(now), Stale: l.deps.Inventory.Latest().Err != nil || l.roster.Deaf(),
	}
	l.metrics.observed(&s)
	return s
}

// takeOver learns, once, what a controller before us has done: from the instances
// what it has started lately, from the launch journal what lists may not show yet, from
// the active set what they said to it.
func (l *Loop) takeOver(ctx context.Context, now time.Time) error {
	l.budget.seed(l.roster.Instances(now))
	unread := l.journal.load(ctx, now)
	if l.set.known {
		return unread
	}
	old, err := l.set.load(ctx)
	if err != nil && !errors.Is(err, blob.ErrNotFound) {
		return errors.Join(unread, err)
	}
	if err == nil {
		l.roster.Seed(old, now)
	}
	return unread
}

// repair tells instances to end that should have ended.
func (l *Loop) repair(ctx context.Context, now time.Time) error {
	ids := l.roster.Untold(now)
	if len(ids) == 0 {
		return nil
	}
	// They may still be in the set that a predecessor published.
	if err := l.publish(ctx, ids); err != nil {
		return err
	}
	return l.terminate(ctx, ids)
}

// activateReady makes instances active that have reported for the first time.
func (l *Loop) activateReady(now time.Time) {
	for _, id := range l.roster.Ready() {
		l.roster.Mark(id, pool.Active, now)
	}
}

// retag writes the state on every instance whose tags do not say it: those that
// this pass changed, and those where an earlier attempt failed.
func (l *Loop) retag(ctx context.Context) error {
	var errs []error
	for _, t := range l.roster.Mistagged() {
		if err := l.tag(ctx, &t); err != nil {
			errs = append(errs, fmt.Errorf("tag %v as %s: %w", t.IDs, t.State, err))
			l.deps.Inventory.Refresh() // one of them may be gone
			continue
		}
		l.roster.Tagged(t)
	}
	return errors.Join(errs...)
}

func (l *Loop) tag(ctx context.Context, t *roster.Tagging) error {
	ctx, cancel := context.WithTimeout(ctx, actTimeout)
	defer cancel()
	return l.deps.Cloud.Tag(ctx, t.Tags(), t.IDs...)
}
