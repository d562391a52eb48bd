// Package app puts fib-server together: settings, the server for clients, the agent
// that tells the controller how many there are, and the operations endpoint.
//
// Clients are served whether or not a controller started this process, and whether or not the message broker is there.
// At a signal, or when the cloud takes its machine back, the server tells the controller that it drains. Allocators
// learn that some seconds later, so it takes the clients that they send meanwhile, and then no more. It serves those
// that it has until they leave or the drain timeout is over, and reports its load until then.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"cloudmaster/internal/agent"
	"cloudmaster/internal/backend"
	"cloudmaster/internal/daemon"
	"cloudmaster/internal/message"
	"cloudmaster/services/fib-server/internal/server"
)

// Name is the program's name.
const Name = "fib-server"

// policyFile has the rights that the program needs on AWS, for the advice in errors.
const policyFile = "deploy/aws/fib-server.json"

// Program is fib-server with what main decides.
type Program struct {
	Openers  backend.Openers // the message brokers it can speak to
	Metadata agent.Metadata  // what the cloud tells its machines; nil where there is none
}

// reporter tells the controller about this instance.
type reporter interface {
	Report(load float64, activity message.Activity)
	Drain()
	Say(text string)
	Run(ctx context.Context) error
}

// Run serves until ctx ends and the clients are gone.
func (p Program) Run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if _, err := parse(args, stdout, agent.UserData{}); errors.Is(err, daemon.ErrDone) {
		return err // help needs no identity; the second parse finds other errors in args again
	}
	me, unknown := agent.Identify(ctx, p.Metadata)
	if unknown != nil && !errors.Is(unknown, agent.ErrNoUserData) {
		return unknown
	}
	set, err := parse(args, stdout, me)
	if err != nil {
		return err
	}
	log := daemon.Logger(stderr, set.flags)
	l, err := server.Listen(ctx, set.listen)
	if err != nil {
		return fmt.Errorf("%w: free the address or choose another with --listen", err)
	}
	advertised := advertise(set.advertise, me.Host, l.Addr())
	log.InfoContext(ctx, "serving clients", append([]any{
		"address", l.Addr().String(), "advertised", advertised, "version", daemon.Version(),
	}, set.attrs()...)...)

	registry := daemon.NewRegistry()
	var tell reporter = nobody{}
	if unknown == nil {
		log = log.With("pool", string(me.Pool), "instance_id", string(me.InstanceID))
		status := newStatusQueue(p.Openers, me, log, daemon.NewAPICalls(registry))
		defer status.close(ctx)
		tell = agent.New(status, me.InstanceID, agent.Options{
			Interval: set.statusInterval, Address: advertised, Log: log,
		})
	} else {
		set.lateClients = 0 // no allocator sends clients here
		log.InfoContext(ctx, "nobody is told about load: this process was not started by a controller",
			"reason", unknown)
	}
	ctx, done := agent.UntilInterrupted(ctx, p.Metadata, log)
	defer done()
	return run(ctx, set, l, tell, registry, log)
}

// run serves clients until the last is gone. Until then it reports the load and serves health and metrics.
func run(
	ctx context.Context, set settings, l net.Listener, tell reporter, registry *prometheus.Registry, log *slog.Logger,
) error {
	srv, err := newServer(set, tell, registry, log)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	tell.Report(0, message.Idle)
	beside, done := context.WithCancel(context.WithoutCancel(ctx))
	defer done()
	drain := sync.OnceFunc(func() {
		if n := srv.Clients(); n > 0 {
			tell.Say(fmt.Sprintf("Draining: %d clients connected", n))
		}
		tell.Drain()
	})
	defer context.AfterFunc(ctx, drain)()
	return daemon.Group(ctx,
		func(ctx context.Context) error {
			defer done()
			err := srv.Serve(ctx, l)
			drain() // if it has no clients it ends before anybody else has said so
			return err
		},
		func(context.Context) error { return tell.Run(beside) }, // goes on during the drain
		func(context.Context) error {
			return daemon.ServeOps(beside, set.opsListen, daemon.Ops{
				Registry: registry, Log: log,
				Ready: func() error {
					if ctx.Err() != nil {
						return errors.New("draining: no new clients are taken")
					}
					return nil
				},
				Listening: func(a net.Addr) {
					log.InfoContext(ctx, "serving health and metrics", "address", a.String())
				},
			})
		})
}

func newServer(set settings, tell reporter, registry *prometheus.Registry, log *slog.Logger) (*server.Server, error) {
	return server.New(server.Options{
		ConnectionLimit: set.connectionLimit, IdleTimeout: set.idleTimeout,
		WriteTimeout: set.writeTimeout, DrainTimeout: set.drainTimeout, LateClients: set.lateClients,
		PeerConnections: set.peerConnections, PeerNumbers: set.peerNumbers, PeerBytes: set.peerBytes,
		Changed: func(clients int) {
			activity := message.Idle
			if clients > 0 {
				activity = message.Busy
			}
			tell.Report(float64(clients)/float64(set.maxClients), activity)
		},
		Registerer: registry, Log: log,
	})
}

// nobody is the reporter of a server that no controller has started. It drops what it is told.
type nobody struct{}

func (nobody) Report(float64, message.Activity) {}
func (nobody) Drain()                           {}
func (nobody) Say(string)                       {}
func (nobody) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}
