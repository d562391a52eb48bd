// Package awsqueues is the AWS backend for programs that need queues only: SQS. It
// links no S3 client, which keeps the binaries of workers small; awsbackend has both.
package awsqueues

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"sync/atomic"

	"cloudmaster/internal/awsconf"
	"cloudmaster/internal/backend"
	"cloudmaster/internal/blob"
	"cloudmaster/internal/queue"
	"cloudmaster/internal/queue/sqsqueue"
)

var (
	_ backend.Backend = (*Queues)(nil)
	_ backend.Opener  = Open
)

// ErrNoStore says that this program was built without an object store on AWS.
var ErrNoStore = errors.New("this program has no object store on AWS; open awsbackend instead")

// Queues is SQS as a backend. Make it with Open or New.
type Queues struct {
	cfg    awsconf.Config
	opts   backend.Options
	closed atomic.Bool
}

// Open opens an address as aws://eu-west-1. It looks for credentials and makes no other call: that the service
// cannot be reached shows when the first queue is opened.
func Open(ctx context.Context, address *url.URL, opts backend.Options) (backend.Backend, error) {
	cfg, _, err := Load(ctx, address, opts)
	if err != nil {
		return nil, err
	}
	return New(cfg, opts), nil
}

// Load reads the address and configures the SDK by it.
func Load(ctx context.Context, address *url.URL, opts backend.Options) (awsconf.Config, awsconf.Address, error) {
	at, err := awsconf.ParseAddress(address)
	if err != nil {
		return awsconf.Config{}, at, err
	}
	cfg, err := awsconf.Load(ctx, awsconf.Options{
		Region: at.Region, Endpoint: at.Endpoint, Client: opts.Client, PolicyFile: opts.PolicyFile, Count: opts.Count,
	})
	return cfg, at, err
}

// New returns the queues that an SDK configuration gives access to.
func New(cfg awsconf.Config, opts backend.Options) *Queues {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	return &Queues{cfg: cfg, opts: opts}
}

// Queue implements backend.Backend.
func (q *Queues) Queue(ctx context.Context, name string) (queue.Queue, error) {
	if q.closed.Load() {
		return nil, queue.ErrClosed
	}
	opened, err := sqsqueue.Open(ctx, q.cfg, name, q.options())
	if err != nil {
		return nil, err
	}
	return opened, nil
}

// Ensure implements backend.Backend, but creates nothing: on AWS only setup makes queues, with rights that no
// running program needs. A queue whose limits differ is opened as it is, and the log says so.
func (q *Queues) Ensure(ctx context.Context, name string, limits queue.Limits) (queue.Queue, error) {
	if q.closed.Load() {
		return nil, queue.ErrClosed
	}
	differs, err := sqsqueue.Differs(ctx, q.cfg, name, limits)
	if err != nil {
		return nil, err
	}
	if len(differs) > 0 {
		q.opts.Log.WarnContext(ctx, "queue is not as the configuration has it; run controller setup",
			"queue", name, "differs", differs)
	}
	return q.Queue(ctx, name)
}

func (q *Queues) options() sqsqueue.Options { return sqsqueue.Options{Deployment: q.opts.Deployment} }

// Blobs implements backend.Backend: there are none.
func (q *Queues) Blobs(context.Context) (blob.Store, error) { return nil, ErrNoStore }

// Close implements backend.Backend. Nothing waits to be sent, because each call of SQS is complete in itself.
func (q *Queues) Close() error {
	q.closed.Store(true)
	return nil
}
