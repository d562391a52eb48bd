package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"cloudmaster/internal/backoff"
)

// Dead peers are found by keep-alive probes within about a minute and a half.
const (
	keepAliveIdle     = 30 * time.Second
	keepAliveInterval = 15 * time.Second
	keepAliveCount    = 4
)

// After an error of Accept, usually for want of a free file descriptor, the server waits before it tries again. It logs
// such errors at most every acceptLogEvery.
const (
	minAcceptPause = 5 * time.Millisecond
	maxAcceptPause = time.Second
	acceptLogEvery = time.Minute
)

// Listen opens the address for clients, with TCP keep-alive.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	config := net.ListenConfig{KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: keepAliveIdle, Interval: keepAliveInterval, Count: keepAliveCount,
	}}
	l, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for clients: %w", err)
	}
	return l, nil
}

// acceptLate is accept until the time for late clients after the end of ctx is over.
func (s *Server) acceptLate(ctx context.Context, l net.Listener, serve func(net.Conn)) error {
	if s.opts.LateClients == 0 {
		return s.accept(ctx, l, serve)
	}
	late, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	defer context.AfterFunc(ctx, func() {
		s.opts.Log.InfoContext(ctx, "taking clients a little longer, until allocators know", "for", s.opts.LateClients)
		backoff.Wait(late, s.opts.LateClients)
		end()
	})()
	return s.accept(late, l, serve)
}

// accept hands new connections to serve until ctx ends, and closes the listener.
func (s *Server) accept(ctx context.Context, l net.Listener, serve func(net.Conn)) error {
	closeListener := func() { _ = l.Close() } // the only possible error is that it is closed already
	defer closeListener()
	defer context.AfterFunc(ctx, closeListener)()
	pause, logged := minAcceptPause, time.Time{}
	for {
		conn, err := l.Accept()
		switch {
		case err == nil:
			pause = minAcceptPause
			serve(conn)
			continue
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept clients: %w", err)
		}
		if now := time.Now(); now.Sub(logged) >= acceptLogEvery {
			logged = now
			s.opts.Log.ErrorContext(ctx, "cannot accept clients for now, trying again", "error", err)
		}
		if !backoff.Wait(ctx, pause) {
			return nil
		}
		pause = min(2*pause, maxAcceptPause)
	}
}
