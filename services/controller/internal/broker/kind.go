package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"time"

	"cloudmaster/internal/backend"
	"cloudmaster/internal/backend/natsbackend"
	"cloudmaster/internal/kind"
	"cloudmaster/internal/queue"
)

// Embedded is the address of the backend that the controller runs itself.
const Embedded = "embedded"

// Slack is how much longer than its visibility timeout a message stays in flight. The broker ends and starts with the
// controller; what workers hold meanwhile, and cannot extend, must not be given to others.
const Slack = 3 * time.Second

// Settings are the keys of the embedded backend.
type Settings struct {
	Listen   string `key:"listen"    help:"HOST:PORT for clients; port 0 takes a free one"`
	StoreDir string `key:"store_dir" help:"directory of its queues and objects"`

	Logins      bool     `key:"logins"          help:"programs must log in; STORE_DIR/access has the logins"`
	Certificate string   `key:"tls_certificate" help:"file with its TLS certificate, or generated; empty: no TLS"`
	Key         string   `key:"tls_key"         help:"file with the private key of tls_certificate"`
	ClientCA    string   `key:"tls_client_ca"   help:"file; clients must show a certificate signed by one of these"`
	Names       []string `key:"tls_names"       help:"further host names and addresses for a generated certificate"`
}

// Validate implements kind.Settings.
func (s *Settings) Validate() error {
	var errs []error
	if _, _, err := hostPort(s.Listen); err != nil {
		errs = append(errs, fmt.Errorf("listen: %q is not HOST:PORT", s.Listen))
	} else if err := guarded(s.Listen, s.Logins, s.Certificate != ""); err != nil {
		errs = append(errs, err)
	}
	security := s.security()
	errs = append(errs, security.check())
	if s.StoreDir == "" {
		errs = append(errs, errors.New("store_dir: is empty: name a directory"))
	}
	return errors.Join(errs...)
}

func (s *Settings) security() TLS {
	return TLS{Certificate: s.Certificate, Key: s.Key, ClientCA: s.ClientCA, Names: s.Names}
}

// guarded refuses to listen where other machines could reach a broker that lets everybody in, or that passwords reach
// in clear.
func guarded(listen string, logins, secured bool) error {
	host, _, err := hostPort(listen)
	if err != nil {
		return err
	}
	if ip := net.ParseIP(host); host == "localhost" || ip.IsLoopback() || logins && secured {
		return nil
	}
	return fmt.Errorf("listen: %s can be reached from other machines, and who reaches the broker could stop every "+
		"instance: set logins: true and tls_certificate: generated, or listen on 127.0.0.1", listen)
}

// local replaces the host of an address to listen on by one at which programs of this machine reach it.
func local(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if ip := net.ParseIP(host); host == "" || ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// hostPort splits an address to listen on.
func hostPort(listen string) (host string, port int, err error) {
	host, name, err := net.SplitHostPort(listen)
	if err != nil {
		return "", 0, fmt.Errorf("listen address %q: %w; write HOST:PORT", listen, err)
	}
	n, err := strconv.ParseUint(name, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("listen address %q: port %q is not a number from 0 to 65535", listen, name)
	}
	return host, int(n), nil
}

var errRemote = errors.New("instances on other machines cannot reach the embedded broker: " +
	"use another backend, such as aws://REGION, or set worker_backend to an address at which they can reach it")

// Kind describes the embedded backend to the configuration.
func Kind() backend.Kind {
	return backend.Kind{
		Name: Embedded, Help: "a broker inside the controller, which needs no installation",
		Section:  "broker",
		Settings: func() kind.Settings { return &Settings{Listen: defaultListen, StoreDir: "var/jetstream"} },
		LeaseTTL: 15 * time.Second, Watches: true,
		CheckRemote: func(string) error { return errRemote },
		Client:      client, Open: openKind,
	}
}

// client returns where programs on this machine reach the broker of a controller with these settings.
func client(_ string, s kind.Settings) (string, error) {
	set, ok := s.(*Settings)
	if !ok {
		return "", fmt.Errorf("the %s backend has no settings of type %T", Embedded, s)
	}
	host, port, err := hostPort(set.Listen)
	switch {
	case err != nil:
		return "", fmt.Errorf("broker: %w", err)
	case port == 0:
		return "", errors.New("broker: listen has port 0, which is another one at each start: name a port")
	}
	address := "nats://" + local(net.JoinHostPort(host, strconv.Itoa(port)))
	if !set.Logins {
		return address, nil
	}
	login, err := filepath.Abs(filepath.Join(set.StoreDir, accessDir, controllerFile))
	if err != nil {
		return "", fmt.Errorf("broker: store_dir: %w", err)
	}
	return natsbackend.WithLogin(address, login), nil
}

// openKind starts a broker and connects to it.
func openKind(ctx context.Context, _ string, s kind.Settings, opts backend.Options) (backend.Opened, error) {
	set, ok := s.(*Settings)
	if !ok {
		return backend.Opened{}, fmt.Errorf("the %s backend has no settings of type %T", Embedded, s)
	}
	b, err := Start(ctx, Options{
		Listen: set.Listen, StoreDir: set.StoreDir, Logins: set.Logins, TLS: set.security(), Log: opts.Log,
		Refused: opts.Refused,
	})
	if err != nil {
		return backend.Opened{}, err
	}
	// Who may make streams could make one that copies all others, so with logins only the controller does.
	openers := backend.Openers{"nats": natsbackend.Own(Slack, !set.Logins)}
	client, err := backend.Open(ctx, b.Own(), openers, opts)
	if err != nil {
		return backend.Opened{}, errors.Join(err, b.Close())
	}
	ager, ok := client.(queue.Ager)
	if !ok {
		return backend.Opened{}, errors.Join(errors.New("the broker's client knows no ages"), client.Close(), b.Close())
	}
	out := backend.Opened{Backend: own{client, ager, b}, Address: b.URL(), Run: b.Run}
	if b.let != nil {
		out.Logins = &logins{access: b.let, deployment: opts.Deployment, address: b.URL(), ca: b.ca}
	}
	return out, nil
}

// own is a connection to an embedded broker. Closing it closes the broker, too.
type own struct {
	backend.Backend
	queue.Ager

	broker *Broker
}

// Close ends the connection, then the broker.
func (o own) Close() error { return errors.Join(o.Backend.Close(), o.broker.Close()) }
