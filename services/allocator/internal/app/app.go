// Package app puts the allocator together and runs it.
//
// It answers HTTP requests from the start, also while the broker is not there yet: until the active sets have been read
// it is not ready, and says so to clients. From then on it keeps reading the active sets, and goes on with the last
// ones if the broker goes away. When it stops it first answers the requests under way and closes the connection to the
// broker last, because an answer may need the work queue.
package app

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"cloudmaster/internal/backend"
	"cloudmaster/internal/backoff"
	"cloudmaster/internal/blob"
	"cloudmaster/internal/daemon"
	"cloudmaster/internal/hint"
	"cloudmaster/internal/queue"
	"cloudmaster/services/allocator/internal/allocate"
	"cloudmaster/services/allocator/internal/exchange"
	"cloudmaster/services/allocator/internal/refresh"
	"cloudmaster/services/allocator/internal/request"
	"cloudmaster/services/allocator/internal/web"
)

// Name is the program's name.
const Name = "allocator"

// policyFile has the rights that the program needs on AWS, for the advice in errors.
const policyFile = "deploy/aws/allocator.json"

// storeRetry is the pause before the store is opened again after a failure.
const storeRetry = time.Second

// Options of an App; the zero value works.
type Options struct {
	Log       *slog.Logger   // nil discards
	Listening func(net.Addr) // called once, when clients are taken; may be nil
	Ops       func(net.Addr) // called once, when health and metrics are served; may be nil
}

// App is an allocator. Its Run may be called once.
type App struct {
	settings Settings
	openers  backend.Openers
	opts     Options
	link     link
	sets     []*allocate.Pool
	handler  *web.Handler
	tls      *tls.Config // for clients; nil: none
	registry *prometheus.Registry
	count    func(service, operation string, err error) // calls to the broker
	reads    *prometheus.CounterVec                     // of the active sets
	notices  *prometheus.CounterVec                     // to and from other allocators
}

// Run is the program: it parses the settings and runs an App until ctx ends.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer, openers backend.Openers) error {
	settings, log, err := Parse(args, stdout, stderr)
	if err != nil {
		return err
	}
	a, err := New(settings, openers, Options{Log: log}) //nolint:contextcheck // what it logs is of no request
	if err != nil {
		return err
	}
	return a.Run(ctx)
}

// New returns an App that has not begun anything.
func New(settings Settings, openers backend.Openers, opts Options) (*App, error) {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	a := &App{settings: settings, openers: openers, opts: opts, registry: daemon.NewRegistry()}
	a.count = daemon.NewAPICalls(a.registry)
	a.reads = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "cloudmaster_allocator_set_reads_total",
		Help: "Reads of the active sets, by outcome: updated, unchanged, missing, damaged, older, failed.",
	}, []string{"pool", "outcome"})
	a.notices = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "cloudmaster_allocator_notices_total",
		Help: "Notices to and from other allocators, by outcome: sent, failed, heard, ignored, damaged.",
	}, []string{"outcome"})
	a.registry.MustRegister(a.reads, a.notices)
	pools := make([]web.Pool, 0, len(settings.Pools))
	for _, p := range settings.Pools {
		set, err := allocate.New(p.Name, allocate.Options{ClientLoad: p.ClientLoad, Forget: settings.Forget})
		if err != nil {
			return nil, err
		}
		requests, err := request.New(a.link.opener(p.Queue), request.Options{
			Interval: settings.Request,
			Hints:    hint.New(&a.link, hint.Options{Work: p.Queue, Hints: p.Hints, Log: opts.Log}),
		})
		if err != nil {
			return nil, err
		}
		a.sets = append(a.sets, set)
		pools = append(pools, web.Pool{Set: set, Requests: requests, Queue: p.Queue})
	}
	return a, a.guard(pools)
}

// Run serves until ctx ends, and returns when everything that it started has ended. The end of ctx is no error.
func (a *App) Run(ctx context.Context) error {
	clients, ops, err := a.listen(ctx)
	if err != nil {
		return err
	}
	a.opts.Log.InfoContext(ctx, "allocator is listening", "address", clients.Addr().String(),
		"ops_address", a.settings.OpsListen, "tls", a.tls != nil, "tokens", a.settings.TokenFile != "",
		"peer_connections", a.settings.PeerConnections, "peer_requests", a.settings.PeerRequests,
		"version", daemon.Version(),
		"backend", backend.Redacted(a.settings.Backend), "pools", a.settings.Pools,
		"refresh_interval", a.settings.Refresh.String(), "request_interval", a.settings.Request.String())
	if a.opts.Listening != nil {
		a.opts.Listening(clients.Addr())
	}
	tasks := []func(context.Context) error{
		func(ctx context.Context) error { return daemon.ServeHTTP(ctx, clients, a.handler, a.opts.Log) },
		a.follow,
	}
	if ops != nil {
		if a.opts.Ops != nil {
			a.opts.Ops(ops.Addr())
		}
		tasks = append(tasks, func(ctx context.Context) error {
			return daemon.ServeHTTP(ctx, ops, a.handler.Ops(), a.opts.Log)
		})
	}
	return errors.Join(daemon.Group(ctx, tasks...), a.link.close())
}

// follow connects to the broker, for as long as it takes, and then keeps every pool's set fresh and exchanges notices
// with other allocators.
func (a *App) follow(ctx context.Context) error {
	b, err := backend.Open(ctx, a.settings.Backend, a.openers, backend.Options{
		Deployment: a.settings.Deployment, Client: Name, PolicyFile: policyFile, Log: a.opts.Log, Count: a.count,
	})
	switch {
	case ctx.Err() != nil:
		return closeIf(b, err)
	case err != nil:
		return err
	}
	a.link.set(b)
	store, err := a.openStore(ctx, b)
	if err != nil {
		return nil //nolint:nilerr // openStore fails only when ctx ends
	}
	tasks := make([]func(context.Context) error, 0, len(a.sets)+1)
	if board, ok := b.(backend.Notices); ok {
		tasks = append(tasks, a.exchange(board).Run)
	}
	for _, set := range a.sets {
		r, err := refresh.New(store, set, refresh.Options{
			Interval: a.settings.Refresh, Log: a.opts.Log,
			Observe: func(out refresh.Outcome) { a.reads.WithLabelValues(string(set.Name()), string(out)).Inc() },
		})
		if err != nil {
			return err
		}
		tasks = append(tasks, r.Run)
	}
	return daemon.Group(ctx, tasks...)
}

// exchange is where allocators tell each other what they assign, if the backend has notices.
func (a *App) exchange(board backend.Notices) *exchange.Exchange {
	pools := make([]exchange.Pool, 0, len(a.sets))
	for _, set := range a.sets {
		pools = append(pools, set)
	}
	return exchange.New(board, pools, exchange.Options{
		Log:     a.opts.Log,
		Observe: func(out exchange.Outcome) { a.notices.WithLabelValues(string(out)).Inc() },
	})
}

// closeIf closes a connection that was opened only when ctx had already ended. With an error there is none.
func closeIf(b backend.Backend, err error) error {
	if err != nil {
		return nil //nolint:nilerr // the stop came while we waited
	}
	return b.Close()
}

// openStore opens the store, again and again until ctx ends.
func (a *App) openStore(ctx context.Context, b backend.Backend) (blob.Store, error) {
	for attempt := 1; ; attempt++ {
		store, err := b.Blobs(ctx)
		if err == nil {
			return store, nil
		}
		if attempt == 1 && ctx.Err() == nil {
			a.opts.Log.WarnContext(ctx, "store of the active sets cannot be opened; trying again", "error", err)
		}
		if !backoff.Wait(ctx, storeRetry) {
			return nil, context.Cause(ctx)
		}
	}
}

// errNoBroker is why servers cannot be requested before the broker is there.
var errNoBroker = errors.New("the broker is not connected yet")

// link gives access to the backend, which is opened while requests are already answered.
type link struct {
	mu      sync.Mutex
	backend backend.Backend // guarded by mu; nil until set
}

func (l *link) set(b backend.Backend) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.backend = b
}

func (l *link) get() backend.Backend {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.backend
}

// Queue opens a queue of the backend.
func (l *link) Queue(ctx context.Context, name string) (queue.Queue, error) {
	b := l.get()
	if b == nil {
		return nil, errNoBroker
	}
	return b.Queue(ctx, name)
}

func (l *link) opener(queue string) request.OpenFunc {
	return func(ctx context.Context) (request.Sender, error) { return l.Queue(ctx, queue) }
}

func (l *link) close() error {
	b := l.get()
	if b == nil {
		return nil
	}
	return b.Close()
}
