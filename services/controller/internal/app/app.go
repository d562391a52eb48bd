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
	"cloudmaster/internal/backend/awsbackend"
	"cloudmaster/internal/backend/natsbackend"
	"cloudmaster/internal/blob"
	"cloudmaster/internal/daemon"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
	"cloudmaster/services/controller/internal/broker"
	"cloudmaster/services/controller/internal/config"
	"cloudmaster/services/controller/internal/inventory"
	"cloudmaster/services/controller/internal/lease"
	"cloudmaster/services/controller/internal/loop"
	"cloudmaster/services/controller/internal/report"
)

// policyFile has the rights that the controller needs on AWS, for the advice in errors.
const policyFile = "deploy/aws/controller.json"

// controller is what Run takes up and down.
type controller struct {
	cfg      *config.Config
	log      *slog.Logger
	registry *prometheus.Registry
	count    func(service, operation string, err error) // calls to brokers, stores and clouds
	reports  report.Reporter
	broker   *broker.Broker // our own; nil if the backend is elsewhere
	closers  []func() error // in the order of opening
}

// Run runs the controller until ctx ends or something fails for good. Instances
// run on when it returns.
func Run(ctx context.Context, cfg *config.Config, stdout io.Writer, log *slog.Logger) (err error) {
	c := &controller{cfg: cfg, log: log, registry: daemon.NewRegistry()}
	c.count = daemon.NewAPICalls(c.registry)
	c.reports = newReports(cfg.Report, stdout, log)
	defer func() {
		err = errors.Join(err, c.close())
		log.InfoContext(context.WithoutCancel(ctx), "controller ends; instances run on", "well", err == nil)
	}()
	log.InfoContext(ctx, "controller starts", "version", daemon.Version(), "config", cfg.File, "deployment", cfg.Deployment,
		"backend", backend.Redacted(cfg.Backend), "pools", slices.Sorted(maps.Keys(cfg.Pools)))

	address := cfg.Backend
	if address == config.Embedded {
		if address, err = c.startBroker(ctx); err != nil {
			return err
		}
	}
	back, err := backend.Open(ctx, address, backend.Openers{"nats": natsbackend.Open, "aws": awsbackend.Open}, backend.Options{
		Deployment: cfg.Deployment, Client: "controller", PolicyFile: policyFile, Log: log, Count: c.count,
	})
	if err != nil {
		return err
	}
	c.closers = append(c.closers, back.Close)
	return c.serve(ctx, back, address)
}

func (c *controller) startBroker(ctx context.Context) (string, error) {
	b, err := broker.Start(ctx, broker.Options{Listen: c.cfg.Broker.Listen, StoreDir: c.cfg.Broker.StoreDir, Log: c.log})
	if err != nil {
		return "", err
	}
	c.closers = append(c.closers, b.Close)
	c.broker = b
	return b.URL(), nil
}

// serve takes the lease and runs everything that lives as long as the controller.
func (c *controller) serve(ctx context.Context, back backend.Backend, address string) error {
	blobs, err := back.Blobs(ctx)
	if err != nil {
		return fmt.Errorf("open store: %w", err)
	}
	held, err := lease.Acquire(ctx, blobs, c.log, lease.Options{TTL: c.cfg.LeaseTTL()})
	if err != nil {
		return err
	}
	// The lease is given back last, when no loop can act any more.
	leaseCtx, giveBack := context.WithCancel(context.WithoutCancel(ctx))
	defer giveBack()
	return daemon.Group(ctx, func(ctx context.Context) error {
		defer giveBack()
		return c.run(ctx, back, blobs, address, held.Check)
	}, func(context.Context) error { return held.Run(leaseCtx) }, c.watchBroker)
}

// watchBroker ends the controller when its own broker has become useless.
func (c *controller) watchBroker(ctx context.Context) error {
	if c.broker == nil {
		return nil
	}
	return c.broker.Run(ctx)
}

func (c *controller) run(ctx context.Context, back backend.Backend, blobs blob.Store, address string, rules func() error) error {
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
		if p.Requests() && !p.PublishesActiveSet() {
			c.log.WarnContext(ctx, "pool publishes no active set, so no allocator can find its servers; set active_set_type: blob", "pool", name)
		}
		l, err := loop.New(p, loop.Deps{
			Cloud: clouds[p.Cloud], Inventory: inventories[p.Cloud], Work: work, Status: status, Store: blobs,
			ListLag: clouds[p.Cloud].listLag, Rules: rules, UserData: c.userData(&p, address), Report: c.reports, Metrics: metrics, Log: c.log,
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
		return daemon.ServeOps(ctx, c.cfg.OpsListen, daemon.Ops{Registry: c.registry, Ready: ready(inventories, rules), Log: c.log})
	})
	return daemon.Group(ctx, run...)
}

// noticeStrays returns what says, once a pool, that instances run for which there
// is no pool any more. Nobody judges them: they run until an operator ends them.
func (c *controller) noticeStrays(ctx context.Context, cloudName string, v *inventory.Inventory) func() {
	said := make(map[pool.Name]bool)
	return func() { // an inventory calls it from one goroutine
		for name, list := range v.Latest().Instances {
			if _, known := c.cfg.Pools[string(name)]; known || said[name] {
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
	if work, err = back.Ensure(ctx, p.WorkQueue, p.WorkLimits()); err != nil {
		return nil, nil, fmt.Errorf("pool %s: open work queue: %w", p.Name, err)
	}
	if status, err = back.Ensure(ctx, p.StatusQueue, p.StatusLimits()); err != nil {
		return nil, nil, fmt.Errorf("pool %s: open status queue: %w", p.Name, err)
	}
	return work, status, nil
}

// userData returns what tells a new instance of the pool who it is.
func (c *controller) userData(p *config.Pool, address string) func(pool.InstanceID) ([]byte, error) {
	if c.cfg.WorkerBackend != "" {
		address = c.cfg.WorkerBackend
	}
	return func(id pool.InstanceID) ([]byte, error) {
		return agent.UserData{
			Deployment: c.cfg.Deployment, Pool: p.Name, InstanceID: id, Backend: address,
			Queues:         agent.Queues{Work: p.WorkQueue, Status: p.StatusQueue},
			StatusInterval: p.StatusInterval, Settings: p.Settings,
		}.Encode()
	}
}

// ready says whether we rule and every cloud has been listed.
func ready(inventories map[string]*inventory.Inventory, rules func() error) func() error {
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

func newReports(names []string, stdout io.Writer, log *slog.Logger) report.Reporter {
	var all report.All
	for _, name := range names {
		switch name {
		case "console":
			all = append(all, report.NewConsole(stdout))
		case "log":
			all = append(all, report.NewLog(log))
		}
	}
	return all
}

// openTimeout bounds how long opening a cloud may take.
const openTimeout = time.Minute

// openClouds opens the clouds that pools use, each with its inventory.
func (c *controller) openClouds(ctx context.Context) (map[string]machines, map[string]*inventory.Inventory, error) {
	clouds, inventories := make(map[string]machines), make(map[string]*inventory.Inventory)
	for _, p := range c.cfg.Pools {
		if _, open := clouds[p.Cloud]; open {
			continue
		}
		v := inventory.New(pool.CloudName(p.Cloud), c.cfg.Clouds[p.Cloud].AuditInterval, c.log)
		opened, err := c.openCloud(ctx, p.Cloud, v.Refresh)
		if err != nil {
			return nil, nil, fmt.Errorf("open cloud %s: %w", p.Cloud, err)
		}
		c.closers = append(c.closers, opened.close)
		clouds[p.Cloud] = opened
		inventories[p.Cloud] = v
	}
	return clouds, inventories, nil
}
