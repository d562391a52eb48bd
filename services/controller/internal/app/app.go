// Package app is the controller as a library: it wires configuration, backend,
// clouds and loops together, runs them, and takes them down in the reverse order.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"cloudmaster/internal/agent"
	"cloudmaster/internal/backend"
	"cloudmaster/internal/blob"
	"cloudmaster/internal/cloud"
	"cloudmaster/internal/daemon"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
	"cloudmaster/services/controller/internal/config"
	"cloudmaster/services/controller/internal/inventory"
	"cloudmaster/services/controller/internal/lease"
	"cloudmaster/services/controller/internal/loop"
	"cloudmaster/services/controller/internal/report"
)

// controller is what Run takes up and down.
type controller struct {
	cfg      *config.Config
	log      *slog.Logger
	registry *prometheus.Registry
	count    func(service, operation string, err error) // calls to brokers, stores and clouds
	reports  report.Reporter
	closers  []func() error // in the order of opening
}

// Run runs the controller until ctx ends or something fails for good. Instances
// run on when it returns.
func Run(ctx context.Context, cfg *config.Config, stdout io.Writer, log *slog.Logger) (err error) {
	c := &controller{cfg: cfg, log: log, registry: daemon.NewRegistry()}
	c.count = daemon.NewAPICalls(c.registry)
	defer func() {
		err = errors.Join(err, c.close())
		log.InfoContext(context.WithoutCancel(ctx), "controller ends; instances run on", "well", err == nil)
	}()
	log.InfoContext(ctx, "controller starts", "version", daemon.Version(), "config", cfg.File,
		"deployment", cfg.Deployment, "backend", backend.Redacted(cfg.Backend.Address),
		"pools", slices.Sorted(maps.Keys(cfg.Pools)))

	back, err := cfg.Backend.Kind.Open(ctx, cfg.Backend.Address, cfg.Backend.Settings, backend.Options{
		Deployment: cfg.Deployment, Client: client, Log: log, Count: c.count,
	})
	if err != nil {
		return err
	}
	c.closers = append(c.closers, back.Close)
	if c.reports, err = openReports(ctx, cfg.Reports, report.World{Stdout: stdout, Log: log, Backend: back}); err != nil {
		return err
	}
	return c.serve(ctx, back)
}

// client is what we are called by brokers and clouds.
const client = "controller"

// serve takes the lease and runs everything that lives as long as the controller.
func (c *controller) serve(ctx context.Context, back backend.Opened) error {
	blobs, err := back.Blobs(ctx)
	if err != nil {
		return fmt.Errorf("open store: %w", err)
	}
	held, err := lease.Acquire(ctx, blobs, c.log, lease.Options{TTL: c.cfg.Backend.Kind.LeaseTTL})
	if err != nil {
		return err
	}
	// The lease is given back last, when no loop can act any more.
	leaseCtx, giveBack := context.WithCancel(context.WithoutCancel(ctx))
	defer giveBack()
	return daemon.Group(ctx, func(ctx context.Context) error {
		defer giveBack()
		return c.run(ctx, back, blobs, held.Check)
	}, func(context.Context) error { return held.Run(leaseCtx) }, watch(back))
}

// watch returns what ends the controller when its backend has become useless.
func watch(back backend.Opened) func(context.Context) error {
	if back.Run == nil {
		return func(context.Context) error { return nil }
	}
	return back.Run
}

func (c *controller) run(ctx context.Context, back backend.Opened, blobs blob.Store, rules func() error) error {
	clouds, inventories, err := c.openClouds(ctx)
	if err != nil {
		return err
	}
	var run []func(context.Context) error
	metrics := loop.NewMetrics(c.registry)
	for _, name := range slices.Sorted(maps.Keys(c.cfg.Pools)) {
		p := c.cfg.Pools[name]
		work, status, err := ensureQueues(ctx, back, &p)
		if err != nil {
			return err
		}
		if p.Policy.Traits().TakesRequests && !p.PublishesActiveSet() {
			c.log.WarnContext(ctx, "pool publishes no active set, so no allocator can find its servers; "+
				"set active_set_type: blob", "pool", name)
		}
		opts, err := loopConfig(&p)
		if err != nil {
			return fmt.Errorf("pool %s: %w", name, err)
		}
		l, err := loop.New(opts, loop.Deps{
			Cloud: clouds[p.Cloud], Inventory: inventories[p.Cloud], Work: work, Status: status, Store: blobs,
			ListLag: c.cfg.Clouds[p.Cloud].Kind.ListLag, Rules: rules, UserData: c.userData(&p, back.Address),
			Report: c.reports, Metrics: metrics, Log: c.log,
		})
		if err != nil {
			return err
		}
		inventories[p.Cloud].Subscribe(l.Wake)
		run = append(run, l.Run)
	}
	for name, v := range inventories {
		v.Subscribe(c.noticeStrays(ctx, name, v))
		run = append(run, func(ctx context.Context) error { return v.Run(ctx, clouds[name]) })
	}
	run = append(run, func(ctx context.Context) error {
		return daemon.ServeOps(ctx, c.cfg.OpsListen, daemon.Ops{
			Registry: c.registry, Ready: ready(inventories, rules), Log: c.log,
		})
	})
	return daemon.Group(ctx, run...)
}

// noticeStrays returns what says, once a pool, that instances run for which there
// is no pool any more. Nobody judges them: they run until an operator ends them.
func (c *controller) noticeStrays(ctx context.Context, cloudName pool.CloudName, v *inventory.Inventory) func() {
	said := make(map[pool.Name]bool)
	return func() { // an inventory calls it from one goroutine
		for name, list := range v.Latest().Instances {
			if _, known := c.cfg.Pools[name]; known || said[name] {
				continue
			}
			said[name] = true
			ids := make([]pool.InstanceID, len(list))
			for i := range list {
				ids[i] = list[i].ID
			}
			c.log.WarnContext(ctx, "instances run for a pool that is not in the configuration; nobody keeps or ends them",
				"cloud", cloudName, "pool", string(name), "instances", ids)
		}
	}
}

// ensureQueues opens a pool's queues, creating those that are missing where the backend lets us.
func ensureQueues(ctx context.Context, back backend.Backend, p *config.Pool) (work, status queue.Queue, err error) {
	opened := make(map[config.Use]queue.Queue)
	for _, q := range p.Queues {
		if opened[q.Use], err = back.Ensure(ctx, q.Name, q.Limits); err != nil {
			return nil, nil, fmt.Errorf("pool %s: open %s queue: %w", p.Name, q.Use, err)
		}
	}
	return opened[config.Work], opened[config.Status], nil
}

// userData returns what tells a new instance of the pool who it is.
func (c *controller) userData(p *config.Pool, address string) func(pool.InstanceID) ([]byte, error) {
	if c.cfg.WorkerBackend != "" {
		address = c.cfg.WorkerBackend
	}
	work, _ := p.Queue(config.Work)
	status, _ := p.Queue(config.Status)
	return func(id pool.InstanceID) ([]byte, error) {
		return agent.UserData{
			Deployment: c.cfg.Deployment, Pool: p.Name, InstanceID: id, Backend: address,
			Queues:         agent.Queues{Work: work.Name, Status: status.Name},
			StatusInterval: p.Times.StatusInterval, Settings: p.Settings,
		}.Encode()
	}
}

// ready says whether we rule and every cloud has been listed.
func ready(inventories map[pool.CloudName]*inventory.Inventory, rules func() error) func() error {
	return func() error {
		errs := []error{rules()}
		for _, name := range slices.Sorted(maps.Keys(inventories)) {
			switch l := inventories[name].Latest(); {
			case l.Err != nil:
				errs = append(errs, fmt.Errorf("cloud %s: %w", name, l.Err))
			case l.At.IsZero():
				errs = append(errs, fmt.Errorf("cloud %s has not been listed yet", name))
			}
		}
		return errors.Join(errs...)
	}
}

// close undoes what was opened, last first.
func (c *controller) close() error {
	var errs []error
	for _, f := range slices.Backward(c.closers) {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}

func openReports(ctx context.Context, reports []config.Report, world report.World) (report.Reporter, error) {
	var all report.All
	for _, one := range reports {
		r, err := one.Kind.Open(ctx, one.Settings, world)
		if err != nil {
			return nil, fmt.Errorf("open report %s: %w", one.Kind.Name, err)
		}
		all = append(all, r)
	}
	return all, nil
}

// openTimeout bounds how long opening a cloud may take.
const openTimeout = time.Minute

// openClouds opens the clouds that pools use, each with its inventory.
func (c *controller) openClouds(
	ctx context.Context,
) (map[pool.CloudName]cloud.Cloud, map[pool.CloudName]*inventory.Inventory, error) {
	clouds, inventories := make(map[pool.CloudName]cloud.Cloud), make(map[pool.CloudName]*inventory.Inventory)
	for _, p := range c.cfg.Pools {
		if _, open := clouds[p.Cloud]; open {
			continue
		}
		v := inventory.New(p.Cloud, c.cfg.Clouds[p.Cloud].AuditInterval, c.log)
		opened, err := c.openCloud(ctx, p.Cloud, v.Refresh)
		if err != nil {
			return nil, nil, fmt.Errorf("open cloud %s: %w", p.Cloud, err)
		}
		c.closers = append(c.closers, opened.Close)
		clouds[p.Cloud] = opened
		inventories[p.Cloud] = v
	}
	return clouds, inventories, nil
}
