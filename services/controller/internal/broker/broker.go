// Package broker runs the NATS server with JetStream inside the controller. It is the default backend,
// because it needs no installation.
//
// # What it keeps
//
// Queues and objects are files under the store directory and survive restarts. A message that the broker has
// confirmed has been written to a file, so the death of the process loses nothing, also by SIGKILL. The files
// are forced to disk every SyncInterval, so a power failure or a crash of the machine may lose what was
// confirmed within that time. If that is not acceptable, run a cluster of brokers elsewhere and name it as
// the backend.
//
// Only one process at a time may use a store directory. A lock, which ends with the process, makes sure of
// that.
//
// # Who may do what
//
// By default everybody who reaches the broker may do everything, and only this machine does. With Options.Logins
// programs must log in: the controller may do everything, a worker may receive from its pool's work queue and send to
// its pool's status queue (under its own instance id, if the login is of one instance), and a client may send to a
// pool's work queue and read the deployment's store. Beyond loopback the broker listens only with logins and TLS.
// Logins are made from one secret, in the directory "access" of the store.
package broker

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"cloudmaster/internal/backend/natsbackend"
	"cloudmaster/internal/dirlock"
)

const (
	// SyncInterval is how often files are forced to disk.
	SyncInterval = 2 * time.Second
	// MaxPayload is the largest message, in bytes. blob.MaxSize fits into it.
	MaxPayload = 1 << 20

	defaultListen = "127.0.0.1:4222"
	startTimeout  = 30 * time.Second // it takes time to open a large store
	stopTimeout   = 5 * time.Second
	namePrefix    = "cloudmaster-controller-" // begins the server's name; the process id follows
)

// Options say where the broker listens and keeps its files. StoreDir is required.
type Options struct {
	Listen   string // host:port; "" means 127.0.0.1:4222, port 0 a free one
	StoreDir string // is created if it is missing
	Logins   bool   // programs must log in
	TLS      TLS
	Log      *slog.Logger // nil discards
	// Refused is called for each client that is refused, with the reason: login, silent, waiting, forbidden or deaf. It
	// may be nil.
	Refused func(reason string)

	near func(net.Conn) bool // whether a connection comes from this machine; nil: isNear
	wait timeouts
}

// Broker is a running server.
type Broker struct {
	srv  *server.Server
	gate *gate   // nil: the server itself takes connections
	let  *access // nil: everybody may connect
	came *visitors
	ca   string // the file with the authority that clients must trust; empty: none, or one that is not ours
	lock *os.File
	log  *slog.Logger
	sick chan string // gets the reason when the store cannot be written; its capacity is 1
}

// Start starts the server and returns when it takes connections, or when ctx ends.
func Start(ctx context.Context, o Options) (*Broker, error) {
	o.Listen = cmp.Or(o.Listen, defaultListen)
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	opts, err := serverOptions(o)
	if err != nil {
		return nil, err
	}
	lock, err := dirlock.Take(o.StoreDir)
	if err != nil {
		return nil, fmt.Errorf("broker: store_dir: %w", err)
	}
	b := &Broker{lock: lock, log: o.Log, sick: make(chan string, 1), came: newVisitors(&o)}
	if err := b.start(ctx, &o, opts); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	b.log.InfoContext(ctx, "broker listens", "url", b.URL(), "store_dir", o.StoreDir)
	return b, nil
}

func serverOptions(o Options) (*server.Options, error) {
	if o.StoreDir == "" {
		return nil, errors.New("broker: the store directory is not set; name one in store_dir")
	}
	host, port, err := hostPort(o.Listen)
	if err == nil {
		err = errors.Join(o.TLS.check(), guarded(o.Listen, o.Logins, o.TLS.on()))
	}
	if err != nil {
		return nil, fmt.Errorf("broker: %w", err)
	}
	opts := &server.Options{
		ServerName:             namePrefix + strconv.Itoa(os.Getpid()),
		Host:                   host,
		Port:                   port,
		NoSigs:                 true, // the controller handles signals
		MaxPayload:             MaxPayload,
		JetStream:              true,
		StoreDir:               o.StoreDir,
		SyncInterval:           SyncInterval,
		DisableJetStreamBanner: true,
	}
	if port == 0 {
		opts.Port = server.RANDOM_PORT
	}
	return opts, nil
}

// guard prepares logins and TLS. It returns how to speak TLS; nil if that is not wanted.
func (b *Broker) guard(o *Options, opts *server.Options) (conf *tls.Config, err error) {
	if !o.Logins && !o.TLS.on() {
		return nil, nil //nolint:nilnil // see above
	}
	let, err := openAccess(o.StoreDir)
	if err != nil {
		return nil, fmt.Errorf("broker: %w", err)
	}
	if o.TLS.on() {
		if conf, b.ca, err = o.TLS.config(let, opts.Host); err != nil {
			return nil, fmt.Errorf("broker: %w", err)
		}
	}
	if o.Logins {
		b.let = let
		opts.CustomClientAuthentication = &doorman{access: let, visitors: b.came, log: o.Log}
	}
	opts.DontListen, opts.AuthTimeout = true, cmp.Or(o.wait.login, loginTimeout).Seconds()
	return conf, nil
}

func (b *Broker) start(ctx context.Context, o *Options, opts *server.Options) error {
	// The server itself would only log that it cannot listen.
	if err := probe(ctx, o.Listen); err != nil {
		return err
	}
	conf, err := b.guard(o, opts)
	if err != nil {
		return err
	}
	srv, err := server.NewServer(opts)
	if err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	logger := &serverLog{log: b.log, fatal: make(chan string, 1), sick: b.sick}
	srv.SetLoggerV2(logger, b.log.Enabled(ctx, slog.LevelDebug), false, false)
	b.srv = srv
	srv.Start()
	if err := b.await(ctx, logger.fatal); err != nil || !opts.DontListen {
		return err
	}
	b.gate, err = openGate(ctx, o, srv, conf, b.came)
	return err
}

// await waits until the server takes connections.
func (b *Broker) await(ctx context.Context, fatal <-chan string) error {
	const look = 50 * time.Millisecond
	for deadline := time.Now().Add(startTimeout); time.Now().Before(deadline); {
		ready := b.srv.ReadyForConnections(look)
		select {
		case reason := <-fatal:
			return fmt.Errorf("broker: start: %s", reason)
		case <-ctx.Done():
			return fmt.Errorf("broker: start: %w", context.Cause(ctx))
		default:
		}
		if ready {
			return nil
		}
	}
	return fmt.Errorf("broker: not ready after %v; its warnings in the log say why", startTimeout)
}

// URL returns the address for clients on this machine, nats://host:port, which need no TLS. A login is not in it.
func (b *Broker) URL() string {
	if b.gate == nil {
		return b.srv.ClientURL()
	}
	return "nats://" + local(b.gate.listener.Addr().String())
}

// Own returns the address with the controller's own login.
func (b *Broker) Own() string {
	if b.let == nil {
		return b.URL()
	}
	return natsbackend.WithLogin(b.URL(), b.let.path(controllerFile))
}

// ErrStore means that the store can no longer be written. The server does not recover from that by itself: a
// stream that met it once takes no messages any more, also when there is room again. The program should end
// and be started anew.
var ErrStore = errors.New("the broker's store cannot be written")

// Run watches the server until ctx ends, and returns ErrStore if its store fails.
// It does not close the broker.
func (b *Broker) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case reason := <-b.sick:
		return fmt.Errorf("%w: %s; make room, then start the controller again: instances run on until then", ErrStore,
			reason)
	}
}

// settle waits until no request is being served. A stream that is created while the server shuts down would be left
// open: nobody would close its files.
func (b *Broker) settle() {
	const look, atMost = 5 * time.Millisecond, 2 * time.Second
	ticks := time.NewTicker(look)
	defer ticks.Stop()
	for deadline := time.Now().Add(atMost); time.Now().Before(deadline); <-ticks.C {
		if state, err := b.srv.Jsz(nil); err != nil || state.API.Inflight == 0 {
			return
		}
	}
}

// Close stops the server, writes what it still has in memory, and unlocks the store directory. Calling it twice is
// fine. It takes at most about 5 s. The server closes its queues one after the other, and needs 10 ms or more for each,
// so that with many queues some are still open after that time. They are then left as the death of the process would
// leave them, which loses nothing; their store stays locked until the process ends.
func (b *Broker) Close() error {
	if b.gate != nil {
		if err := b.gate.close(); err != nil && !errors.Is(err, net.ErrClosed) {
			b.log.Debug("close the broker's listener", "error", err)
		}
	}
	if b.srv != nil {
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			b.settle()
			b.srv.Shutdown()
			b.srv.WaitForShutdown()
		}()
		timer := time.NewTimer(stopTimeout)
		defer timer.Stop()
		select {
		case <-stopped:
		case <-timer.C:
			b.log.Info("the broker has not closed all queues; the next start finds them as after a kill",
				"time", stopTimeout.String())
			return nil
		}
	}
	if err := b.lock.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("broker: unlock the store: %w", err)
	}
	return nil
}
