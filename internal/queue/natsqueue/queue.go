// Package natsqueue keeps queues in NATS JetStream: each queue is a work-queue stream with one
// durable pull consumer, which all receivers share.
//
// # Differences from other queues
//
//   - Receipts are the subjects on which the broker wants acknowledgements, so they outlive
//     connections. The broker does not tell the deliveries of one message apart by them: a Delete
//     with an old receipt ends the message, a Release with an old one gives it to another receiver.
//   - Backlog: messages that were released, or whose visibility timeout is over, are counted by the
//     broker as in flight until somebody receives them. Therefore, when no new messages wait,
//     Backlog asks whether there is such a message, and if so counts one as visible, however many
//     there are. When new messages wait, only these count as visible. So Visible is 0 only if there
//     is nothing to receive; by as much as it is too small, InFlight is too large; the sum is exact.
//   - The receivers apply the delivery limit: a receiver that gets a message that was delivered too
//     often moves it to the dead letters and does not return it.
//
// # Outages
//
// While the broker is unreachable, calls wait for it, at most for Options.Patience, and repeat what
// it has not confirmed. Messages carry ids, by which the broker drops repetitions within
// duplicateWindow.
package natsqueue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"cloudmaster/internal/backoff"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
)

var (
	_ queue.Queue   = (*Queue)(nil)
	_ queue.Watcher = (*Queue)(nil)
	_ queue.Linked  = (*Queue)(nil)
)

// Queue is one queue, opened with Open or Ensure.
type Queue struct {
	name  string
	js    jetstream.JetStream
	nc    *nats.Conn // the connection of js
	opts  Options
	log   *slog.Logger
	terms atomic.Pointer[terms]
	lost  atomic.Bool // the queue was not found: when it is there again its terms may be others

	announced atomic.Uint64 // the sequence number of the message that Watch has last heard of
	counted   atomic.Uint64 // the one that the broker was last asked to count
}

// terms are the limits of a queue as its consumer has them.
type terms struct {
	visibility time.Duration
	deliveries int // receipts before a message is moved to the dead letters; 0 means no limit
}

// Open opens an existing queue. It returns queue.ErrNotFound if the stream or its consumer is
// missing. js should be the result of the function JetStream.
func Open(ctx context.Context, js jetstream.JetStream, name string, opts Options) (*Queue, error) {
	q, err := newQueue(js, name, opts)
	if err != nil {
		return nil, err
	}
	if err := q.call(ctx, "consumer_info", q.bind); err != nil {
		return nil, fmt.Errorf("open queue %s: %w", name, err)
	}
	return q, nil
}

func newQueue(js jetstream.JetStream, name string, opts Options) (*Queue, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	if opts.Sender != "" && checkName(opts.Sender) != nil {
		return nil, fmt.Errorf("sender %q: use 1 to 200 of the characters A-Z a-z 0-9 _ and -", opts.Sender)
	}
	opts = opts.withDefaults()
	return &Queue{name: name, js: js, nc: js.Conn(), opts: opts, log: opts.Log.With("queue", name)}, nil
}

// bind reads the queue's limits from its consumer.
func (q *Queue) bind(ctx context.Context) error {
	consumer, err := q.js.Consumer(ctx, streamName(q.name), consumerName)
	if notFound(err) {
		if err := q.openDead(ctx, err); err != nil {
			return err
		}
		consumer, err = q.js.Consumer(ctx, streamName(q.name), consumerName)
	}
	if err != nil {
		return err
	}
	t, err := termsOf(consumer.CachedInfo().Config)
	if err != nil {
		return fmt.Errorf("consumer %s of stream %s: %w", consumerName, streamName(q.name), err)
	}
	q.terms.Store(&t)
	q.lost.Store(false)
	return nil
}

// termsOf reads the limits of a queue from its consumer.
func termsOf(cfg jetstream.ConsumerConfig) (t terms, err error) {
	t.visibility = cfg.AckWait
	if text, ok := cfg.Metadata[visibilityKey]; ok {
		if t.visibility, err = time.ParseDuration(text); err != nil {
			return t, fmt.Errorf("metadata %s: %w", visibilityKey, err)
		}
	}
	if limit, ok := cfg.Metadata[deliveriesKey]; ok {
		if t.deliveries, err = strconv.Atoi(limit); err != nil {
			return t, fmt.Errorf("metadata %s: %w", deliveriesKey, err)
		}
	}
	return t, nil
}

// Name implements queue.Queue.
func (q *Queue) Name() string { return q.name }

// Visibility implements queue.Queue.
func (q *Queue) Visibility() time.Duration { return q.terms.Load().visibility }

// Link implements queue.Linked.
func (q *Queue) Link() (number uint64, up bool) { return q.nc.Stats().Reconnects, q.nc.IsConnected() }

// Recording implements queue.Linked. The broker writes down what it delivers every 100 ms; on a busy machine it is
// late.
func (q *Queue) Recording() time.Duration { return 250 * time.Millisecond }

// Backlog implements queue.Queue. The package comment says what it counts as visible.
func (q *Queue) Backlog(ctx context.Context) (pool.Backlog, error) {
	info, err := q.count(ctx)
	if err != nil {
		return pool.Backlog{}, fmt.Errorf("count backlog of %s: %w", q.name, err)
	}
	backlog := pool.Backlog{Known: true, Visible: int(info.NumPending), InFlight: info.NumAckPending}
	if backlog.Visible > 0 || backlog.InFlight == 0 {
		return backlog, nil
	}
	again, err := q.redeliverable(ctx)
	if err != nil {
		return pool.Backlog{}, fmt.Errorf("look for messages of %s to deliver again: %w", q.name, err)
	}
	if again {
		backlog.Visible++
		backlog.InFlight--
	}
	return backlog, nil
}

// count asks the broker how many messages wait. The broker announces a message before it counts it: one in a few dozen
// that were announced just now would be missing, and whoever was woken by the announcement would find nothing. So it is
// asked again until it has counted what Watch has last heard of. It never counts messages that have expired
// undelivered, so this is done once for each announcement.
func (q *Queue) count(ctx context.Context) (*jetstream.ConsumerInfo, error) {
	announced := q.announced.Load()
	for pause := firstLook; ; pause *= 2 {
		var info *jetstream.ConsumerInfo
		err := q.call(ctx, "consumer_info", func(ctx context.Context) error {
			consumer, err := q.js.Consumer(ctx, streamName(q.name), consumerName)
			if err == nil {
				info = consumer.CachedInfo()
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		counted := info.Delivered.Stream+info.NumPending >= announced || q.counted.Load() == announced
		if counted || pause > lastLook || !backoff.Wait(ctx, pause) {
			q.counted.Store(announced)
			return info, nil
		}
	}
}

// The pauses of count.
const firstLook, lastLook = 250 * time.Microsecond, 16 * time.Millisecond

// call runs f, which makes one or more calls to the broker, until it succeeds, fails permanently,
// or Patience is over. Each try is counted as operation.
func (q *Queue) call(ctx context.Context, operation string, f func(context.Context) error) error {
	return q.callIn(ctx, operation, q.opts.Patience, q.opts.Patience/tries, f)
}

// callFor is call for an f that may itself wait for so long before it succeeds.
func (q *Queue) callFor(
	ctx context.Context, operation string, wait time.Duration, f func(context.Context) error,
) error {
	return q.callIn(ctx, operation, q.opts.Patience+wait, q.opts.Patience/tries+wait, f)
}

// callIn is call with other limits: of all tries together, and of each.
func (q *Queue) callIn(
	ctx context.Context, operation string, all, each time.Duration, f func(context.Context) error,
) error {
	limited, cancel := context.WithTimeout(ctx, all)
	defer cancel()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if q.nc.IsClosed() {
		return classify(nats.ErrConnectionClosed)
	}
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		err := q.try(limited, operation, each, f)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if notFound(err) {
			q.lost.Store(true)
		}
		if !transient(err) || limited.Err() != nil {
			return classify(err)
		}
		if q.reconnect(limited, pause) != nil {
			return classify(err)
		}
	}
}

// try runs f once. "No responders" can mean that the broker is still starting or that the queue is
// gone. Only JetStream's list of streams tells which, so try looks there.
func (q *Queue) try(ctx context.Context, operation string, limit time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := q.whileConnected(ctx, f)
	q.opts.Count(operation, err)
	if errors.Is(err, nats.ErrNoResponders) || errors.Is(err, jetstream.ErrNoStreamResponse) {
		_, missing := q.js.Consumer(ctx, streamName(q.name), consumerName)
		q.opts.Count("consumer_info", missing)
		if notFound(missing) {
			return missing
		}
	}
	return err
}

// whileConnected runs f with a ctx that also ends when the connection is lost. Without it, nats.go
// would let requests that are under way wait until their time limit.
func (q *Queue) whileConnected(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	lost := q.nc.StatusChanged(nats.RECONNECTING, nats.CLOSED)
	var watcher sync.WaitGroup
	watcher.Go(func() {
		if _, ok := <-lost; ok {
			cancel(errInterrupted)
		}
	})
	err := f(ctx)
	q.nc.RemoveStatusListener(lost) // also closes the channel
	watcher.Wait()
	if err != nil && errors.Is(context.Cause(ctx), errInterrupted) {
		err = fmt.Errorf("%w: %w", errInterrupted, err)
	}
	cancel(nil)
	return err
}

// reconnect waits until there is a connection, and then for the pause, before another try.
func (q *Queue) reconnect(ctx context.Context, pause time.Duration) error {
	if err := q.awaitConnection(ctx); err != nil {
		return err
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (q *Queue) awaitConnection(ctx context.Context) error {
	changed := q.nc.StatusChanged(nats.CONNECTED, nats.CLOSED)
	defer q.nc.RemoveStatusListener(changed)
	for !q.nc.IsConnected() {
		if q.nc.IsClosed() {
			return nats.ErrConnectionClosed
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
