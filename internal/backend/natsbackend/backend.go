// Package natsbackend is the backend on NATS JetStream: queues are natsqueue's, the
// store is natsblob's, all on one connection.
//
// # Address
//
//	nats://[user:password@]host[:port][,host[:port]…][?option=value[&option=value…]]
//
// The port defaults to 4222. Several hosts are the nodes of one cluster. The options are:
//
//   - replicas: how many nodes keep each queue and the store. Without it a new queue or store is kept by one node, and
//     existing ones stay as they are.
//   - credentials: a file to log in with. It is a credentials file of NATS (a JWT and its seed), an nkey seed, or the
//     two lines "user: NAME" and "password: TEXT", which may be followed by "sender: NAME".
//   - tls=true: connect only with TLS, and only to a server whose certificate the system trusts.
//   - ca: a file with the certificates of the authorities that are trusted instead of the system's; implies tls.
//   - cert and key: files with the certificate that we show the server, and its private key; imply tls.
//
// The name of a file may begin with a variable of the environment, as in $CREDENTIALS_DIRECTORY/nats, so that one
// address serves programs that get their files in different places.
//
// # Logins
//
// A program may listen only to subjects that begin with Inbox of its user, or with _INBOX of its nkey. The line
// "sender" says who the login belongs to: then everything is sent on subjects that end in this name, so that a broker
// that allows each login only its own name vouches for it. natsqueue.Options.Sender says more.
//
// # Outages
//
// Open waits for the broker. A connection that is lost later is made again, however long that takes. Nothing is
// buffered meanwhile: calls wait for a bounded time and then fail, so that callers know which messages the
// broker has not confirmed.
package natsbackend

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"cloudmaster/internal/backend"
	"cloudmaster/internal/backoff"
	"cloudmaster/internal/blob"
	"cloudmaster/internal/blob/natsblob"
	"cloudmaster/internal/queue"
	"cloudmaster/internal/queue/natsqueue"
)

var (
	_ backend.Backend = (*Backend)(nil)
	_ backend.Opener  = Open
	_ queue.Ager      = (*Backend)(nil)
)

const (
	service      = "nats" // in calls of backend.Options.Count
	dialTimeout  = 2 * time.Second
	flushTimeout = 2 * time.Second
	// A dead peer is noticed after about pingInterval times pingsLost.
	pingInterval = 5 * time.Second
	pingsLost    = 2
)

// Backend is one connection. Make it with Open.
type Backend struct {
	nc       *nats.Conn
	js       jetstream.JetStream
	replicas int
	queues   natsqueue.Options // of those that it makes
	opts     backend.Options
	close    func() error
}

// Open connects to the broker at address, waiting until there is one or ctx ends.
func Open(ctx context.Context, address *url.URL, opts backend.Options) (backend.Backend, error) {
	return open(ctx, address, opts, natsqueue.Options{})
}

// Own opens like Open, at a broker that lives and dies with this program. The queues that the backend makes hold
// deliveries longer than their visibility timeout says, by the slack. With lateLetters they get dead letters late, for
// which all programs must be allowed to make streams. natsqueue.Options says more about both.
func Own(slack time.Duration, lateLetters bool) backend.Opener {
	return func(ctx context.Context, address *url.URL, opts backend.Options) (backend.Backend, error) {
		return open(ctx, address, opts, natsqueue.Options{Slack: slack, LateLetters: lateLetters})
	}
}

func open(
	ctx context.Context, address *url.URL, opts backend.Options, queues natsqueue.Options,
) (backend.Backend, error) {
	opts.Log = cmp.Or(opts.Log, slog.New(slog.DiscardHandler))
	target, err := parse(address)
	if err != nil {
		return nil, err
	}
	access, err := target.access()
	if err != nil {
		return nil, err
	}
	nc, js, err := connect(ctx, target, access, opts)
	if err != nil {
		return nil, err
	}
	queues.Sender = access.login.sender
	b := &Backend{nc: nc, js: js, replicas: target.replicas, queues: queues, opts: opts}
	b.close = sync.OnceValue(b.shut)
	return b, nil
}

// Queue implements backend.Backend.
func (b *Backend) Queue(ctx context.Context, name string) (queue.Queue, error) {
	q, err := natsqueue.Open(ctx, b.js, name, b.queueOptions())
	if err != nil {
		return nil, err
	}
	return q, nil
}

// Ensure implements backend.Backend.
func (b *Backend) Ensure(ctx context.Context, name string, limits queue.Limits) (queue.Queue, error) {
	q, err := natsqueue.Ensure(ctx, b.js, name, limits, b.queueOptions())
	if err != nil {
		return nil, err
	}
	return q, nil
}

// Ages implements queue.Ager.
func (b *Backend) Ages(ctx context.Context, names ...string) (map[string]queue.Age, error) {
	return natsqueue.Ages(ctx, b.js, b.queueOptions(), names...)
}

func (b *Backend) queueOptions() natsqueue.Options {
	o := b.queues
	o.Replicas, o.Count, o.Log = b.replicas, b.count, b.opts.Log
	return o
}

var unsafe = regexp.MustCompile(`[^A-Za-z0-9_-]`)

// own returns what the names of all that belongs to the deployment alone begin with.
func (b *Backend) own() (string, error) {
	if bad := unsafe.FindString(b.opts.Deployment); bad != "" {
		return "", fmt.Errorf("deployment %q has the character %q; use A-Z a-z 0-9 _ and -", b.opts.Deployment, bad)
	}
	return ownName(b.opts.Deployment), nil
}

// Blobs implements backend.Backend. The store is named after the deployment.
func (b *Backend) Blobs(ctx context.Context) (blob.Store, error) {
	bucket, err := b.own()
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s, err := natsblob.Open(ctx, b.js, bucket, natsblob.Options{Replicas: b.replicas, Count: b.count})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Close implements backend.Backend.
func (b *Backend) Close() error { return b.close() }

func (b *Backend) shut() error {
	var err error
	if b.nc.IsConnected() {
		err = b.nc.FlushTimeout(flushTimeout)
	}
	b.nc.Close()
	if err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		return fmt.Errorf("close connection to the broker: %w", err)
	}
	return nil
}

func (b *Backend) count(operation string, err error) {
	if b.opts.Count != nil {
		b.opts.Count(service, operation, err)
	}
}

const leastWait, mostWait = 100 * time.Millisecond, 2 * time.Second

// untilTry is how long to wait before try n (from 1) of connecting.
func untilTry(n int) time.Duration { return backoff.Delay(n, leastWait, mostWait) }
