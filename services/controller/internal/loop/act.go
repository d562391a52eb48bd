package loop

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"cloudmaster/internal/pool"
	"cloudmaster/services/controller/internal/report"
)

// act carries a decision out: reactivate, launch, shut down, stop. One that fails
// does not keep the others from happening. Hung instances go first: what replaces them
// must not come on top of them.
func (l *Loop) act(ctx context.Context, s *pool.Snapshot, d *pool.Decision, hung []pool.Ending) error {
	charge := d.Spent.Stops // of those that end, so many are paid for by the stop limit
	drop := l.stop(ctx, s, pool.IDs(hung), nil)
	return errors.Join(
		drop,
		l.reactivate(ctx, d.Reactivate),
		l.launchInstances(ctx, d.Launch, d.Spent.Starts),
		l.shutDown(ctx, pool.IDs(d.ShutDown), &charge),
		l.stop(ctx, s, pool.IDs(d.Stop[len(hung):]), &charge),
	)
}

// reactivate makes draining instances active again. They join the published set
// at the end of the pass.
func (l *Loop) reactivate(ctx context.Context, ids []pool.InstanceID) error {
	if len(ids) == 0 {
		return nil
	}
	now := time.Now()
	for _, id := range ids {
		if l.roster.Mark(id, pool.Active, now) {
			l.report(ctx, report.Event{Kind: report.Activated, Instance: id})
		}
	}
	return l.retag(ctx)
}

// shutDown drains instances: out of the published set first, so that no allocator
// sends a client to an instance that is going. The drain is counted from when
// that has happened.
func (l *Loop) shutDown(ctx context.Context, ids []pool.InstanceID, charge *int) error {
	if len(ids) == 0 {
		return nil
	}
	if err := l.publish(ctx, ids); err != nil {
		return fmt.Errorf("shut down %v: %w", ids, err)
	}
	now := time.Now()
	for _, id := range ids {
		if l.roster.Mark(id, pool.ShutDown, now) {
			l.budget.stopped(now, charge)
			l.metrics.shutDown()
			l.report(ctx, report.Event{Kind: report.ShutDown, Instance: id})
		}
	}
	return l.retag(ctx)
}

// stop ends instances, out of the published set first. One that has said something
// since the snapshot is left to the next pass: it may have taken work.
func (l *Loop) stop(ctx context.Context, s *pool.Snapshot, ids []pool.InstanceID, charge *int) error {
	if len(ids) == 0 {
		return nil
	}
	if err := l.publish(ctx, ids); err != nil {
		return fmt.Errorf("stop %v: %w", ids, err)
	}
	var ended []pool.InstanceID
	now := time.Now()
	for i := range s.Instances {
		in := &s.Instances[i]
		if !slices.Contains(ids, in.ID) || !l.roster.End(in.ID, l.heard, now) {
			continue
		}
		ended = append(ended, in.ID)
		if in.Counted() { // the end of a drain was paid for when it began
			l.budget.stopped(now, charge)
		}
		l.metrics.stopped()
		l.report(ctx, report.Event{Kind: report.Terminated, Instance: in.ID})
	}
	return l.terminate(ctx, ended)
}

func (l *Loop) terminate(ctx context.Context, ids []pool.InstanceID) error {
	if len(ids) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, actTimeout)
	defer cancel()
	if err := l.deps.Cloud.Terminate(ctx, ids...); err != nil {
		return fmt.Errorf("terminate %v: %w", ids, err)
	}
	l.roster.Ended(time.Now(), ids...)
	l.deps.Inventory.Refresh()
	return nil
}
