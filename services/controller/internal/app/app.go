// Package app is the controller as a library. RunConfig opens what a configuration asks for. Run runs given
// parts until the controller ends, and takes them down in the reverse order, so tests and simulations run the
// same controller on other parts.
package app

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"cloudmaster/internal/blob"
	"cloudmaster/internal/daemon"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
	"cloudmaster/services/controller/internal/ages"
	"cloudmaster/services/controller/internal/desired"
	"cloudmaster/services/controller/internal/driver"
	"cloudmaster/services/controller/internal/lease"
	"cloudmaster/services/controller/internal/report"
)

// Parts is what a controller runs on. All parts are required, except where a comment says what nil, 0 or
// empty means.
type Parts struct {
	Store     blob.Store
	OpenQueue func(ctx context.Context, name string, limits queue.Limits) (queue.Queue, error)
	OpenCloud func(ctx context.Context, name pool.CloudName, changed func()) (desired.Machines, error)
	Post      desired.Post // the queues of the whole deployment; the zero value: there are none
	Sink      report.Sink
	Forget    func(pool.Name) // called for each pool that does not run any more; nil: nobody is told
	Ages      queue.Ager      // how old messages are; nil: nobody knows
	Lease     lease.Options
	Now       func() time.Time
	Token     func() string // random text, different each time
	// Pause returns how long to wait before a status queue that cannot be read is tried again. Nil: a random
	// time.
	Pause func(failures int) time.Duration
	Wait  time.Duration // how long a look at a queue of messages waits; 0 means 20 s
	Log   *slog.Logger

	Registry  *prometheus.Registry          // nil: there are no metrics to serve
	OpsListen string                        // where health and metrics are served; empty: nowhere
	Beside    []func(context.Context) error // also run, such as a broker; an error ends the controller
}

// Controller leads a deployment: it holds the lease and runs the pools.
type Controller struct {
	*desired.Pools

	lease *lease.Lease
}

// Starter runs tasks. Both driver.Driver and driver.Manual are Starters.
type Starter interface {
	Start(task driver.Task) (stop func())
}

// Lead takes the lease and returns a controller without pools. The lease's task has a starter of its own,
// because the lease must be given back last, when no pool can act any more.
func Lead(ctx context.Context, parts Parts, pools, renewals Starter) (*Controller, error) {
	parts.Lease.Now = parts.Now
	held, err := lease.Acquire(ctx, parts.Store, parts.Log, parts.Lease)
	if err != nil {
		return nil, err
	}
	renewals.Start(held.Task())
	return &Controller{lease: held, Pools: desired.New(desired.Parts{
		Start: pools.Start, OpenCloud: parts.OpenCloud, OpenQueue: parts.OpenQueue, Store: parts.Store, Lead: held.Lead,
		Post: parts.Post, Sink: parts.Sink, Forget: parts.Forget, Now: parts.Now, Token: parts.Token,
		Pause: parts.Pause, Wait: parts.Wait, Log: parts.Log,
	})}, nil
}

// ready returns nil if this controller leads and every cloud has been listed, and else the reason.
func (c *Controller) ready(now func() time.Time) func() error {
	return func() error { return errors.Join(c.lease.Check(now()), c.Ready()) }
}

// Source says which pools should run.
type Source struct {
	First func(ctx context.Context) ([]desired.Pool, error)
	// Next is called for each value from Asked. It returns the pools, and a function that is told whether
	// they could be applied. If Asked is nil, Next is never called.
	Next  func(ctx context.Context) (pools []desired.Pool, applied func(ok bool), err error)
	Asked <-chan struct{}
}

// Run runs a controller until ctx ends or something fails for good. If the source fails later, or a new pool
// cannot be opened, nothing changes. Instances run on when Run returns.
func Run(ctx context.Context, parts Parts, source Source) error {
	first, err := source.First(ctx)
	if err != nil {
		return err
	}
	renewals := driver.New(context.WithoutCancel(ctx))
	pools := driver.New(ctx)
	c, err := Lead(ctx, parts, pools, renewals)
	if err != nil {
		return err
	}
	pools.Go(func(ctx context.Context) error { // a controller that has lost the lease ends
		select {
		case <-renewals.Ended():
			return errLost
		case <-ctx.Done():
			return nil
		}
	})
	pools.Go(func(ctx context.Context) error {
		if _, err := c.Apply(ctx, first); err != nil {
			return err
		}
		c.reload(ctx, parts.Log, source)
		return nil
	})
	if parts.Ages != nil {
		pools.Go(func(ctx context.Context) error {
			return ages.Run(ctx, ages.Options{
				Queues: c.WorkQueues, Tell: c.TellAges, Ages: parts.Ages, Now: parts.Now, Log: parts.Log,
			})
		})
	}
	for _, f := range parts.Beside {
		pools.Go(f)
	}
	pools.Go(func(ctx context.Context) error {
		return daemon.ServeOps(ctx, parts.OpsListen, daemon.Ops{
			Registry: parts.Registry, Ready: c.ready(parts.Now), Log: parts.Log,
		})
	})
	err = pools.Wait()
	renewals.Stop()
	return lost(err, renewals.Wait())
}

// errLost ends the pools when the lease's task has failed. lost replaces it by the error of that task.
var errLost = errors.New("the lease is lost")

// lost returns why the controller has ended. If it has lost the lease, that is the error with which the
// lease's task has failed.
func lost(err, why error) error {
	if errors.Is(err, errLost) {
		return why
	}
	return errors.Join(err, why)
}

// reload asks the source for the pools whenever it should, and applies them.
func (c *Controller) reload(ctx context.Context, log *slog.Logger, source Source) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-source.Asked:
		}
		list, applied, err := source.Next(ctx)
		var changes desired.Changes
		if err == nil {
			changes, err = c.Apply(ctx, list)
			applied(err == nil)
		}
		switch {
		case ctx.Err() != nil:
		case err != nil:
			log.ErrorContext(ctx, "configuration was read again and is refused; what ran goes on unchanged",
				"error", err)
		default:
			log.LogAttrs(ctx, slog.LevelInfo, "configuration was read again", said(&changes)...)
		}
	}
}

// said are the pools that changed, by how they did.
func said(c *desired.Changes) (attrs []slog.Attr) {
	for _, one := range []struct {
		how   string
		pools []pool.Name
	}{
		{"added", c.Added},
		{"changed", c.Changed},
		{"restarted", c.Restarted},
		{"removed", c.Removed},
		{"draining", c.Draining},
	} {
		if len(one.pools) > 0 {
			attrs = append(attrs, slog.Any(one.how, one.pools))
		}
	}
	if len(attrs) == 0 {
		attrs = append(attrs, slog.Bool("changed", false))
	}
	return attrs
}
