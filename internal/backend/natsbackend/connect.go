package natsbackend

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"cloudmaster/internal/backend"
	"cloudmaster/internal/backoff"
	"cloudmaster/internal/queue"
	"cloudmaster/internal/queue/natsqueue"
)

// connect tries until it is connected to a broker whose JetStream answers, or ctx ends.
// It logs once that it waits, and once that waiting is over.
func connect(
	ctx context.Context, t target, with access, opts backend.Options,
) (*nats.Conn, jetstream.JetStream, error) {
	for try := 1; ; try++ {
		nc, js, err := dial(ctx, t, with, opts)
		switch {
		case err == nil && try > 1:
			opts.Log.InfoContext(ctx, "the broker is there", "broker", t.String())
			fallthrough
		case err == nil:
			t.warn(ctx, nc, opts.Log)
			return nc, js, nil
		case hopeless(err):
			return nil, nil, fmt.Errorf("%w: %w; %s", queue.ErrDenied, err, t.advice(err))
		case try == 1:
			opts.Log.WarnContext(ctx, "waiting for the broker", "broker", t.String(), "error", err)
		}
		if !backoff.Wait(ctx, untilTry(try)) {
			return nil, nil, fmt.Errorf("wait for the broker: %w; last: %w", context.Cause(ctx), err)
		}
	}
}

// hopeless reports whether waiting cannot help.
func hopeless(err error) bool {
	return errors.Is(err, nats.ErrAuthorization) || errors.Is(err, nats.ErrAuthExpired) ||
		errors.Is(err, nats.ErrSecureConnWanted) || untrusted(err)
}

// untrusted reports whether the server's certificate is refused, or ours.
func untrusted(err error) bool {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	alert, ok := errors.AsType[*net.OpError](err)
	return ok && alert.Op == "remote error" // what crypto/tls calls the other side's word
}

// advice returns what to do about an error that waiting does not help against.
func (t target) advice(err error) string {
	switch {
	case errors.Is(err, nats.ErrSecureConnWanted):
		return "the broker speaks no TLS: set it up there, or take the options tls, ca and cert out of the address"
	case untrusted(err):
		return "name the authority of the broker's certificate in the address, as in ?ca=FILE, and a certificate of " +
			"ours with cert and key if the broker wants one"
	case t.credentials != "":
		return "the broker does not know the login in the file of the option credentials: renew the file"
	}
	return "the broker wants another login: name a file with one in the address, as in ?credentials=FILE"
}

// warn says that a password has crossed a network unprotected.
func (t target) warn(ctx context.Context, nc *nats.Conn, log *slog.Logger) {
	if _, err := nc.TLSConnectionState(); err == nil || nc.Opts.Password == "" {
		return
	}
	host, _, err := net.SplitHostPort(nc.ConnectedAddr())
	if ip := net.ParseIP(host); err != nil || ip.IsLoopback() {
		return
	}
	log.WarnContext(ctx, "the password for the broker has crossed the network in clear; set up TLS at the broker and "+
		"add tls=true or ca=FILE to its address", "broker", t.String())
}

// dial makes one try.
func dial(ctx context.Context, t target, with access, opts backend.Options) (*nats.Conn, jetstream.JetStream, error) {
	nc, err := t.options(with, opts).Connect()
	if err != nil {
		return nil, nil, err
	}
	js, err := natsqueue.JetStream(nc)
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		_, err = js.AccountInfo(ctx)
	}
	if err != nil {
		nc.Close()
		return nil, nil, fmt.Errorf("ask for JetStream: %w", err)
	}
	return nc, js, nil
}

// options is how we connect and stay connected.
func (t target) options(with access, opts backend.Options) *nats.Options {
	o := nats.GetDefaultOptions()
	o.Servers = t.servers
	with.apply(&o)
	o.Name = opts.Client
	o.Timeout = dialTimeout
	o.PingInterval, o.MaxPingsOut = pingInterval, pingsLost
	o.MaxReconnect = -1
	o.IgnoreAuthErrorAbort = true // a broker that restarts may not know its users yet
	o.ReconnectBufSize = -1       // a message that cannot be sent is an error at once
	o.CustomReconnectDelayCB = untilTry
	o.DisconnectedErrCB = func(_ *nats.Conn, err error) {
		if err != nil { // nil: we closed it
			opts.Log.Warn("lost the broker, reconnecting", "broker", t.String(), "error", err)
		}
	}
	o.ReconnectedCB = func(nc *nats.Conn) {
		opts.Log.Info("reconnected to the broker", "broker", nc.ConnectedAddr())
	}
	o.AsyncErrorCB = func(_ *nats.Conn, sub *nats.Subscription, err error) {
		if _, ok := errors.AsType[net.Error](err); ok {
			opts.Log.Debug("network error", "error", err) // part of losing the connection, which is logged above
			return
		}
		opts.Log.Error("the broker reports an error", "subject", subject(sub), "error", err)
	}
	return &o
}

func subject(sub *nats.Subscription) string {
	if sub == nil {
		return ""
	}
	return sub.Subject
}
