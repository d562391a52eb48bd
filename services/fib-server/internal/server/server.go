// Package server serves the fib protocol over TCP: each line that a client ends with
// '\n' is answered with the next Fibonacci number in decimal and '\n'. Every
// connection has its own sequence. A '\r' before the '\n' is dropped, the line
// "quit" closes the connection, and all other lines mean the same.
//
// # What a client cannot do
//
// Clients are not trusted, so what each can cost the others is bounded:
//
//   - a line over MaxLine bytes is answered "error: line too long" and the connection closed;
//   - a client over the connection limit is answered "error: server full" and closed;
//   - one that has more connections, or takes more numbers or bytes in a minute, than the bounds for each peer allow is
//     told so and closed. Numbers grow, so a client gets far more bytes than it sends. For what a peer is see package
//     peer;
//   - one that ends no line for the idle timeout is closed, even if it sends bytes;
//   - one that does not take its answers within the write timeout is closed;
//   - an idle connection takes a few KiB: a goroutine, a small read buffer and the two
//     numbers of its sequence. Buffers for answers are shared, and used only while answers are written.
//
// Answers to lines that arrive together are sent together. The work for a line is in proportion to the digits of its
// answer.
package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"cloudmaster/internal/peer"
	"cloudmaster/services/fib-server/internal/fib"
)

// Defaults of Options.
const (
	DefaultConnectionLimit = 1000
	DefaultIdleTimeout     = 10 * time.Minute
	DefaultWriteTimeout    = 30 * time.Second
	// DefaultDrainTimeout leaves time for the agent's last messages before the cloud kills the process, 30 s after
	// the stop signal.
	DefaultDrainTimeout = 20 * time.Second
	// DefaultLateClients is longer than it takes until allocators have read an active set without the server.
	DefaultLateClients = 5 * time.Second
	// What each peer may have. 10,000 numbers in one connection are 10 MB; behind one address there may be many people.
	DefaultPeerConnections = 100
	DefaultPeerNumbers     = 60_000   // in a minute
	DefaultPeerBytes       = 64 << 20 // in a minute
)

// Options of a Server; the zero value works.
type Options struct {
	ConnectionLimit int           // clients served at the same time
	IdleTimeout     time.Duration // a client that ends no line for this long is closed
	WriteTimeout    time.Duration // a client that takes no answers for this long is closed
	DrainTimeout    time.Duration // how long clients are served after Serve's context ended
	// LateClients is how long new clients are taken after Serve's context ended, because allocators send some until
	// they know. It must not be longer than DrainTimeout. 0: none are taken.
	LateClients time.Duration

	// What each peer may have; 0 means that there is no bound. The last flush may lead past PeerNumbers and PeerBytes,
	// and takes that from the time after it.
	PeerConnections int // at the same time
	PeerNumbers     int // in a minute
	PeerBytes       int // of answers, in a minute

	// Changed is called with the number of clients whenever it has changed, in the order of
	// the changes. It must return at once and not call the server. May be nil.
	Changed func(clients int)

	Registerer prometheus.Registerer // of the server's metrics; nil: they are in no registry
	Log        *slog.Logger          // nil discards
}

func (o Options) validate() error {
	var errs []error
	if o.ConnectionLimit < 0 {
		errs = append(errs, fmt.Errorf("connection limit must be at least 1, not %d", o.ConnectionLimit))
	}
	for _, n := range []struct {
		name  string
		value int
	}{
		{"connections of a peer", o.PeerConnections},
		{"numbers for a peer", o.PeerNumbers},
		{"bytes for a peer", o.PeerBytes},
	} {
		if n.value < 0 {
			errs = append(errs, fmt.Errorf("%s must not be negative: %d", n.name, n.value))
		}
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"idle timeout", o.IdleTimeout},
		{"write timeout", o.WriteTimeout},
		{"drain timeout", o.DrainTimeout},
		{"time for late clients", o.LateClients},
	} {
		if d.value < 0 {
			errs = append(errs, fmt.Errorf("%s must not be negative: %s", d.name, d.value))
		}
	}
	if drain := cmp.Or(o.DrainTimeout, DefaultDrainTimeout); o.LateClients > drain {
		errs = append(errs, fmt.Errorf("time for late clients must not be longer than the drain timeout (%s): %s",
			drain, o.LateClients))
	}
	return errors.Join(errs...)
}

// Server serves clients. Its methods may be called concurrently.
type Server struct {
	opts    Options
	metrics *metrics
	table   *fib.Table
	buffers buffers
	refusal chan struct{} // a token per refusal under way

	peers          *peer.AtOnce // connections
	numbers, taken *peer.Rate   // numbers and bytes

	mu      sync.Mutex
	clients int // guarded by mu
}

// New returns a server that waits for Serve or ServeConn.
func New(opts Options) (*Server, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	opts.ConnectionLimit = cmp.Or(opts.ConnectionLimit, DefaultConnectionLimit)
	opts.IdleTimeout = cmp.Or(opts.IdleTimeout, DefaultIdleTimeout)
	opts.WriteTimeout = cmp.Or(opts.WriteTimeout, DefaultWriteTimeout)
	opts.DrainTimeout = cmp.Or(opts.DrainTimeout, DefaultDrainTimeout)
	if opts.Changed == nil {
		opts.Changed = func(int) {}
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	return &Server{
		opts: opts, metrics: newMetrics(opts.Registerer), table: fib.NewTable(tableSize),
		refusal: make(chan struct{}, maxRefusals),
		peers:   peer.NewAtOnce(opts.PeerConnections),
		numbers: peer.NewRate(opts.PeerNumbers), taken: peer.NewRate(opts.PeerBytes),
	}, nil
}

// Clients returns how many clients are connected.
func (s *Server) Clients() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.clients
}

// Serve takes clients from the listener until ctx has ended and the time for late clients is over. It serves those that
// are connected until the drain timeout, which counts from the end of ctx, and closes those that are left. It returns
// when the last is gone: nil, or the error of a listener that was closed by somebody else.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	serving, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	var wg sync.WaitGroup
	err := s.acceptLate(ctx, l, func(conn net.Conn) {
		wg.Go(func() { s.ServeConn(serving, conn) })
	})
	gone := make(chan struct{})
	go func() {
		wg.Wait()
		close(gone)
	}()
	s.drain(ctx, gone, cut)
	return err
}

// drain waits until all clients are gone. When what is left of the drain timeout is over it closes the connections that
// are left.
func (s *Server) drain(ctx context.Context, gone <-chan struct{}, cut context.CancelFunc) {
	if n := s.Clients(); n > 0 {
		s.opts.Log.InfoContext(ctx, "serving the connected clients, taking no more",
			"clients", n, "drain_timeout", s.opts.DrainTimeout)
	}
	over := time.NewTimer(s.opts.DrainTimeout - s.opts.LateClients)
	defer over.Stop()
	select {
	case <-gone:
		return
	case <-over.C:
	}
	s.opts.Log.WarnContext(ctx, "drain timeout is over, closing the remaining clients", "clients", s.Clients())
	cut()
	<-gone
}

// enter admits one more client. It returns nil, or why there is no room for it.
func (s *Server) enter(k peer.Key) *refusal {
	if !s.peers.Enter(k) {
		return errConnections
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.clients >= s.opts.ConnectionLimit {
		s.peers.Leave(k)
		return errFull
	}
	s.changeLocked(+1)
	return nil
}

func (s *Server) leave(k peer.Key) {
	s.peers.Leave(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changeLocked(-1)
}

// spend takes what is about to be written from what the peer may have. It returns nil, or what the peer has had too
// much of.
func (s *Server) spend(k peer.Key, numbers, bytes int) *refusal {
	now := time.Now()
	switch {
	case !s.numbers.Take(k, numbers, now):
		return errNumbers
	case !s.taken.Take(k, bytes, now):
		return errBytes
	}
	return nil
}

// changeLocked changes the number of clients. It calls Options.Changed under the lock, so that the calls are in the
// order of the changes.
func (s *Server) changeLocked(by int) {
	s.clients += by
	s.metrics.clients.Set(float64(s.clients))
	s.opts.Changed(s.clients)
}
