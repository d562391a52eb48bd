package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"

	"cloudmaster/internal/bearer"
	"cloudmaster/internal/daemon"
	"cloudmaster/internal/peer"
	"cloudmaster/services/allocator/internal/web"
)

// guard makes the front with what guards it: tokens, TLS and bounds.
func (a *App) guard(pools []web.Pool) (err error) {
	set := &a.settings
	opts := web.Options{
		TrustedProxies: set.Proxies, Registry: a.registry, PeerRequests: set.PeerRequests, Log: a.opts.Log,
	}
	if set.TokenFile != "" {
		tokens, err := bearer.Open(set.TokenFile, a.opts.Log)
		if err != nil {
			return fmt.Errorf("token-file: %w", err)
		}
		opts.Tokens = tokens
	}
	if set.Certificate != "" {
		if a.tls, err = daemon.ServerTLS(set.Certificate, set.Key, a.opts.Log); err != nil {
			return fmt.Errorf("tls-certificate, tls-key: %w", err)
		}
	}
	if set.TokenFile != "" && a.tls == nil && !loopback(set.Listen) {
		a.opts.Log.Warn("clients' tokens cross the network in clear, and whoever hears one can use it: set "+
			"--tls-certificate and --tls-key, or listen on 127.0.0.1 behind a proxy with TLS", "listen", set.Listen)
	}
	a.handler, err = web.New(pools, opts)
	return err
}

// loopback reports whether an address to listen on can be reached from this machine only.
func loopback(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	return err == nil && (host == "localhost" || net.ParseIP(host).IsLoopback())
}

// listen takes both addresses; ops is nil if there is to be none.
func (a *App) listen(ctx context.Context) (clients, ops net.Listener, err error) {
	clients, err = new(net.ListenConfig).Listen(ctx, "tcp", a.settings.Listen)
	if err != nil {
		return nil, nil, listenError("listen", a.settings.Listen, err)
	}
	clients = peer.Limit(clients, a.settings.PeerConnections, a.proxy, a.handler.ConnectionRefused)
	if a.tls != nil {
		clients = tls.NewListener(clients, a.tls)
	}
	if a.settings.OpsListen == "" {
		return clients, nil, nil
	}
	ops, err = new(net.ListenConfig).Listen(ctx, "tcp", a.settings.OpsListen)
	if err != nil {
		return nil, nil, errors.Join(listenError("ops-listen", a.settings.OpsListen, err), clients.Close())
	}
	return clients, ops, nil
}

// proxy reports whether an address is one of the trusted proxies. Many clients share its connections.
func (a *App) proxy(address netip.Addr) bool {
	return slices.ContainsFunc(a.settings.Proxies, func(p netip.Prefix) bool { return p.Contains(address) })
}

// listenError says what to do if the port is taken.
func listenError(flag, address string, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s on %s: another program has this port; stop it or choose another with --%s: %w",
			flag, address, flag, err)
	}
	return fmt.Errorf("%s on %s: %w", flag, address, err)
}
