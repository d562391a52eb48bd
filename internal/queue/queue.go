// Package queue is the port to message queues: what CloudMaster needs of SQS,
// JetStream or memory, and no more.
//
// # Contract
//
// A queue delivers each message at least once, in roughly the order sent. A
// received message is in flight: invisible to others until its visibility
// timeout is over, counted from its receipt or from the last Extend. Then it
// becomes visible again, whoever holds it. Delete ends it for good. After
// Limits.Deliveries receipts that did not end in Delete it is not delivered any
// more but moved to the queue's dead letters.
//
// All methods may be called concurrently and honour ctx. A receipt is valid for
// the queue that gave it, also after the connection to the broker was lost and
// found again; using one whose message is deleted or was delivered again is not
// an error (the effect is none), because that is the best that SQS can promise.
//
// Errors are wrapped around the small set below; ask with errors.Is. Anything
// else is a fault of the transport that a later call may not meet.
package queue

import (
	"context"
	"errors"
	"time"

	"cloudmaster/internal/pool"
)

// The errors that callers act on.
var (
	// ErrNotFound: the queue does not exist (any more), or what makes it usable
	// (a consumer, a policy) is missing. Never reported as an empty queue.
	ErrNotFound = errors.New("queue not found")
	// ErrTooLarge: a body exceeds what the queue carries (256 KiB is always possible).
	ErrTooLarge = errors.New("message too large")
	// ErrDenied: we may not do this.
	ErrDenied = errors.New("access denied")
	// ErrThrottled: too many calls; the adapter has already retried.
	ErrThrottled = errors.New("throttled")
	// ErrClosed: the backend was closed.
	ErrClosed = errors.New("queue closed")
)

// Receipt is the handle of one delivery of a message.
type Receipt string

// Message is one delivery.
type Message struct {
	ID         string    // stable over redeliveries of the same message
	Body       []byte    // the receiver may keep and change it
	SentAt     time.Time // by the broker's clock
	Deliveries int       // how often it has been received, this time included (≥ 1)
	Receipt    Receipt
}

// Queue is one named queue, opened.
type Queue interface {
	// Name returns the name it was opened by.
	Name() string

	// Send stores the bodies as one message each, in order. When it returns nil all are
	// stored; after an error a prefix may be. Retries inside one call store nothing twice.
	Send(ctx context.Context, bodies ...[]byte) error

	// Receive returns up to most messages (most ≥ 1). It returns as soon as one is there,
	// with those that can be had without waiting, or with none and no error when
	// wait is over. wait 0 means: what is there now. An adapter may return fewer than it could.
	Receive(ctx context.Context, most int, wait time.Duration) ([]Message, error)

	// Extend starts the visibility timeout of these deliveries anew.
	Extend(ctx context.Context, receipts ...Receipt) error

	// Release hands messages back: they are visible again at once.
	Release(ctx context.Context, receipts ...Receipt) error

	// Delete ends messages for good. When it returns nil the broker has confirmed all.
	Delete(ctx context.Context, receipts ...Receipt) error

	// Bury moves a message to the dead letters with the reason, and ends it. A crash
	// in between may leave it in both places, never in none.
	Bury(ctx context.Context, m Message, reason string) error

	// Backlog counts what the queue holds. A failed count is an error and an unknown
	// backlog, never zero. On distributed brokers it is asked of the leader; it may lag
	// by about a second.
	Backlog(ctx context.Context) (pool.Backlog, error)

	// Visibility returns the visibility timeout of this queue.
	Visibility() time.Duration
}

// Watcher is an ability that a Queue may have beside its methods: it can tell
// that messages have arrived, so that nobody need poll.
type Watcher interface {
	// Watch returns a channel that receives a value soon after messages were stored.
	// Several arrivals may be told as one; an arrival may rarely go untold (a lost
	// connection), so watchers still look at long intervals. The channel is never
	// closed; watching ends with ctx.
	Watch(ctx context.Context) (<-chan struct{}, error)
}

// Limits are fixed when a queue is created.
type Limits struct {
	Visibility time.Duration // how long a received message stays invisible; 0 means DefaultVisibility
	Deliveries int           // receipts before a message is dead; 0 means DefaultDeliveries
	Retention  time.Duration // how long an unread message is kept; 0 means as long as the broker can (JetStream for ever, SQS 14 days)
}

// Defaults of Limits.
const (
	DefaultVisibility = 30 * time.Second
	DefaultDeliveries = 5
)

// DeadLetters returns the name of the queue that keeps the dead letters of the named one.
func DeadLetters(name string) string { return name + "-dead" }
