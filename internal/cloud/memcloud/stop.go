package memcloud

import (
	"context"
	"fmt"
	"slices"
	"time"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/pool"
)

var _ cloud.Stopper = (*Cloud)(nil)

// life is one stop of an instance, and the start that may follow it.
type life struct {
	halting time.Time // when it began to stop
	stopped time.Time // when it had stopped
	started time.Time // when it was started again; zero: it was not
	running time.Time // when it has booted then
}

// phase returns the phase at a moment; ok is false before this life began.
func (l *life) phase(at time.Time) (phase cloud.Phase, ok bool) {
	switch {
	case at.Before(l.halting):
		return cloud.PhaseUnknown, false
	case at.Before(l.stopped):
		return cloud.Halting, true
	case l.started.IsZero() || at.Before(l.started):
		return cloud.Stopped, true
	case at.Before(l.running):
		return cloud.Pending, true
	}
	return cloud.Running, true
}

// runs reports whether the instance takes capacity at a moment.
func (in *instance) runs(at time.Time) bool {
	phase, ok := in.phase(at)
	return ok && phase != cloud.Stopped && phase != cloud.Halting
}

// Stop implements cloud.Stopper.
func (c *Cloud) Stop(ctx context.Context, ids ...pool.InstanceID) error {
	return c.change(ctx, OpStop, ids, c.stop)
}

// Start implements cloud.Stopper.
func (c *Cloud) Start(ctx context.Context, ids ...pool.InstanceID) error {
	return c.change(ctx, OpStart, ids, c.start)
}

func (c *Cloud) change(ctx context.Context, op Op, ids []pool.InstanceID, do func([]pool.InstanceID) error) error {
	a := c.account
	err := a.begin(ctx, op)
	if err == nil {
		_, err = a.finish(op, do(ids))
	}
	a.record(Call{Op: op, Deployment: c.deployment, IDs: slices.Clone(ids), Err: err})
	if err != nil {
		return fmt.Errorf("%s %d instances: %w", op, len(ids), err)
	}
	return nil
}

func (c *Cloud) stop(ids []pool.InstanceID) error {
	a := c.account
	if a.opts.Unstoppable {
		return fmt.Errorf("%w: these instances cannot be stopped", cloud.ErrInvalid)
	}
	a.mu.Lock()
	now := time.Now()
	var out []cloud.Instance
	for _, id := range ids {
		if in := a.byID[id]; in != nil && c.owns(in) && in.ending.IsZero() && in.runs(now) {
			in.lives = append(in.lives, life{halting: now, stopped: now.Add(a.opts.HaltDelay)})
			out = append(out, in.tell(cloud.Halting))
		}
	}
	a.mu.Unlock()
	a.tell(a.opts.OnStop, out)
	return nil
}

func (c *Cloud) start(ids []pool.InstanceID) error {
	out, err := c.startAgain(ids)
	c.account.tell(c.account.opts.OnLaunch, out)
	c.account.boot(out)
	return err
}

// startAgain starts all of the instances or none.
func (c *Cloud) startAgain(ids []pool.InstanceID) (out []cloud.Instance, err error) {
	a := c.account
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	var list []*instance
	for _, id := range ids {
		in := a.byID[id]
		if in == nil || !c.owns(in) || !in.ending.IsZero() {
			return nil, fmt.Errorf("%w: instance %s", cloud.ErrNotFound, id)
		}
		switch phase, _ := in.phase(now); phase {
		case cloud.Halting:
			return nil, fmt.Errorf("%w: instance %s", cloud.ErrNotStopped, id)
		case cloud.Stopped:
			list = append(list, in)
		case cloud.PhaseUnknown, cloud.Pending, cloud.Running, cloud.Terminating, cloud.Terminated:
		}
	}
	if a.opts.Capacity > 0 && a.usedLocked(now)+len(list) > a.opts.Capacity {
		return nil, fmt.Errorf("%w: there is no room for %d more", cloud.ErrCapacity, len(list))
	}
	for _, in := range list {
		l := &in.lives[len(in.lives)-1]
		l.started, l.running = now, now.Add(a.opts.BootDelay)
		out = append(out, in.tell(cloud.Pending))
	}
	return out, nil
}

// usedLocked is how many instances take capacity.
func (a *Account) usedLocked(now time.Time) (n int) {
	for _, in := range a.present {
		if in.runs(now) {
			n++
		}
	}
	return n
}
