// Package app puts primes-worker together: settings, queues, the worker, the agent
// that reports for it, and the operations endpoint.
//
// It waits for a broker or queues that are not there yet. At a signal, or when the cloud takes the machine back, the
// agent says so, and the worker finishes its job or hands it back. Only then does the agent stop, because a result may
// have to be sent.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"cloudmaster/internal/agent"
	"cloudmaster/internal/backend"
	"cloudmaster/internal/backoff"
	"cloudmaster/internal/daemon"
	"cloudmaster/internal/queue"
	"cloudmaster/services/primes-worker/internal/primes"
	"cloudmaster/services/primes-worker/internal/worker"
)

// Name is the program's name.
const Name = "primes-worker"

// policyFile has the rights that the program needs on AWS, for the advice in errors.
const policyFile = "deploy/aws/primes-worker.json"

// queueRetry is the pause before a queue is opened again after a failure.
const queueRetry = time.Second

// Program is primes-worker with what main decides.
type Program struct {
	Openers  backend.Openers // the message brokers it can speak to
	Metadata agent.Metadata  // what the cloud tells its machines; nil where there is none
}

// Run works until ctx ends and the current job is finished or handed back.
func (p Program) Run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if _, err := parse(args, stdout, agent.UserData{}); errors.Is(err, daemon.ErrDone) {
		return err // help needs no identity; the second parse finds other errors in args again
	}
	me, unknown := agent.Identify(ctx, p.Metadata)
	set, err := parse(args, stdout, me)
	if unknown != nil && !errors.Is(unknown, agent.ErrNoUserData) {
		return unknown
	}
	if err != nil {
		return err
	}
	if missing := set.missing(); len(missing) > 0 {
		return incomplete(missing, unknown)
	}
	a := &app{settings: set, registry: daemon.NewRegistry()}
	a.log = daemon.Logger(stderr, set.flags).With("pool", string(me.Pool), "instance_id", set.instanceID)
	ctx, done := agent.UntilInterrupted(ctx, p.Metadata, a.log)
	defer done()
	return a.run(ctx, p.Openers, me.Deployment)
}

// incomplete says what to do when settings are missing that this process cannot do without.
func incomplete(missing []string, unknown error) error {
	if unknown == nil {
		unknown = errors.New("the user data is incomplete")
	}
	return fmt.Errorf("%w: let a controller start it (controller run -c FILE), or run it by hand with %s as well",
		unknown, strings.Join(missing, ", "))
}

type app struct {
	settings settings
	registry *prometheus.Registry
	log      *slog.Logger
	ready    atomic.Bool
}

// run opens the backend and works.
func (a *app) run(ctx context.Context, openers backend.Openers, deployment string) error {
	a.log.InfoContext(ctx, "starting", "version", daemon.Version(), "backend", backend.Redacted(a.settings.backend),
		"work_queue", a.settings.workQueue, "status_queue", a.settings.statusQueue, "max_n", a.settings.maxN,
		"stop_timeout", a.settings.stopTimeout.String(), "status_interval", a.settings.statusInterval.String())
	beside, done := context.WithCancel(context.WithoutCancel(ctx))
	defer done()
	return daemon.Group(ctx,
		func(ctx context.Context) error {
			defer done()
			return a.serve(ctx, openers, deployment)
		},
		func(context.Context) error { return daemon.ServeOps(beside, a.settings.opsListen, a.ops(ctx)) },
	)
}

// serve connects and works until ctx ends. It closes the connection last.
func (a *app) serve(ctx context.Context, openers backend.Openers, deployment string) error {
	b, err := backend.Open(ctx, a.settings.backend, openers, backend.Options{
		Deployment: deployment, Client: Name + " " + a.settings.instanceID, PolicyFile: policyFile,
		Log: a.log, Count: daemon.NewAPICalls(a.registry),
	})
	if err != nil {
		return unlessStopped(ctx, err)
	}
	return errors.Join(unlessStopped(ctx, a.work(ctx, b)), b.Close())
}

// work runs the worker and its agent on an open backend.
func (a *app) work(ctx context.Context, b backend.Backend) error {
	status, err := a.openQueue(ctx, b, a.settings.statusQueue)
	if err != nil {
		return err
	}
	jobs, err := a.openQueue(ctx, b, a.settings.workQueue)
	if err != nil {
		return err
	}
	speaker := agent.New(status, a.settings.instance(), agent.Options{Interval: a.settings.statusInterval, Log: a.log})
	w, err := worker.New(jobs, speaker, a.compute(), worker.Options{
		Ceiling: a.settings.maxN, StopTimeout: a.settings.stopGrace(),
		Metrics: worker.NewMetrics(a.registry), Log: a.log,
	})
	if err != nil {
		return err
	}
	a.ready.Store(true)
	defer context.AfterFunc(ctx, speaker.Drain)() // it takes no new jobs from then on
	beside, done := context.WithCancel(context.WithoutCancel(ctx))
	defer done()
	return daemon.Group(ctx,
		func(ctx context.Context) error {
			defer done()
			err := w.Run(ctx)
			speaker.Drain() // if it has no job it ends before anybody else has said so
			return err
		},
		func(context.Context) error { return speaker.Run(beside) }, // until the worker has nothing more to say
	)
}

// openQueue opens a queue, and waits for one that nobody has created yet.
func (a *app) openQueue(ctx context.Context, b backend.Backend, name string) (queue.Queue, error) {
	for attempt := 1; ; attempt++ {
		q, err := b.Queue(ctx, name)
		switch {
		case err == nil:
			return q, nil
		case errors.Is(err, queue.ErrDenied), ctx.Err() != nil:
			return nil, fmt.Errorf("open queue %s: %w", name, err)
		case attempt == 1:
			a.log.WarnContext(ctx, "waiting for a queue; the controller creates it", "queue", name, "error", err)
		}
		if !backoff.Wait(ctx, queueRetry) {
			return nil, fmt.Errorf("wait for queue %s: %w", name, context.Cause(ctx))
		}
	}
}

// compute returns the sieve, with a gauge of its progress.
func (a *app) compute() worker.ComputeFunc {
	found := promauto.With(a.registry).NewGauge(prometheus.GaugeOpts{
		Name: "cloudmaster_primes_found",
		Help: "Primes that the current job has found so far; 0 without one.",
	})
	progress := func(n int) { found.Set(float64(n)) }
	return func(ctx context.Context, n int) (uint64, error) {
		defer progress(0)
		return primes.NthWith(ctx, n, primes.Options{Progress: progress})
	}
}

// ops is what the operations endpoint serves. ctx ends when the worker takes no more jobs.
func (a *app) ops(ctx context.Context) daemon.Ops {
	return daemon.Ops{
		Registry: a.registry, Log: a.log,
		Ready: func() error {
			switch {
			case ctx.Err() != nil:
				return errors.New("stopping: no new jobs are taken")
			case !a.ready.Load():
				return errors.New("waiting for the broker or its queues")
			}
			return nil
		},
		Listening: func(addr net.Addr) {
			a.log.InfoContext(ctx, "serving health and metrics", "address", addr.String())
		},
	}
}

// unlessStopped drops an error that a stop has caused.
func unlessStopped(ctx context.Context, err error) error {
	if ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.Cause(ctx))) {
		return nil
	}
	return err
}
