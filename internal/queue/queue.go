// Package queue is the port to message queues: what CloudMaster needs of SQS, JetStream or a queue
// in memory, and no more.
//
// # Contract
//
// A queue delivers each message at least once, in roughly the order in which they were sent. A
// message that was received is in flight: other receivers do not see it until its visibility
// timeout is over, which counts from its receipt or from the last Extend. Then it becomes visible
// again, even if its receiver still works on it. Delete ends a message for good. A message that was
// received Limits.Deliveries times without being deleted is not delivered any more but moved to the
// queue's dead letters.
//
// All methods may be called concurrently, and all return when ctx ends. A receipt is valid for the
// queue that gave it, also after the connection to the broker was lost and restored. Using the
// receipt of a message that was since deleted or delivered again has no effect and is not an error,
// because SQS cannot promise more than that.
//
// Errors are wrapped around the few listed below; ask with errors.Is. Any other error is a failure
// of the transport, and a later call may succeed.
package queue

import (
	"context"
	"errors"
	"time"

	"cloudmaster/internal/pool"
)

// The errors that callers act on.
var (
	// ErrNotFound: the queue does not exist (any more), or something without which it cannot be used
	// (its consumer, its redrive policy) is missing. This is never reported as an empty queue.
	ErrNotFound = errors.New("queue not found")
	// ErrTooLarge: a body is larger than the queue accepts. Every queue accepts 256 KiB.
	ErrTooLarge = errors.New("message too large")
	// ErrDenied: the broker does not allow us to do this.
	ErrDenied = errors.New("access denied")
	// ErrThrottled: the broker refused because of too many calls. The adapter has already retried.
	ErrThrottled = errors.New("throttled")
	// ErrClosed: the backend was closed.
	ErrClosed = errors.New("queue closed")
)

// Receipt identifies one delivery of a message.
type Receipt string

// Message is one delivery.
type Message struct {
	ID         string    // the same for all deliveries of one message
	Body       []byte    // the receiver may keep and change it
	SentAt     time.Time // by the broker's clock
	Deliveries int       // how often it has been received, this time included (≥ 1)
	Receipt    Receipt
	// Sender is who has sent it, by the broker's word. It is empty if the broker does not say. What it is worth depends
	// on what the broker asks of those who send.
	Sender string
}

// Queue is one named queue that has been opened.
type Queue interface {
	// Name returns the name by which the queue was opened.
	Name() string

	// Send stores each body as one message, in order. When it returns nil all are stored. After an
	// error some may be: then always the first ones. Retries inside one call store nothing twice.
	Send(ctx context.Context, bodies ...[]byte) error

	// Receive returns up to most messages (most ≥ 1). It returns as soon as at least one message is
	// there, together with any others that need no waiting. When wait is over it returns no message
	// and no error. A wait of 0 asks for what is there now. An adapter may return fewer messages than there are.
	Receive(ctx context.Context, most int, wait time.Duration) ([]Message, error)

	// Extend starts the visibility timeout of these deliveries anew, with its full length.
	Extend(ctx context.Context, receipts ...Receipt) error

	// Release gives messages back: they become visible at once.
	Release(ctx context.Context, receipts ...Receipt) error

	// Delete ends messages for good. When it returns nil, the broker has confirmed all of them.
	Delete(ctx context.Context, receipts ...Receipt) error

	// Bury moves a message to the dead letters, together with the reason. After a crash halfway it may
	// be in both places, but it is never lost.
	Bury(ctx context.Context, m Message, reason string) error

	// Backlog counts the queue's messages. If it cannot count them it returns an error and an unknown
	// backlog, never zero. A distributed broker asks its leader; the counts may lag by about a second.
	Backlog(ctx context.Context) (pool.Backlog, error)

	// Visibility returns the visibility timeout of this queue.
	Visibility() time.Duration
}

// Watcher is an additional ability that a Queue may have: it reports that messages have arrived, so
// that nobody has to poll.
type Watcher interface {
	// Watch returns a channel that receives a value soon after messages were stored. One value may
	// stand for several arrivals. Rarely, an arrival is not reported (the connection was lost), so
	// watchers must still look at long intervals. Watching ends with ctx; the channel is never closed.
	Watch(ctx context.Context) (<-chan struct{}, error)
}

// Linked is an additional ability that a Queue may have. It tells one connection to the broker from the next, so that
// a receiver can know whether the broker may have forgotten a delivery: one that dies forgets what it has delivered in
// its last moments, and delivers it again when it is back.
type Linked interface {
	// Link returns the number of the present connection, which no other one had, and whether it is up.
	Link() (number uint64, up bool)
	// Recording is how long a broker may take to write down a delivery. What was delivered this long before the
	// connection was lost is still in flight when the broker is back.
	Recording() time.Duration
}

// Age says for how long the oldest message of a queue has been there. The zero value is unknown.
type Age struct {
	Known bool `json:"known"`
	// Oldest is 0 if there is no message. Messages in flight count.
	Oldest time.Duration `json:"oldest,omitempty"`
	// AtLeast: there may be older ones, of which the broker does not tell.
	AtLeast bool `json:"at_least,omitempty"`
	// Retention is after what time the queue forgets a message, counted from when it was sent. 0: never.
	Retention time.Duration `json:"retention,omitempty"`
}

// Ager is an additional ability that whoever opens queues may have: to know how old their messages are.
type Ager interface {
	// Ages returns the ages of the named queues, of which some may be queues of dead letters. What is not in the
	// answer is unknown: a queue that does not exist, or of which the broker cannot tell. The answer may be some
	// minutes old. A call may cost money for each queue: ask seldom, and for all queues at once.
	Ages(ctx context.Context, names ...string) (map[string]Age, error)
}

// Limits are the properties that a queue gets when it is created.
type Limits struct {
	Visibility time.Duration // how long a received message stays invisible; 0 means DefaultVisibility
	Deliveries int           // receipts before a message moves to the dead letters; 0 means DefaultDeliveries
	// Retention is how long an unread message is kept. 0 means as long as the broker can: JetStream
	// for ever, SQS 14 days.
	Retention time.Duration
}

// Defaults of Limits.
const (
	DefaultVisibility = 30 * time.Second
	DefaultDeliveries = 5
)

// DeadLetters returns the name of the queue that keeps the dead letters of the named queue.
func DeadLetters(name string) string { return name + "-dead" }
