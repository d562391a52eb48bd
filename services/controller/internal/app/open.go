package app

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"cloudmaster/internal/backend"
	"cloudmaster/internal/daemon"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
	"cloudmaster/services/controller/internal/config"
	"cloudmaster/services/controller/internal/desired"
	"cloudmaster/services/controller/internal/lease"
	"cloudmaster/services/controller/internal/report"
)

const (
	client = "controller" // what brokers and clouds know this program as
	// policyFile names the file with the rights that the controller needs on AWS. Errors that say that a
	// right is missing name it.
	policyFile = "deploy/aws/controller.json"
)

// opened is what open has opened, and close closes.
type opened struct {
	Parts

	cfg     *config.Config                             // as at the start; current has what may change without a restart
	current atomic.Pointer[config.Config]              // the newest that was applied, or is about to be
	count   func(service, operation string, err error) // calls to brokers, stores and clouds
	address string                                     // of the backend, for instances
	logins  backend.Logins                             // nil: the backend hands out none
	closers []func() error                             // in the order of opening
	clouds  map[pool.CloudName]config.Cloud            // that are open, as they were configured then
}

// RunConfig runs the controller that a configuration describes, until ctx ends or something fails for good.
// The configuration is loaded again for each value from reload.
func RunConfig(ctx context.Context, cfg *config.Config, load func() (*config.Config, error), reload <-chan struct{},
	stdout io.Writer, log *slog.Logger,
) (err error) {
	log.InfoContext(ctx, "controller starts", "version", daemon.Version(), "config", cfg.File,
		"deployment", cfg.Deployment, "backend", backend.Redacted(cfg.Backend.Address), "pools",
		slices.Sorted(maps.Keys(cfg.Pools)))
	o, err := open(ctx, cfg, stdout, log)
	defer func() {
		err = errors.Join(err, o.close())
		log.InfoContext(context.WithoutCancel(ctx), "controller ends; instances run on", "well", err == nil)
	}()
	if err != nil {
		return err
	}
	next := func(ctx context.Context) ([]desired.Pool, func(bool), error) { return o.next(ctx, load) }
	return Run(ctx, o.Parts, Source{First: o.first, Next: next, Asked: reload})
}

// open makes the parts that a configuration asks for. What was opened must be closed also after an error.
func open(ctx context.Context, cfg *config.Config, stdout io.Writer, log *slog.Logger) (*opened, error) {
	o := &opened{cfg: cfg, clouds: make(map[pool.CloudName]config.Cloud), Parts: Parts{
		Lease: lease.Options{TTL: cfg.Backend.Kind.LeaseTTL}, Now: time.Now, Token: rand.Text, Log: log,
		Registry: daemon.NewRegistry(), OpsListen: cfg.OpsListen,
	}}
	o.current.Store(cfg)
	o.count = daemon.NewAPICalls(o.Registry)
	back, err := o.openBackend(ctx)
	if err != nil {
		return o, err
	}
	if o.Store, err = back.Blobs(ctx); err != nil {
		return o, fmt.Errorf("open store: %w", err)
	}
	o.OpenQueue, o.OpenCloud = back.Ensure, o.openCloud
	o.Post = postOf(cfg, report.CountPost(o.Registry))
	return o, o.openSinks(ctx, report.World{Stdout: stdout, Log: log, Backend: back})
}

// openBackend opens the backend that the configuration names. It is closed after everything else.
func (o *opened) openBackend(ctx context.Context) (backend.Opened, error) {
	where := o.cfg.Backend
	back, err := where.Kind.Open(ctx, where.Address, where.Settings, backend.Options{
		Deployment: o.cfg.Deployment, Client: client, PolicyFile: policyFile, Log: o.Log, Count: o.count,
		Refused: report.CountRefused(o.Registry),
	})
	if err != nil {
		return backend.Opened{}, err
	}
	o.closers = append(o.closers, back.Close)
	if back.Run != nil {
		o.Beside = append(o.Beside, back.Run)
	}
	o.logins = back.Logins
	o.Ages, _ = back.Backend.(queue.Ager)
	o.address = cmp.Or(o.cfg.WorkerBackend, back.Address)
	return back, nil
}

// openSinks opens the reports that the configuration names, and two that are always there: metrics and the
// controller's own log.
func (o *opened) openSinks(ctx context.Context, world report.World) error {
	metrics, diary := report.NewMetrics(o.Registry), report.NewDiary(o.Log)
	all := report.All{metrics, diary}
	for _, one := range o.cfg.Reports {
		sink, err := one.Kind.Open(ctx, one.Settings, world)
		if err != nil {
			return fmt.Errorf("open report %s: %w", one.Kind.Name, err)
		}
		all = append(all, sink)
		if s, ok := sink.(interface{ Flush(ctx context.Context) }); ok {
			o.closers = append(o.closers, func() error { flush(ctx, s.Flush); return nil })
		}
	}
	o.Sink = all
	o.Forget = func(name pool.Name) { metrics.Forget(name); diary.Forget(name) }
	return nil
}

// flushTimeout is how long the end waits for whoever reads the reports.
const flushTimeout = 2 * time.Second

func flush(ctx context.Context, f func(context.Context)) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
	defer cancel()
	f(ctx)
}

// close closes what was opened, in the reverse order.
func (o *opened) close() error {
	var errs []error
	for _, f := range slices.Backward(o.closers) {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}
