package natsqueue

import (
	"cmp"
	"fmt"
	"log/slog"
	"regexp"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Options are the settings of a queue; the zero value works.
type Options struct {
	// Replicas is how many brokers of a cluster keep the queue. 0 means 1 for a new queue, and the
	// present number for an existing one.
	Replicas int
	// Patience is how long a call waits for a broker that does not answer; 0 means 10 s.
	Patience time.Duration
	// Slack is how much longer than the visibility timeout the broker waits before it delivers a message again, of the
	// queues that Ensure makes or changes. Receivers are told the visibility timeout and extend in time for that. Slack
	// covers a restart of the broker, during which nobody can extend, and that the broker writes down times in whole
	// seconds.
	Slack time.Duration
	// LateLetters lets Ensure make no stream for dead letters: it is made with the first letter, by whoever buries it.
	// That halves what many queues cost a broker, but needs receivers that may create streams.
	LateLetters bool
	// Sender is who sends, in the form of a queue's name; empty: nobody in particular. What is sent goes to a subject
	// that ends in this name, so that a broker that allows each user one name only vouches for the sender. Watch does
	// not tell of such messages.
	Sender string
	// Count is called after each call to the broker, with its outcome; nil counts nothing.
	Count func(operation string, err error)
	Log   *slog.Logger // nil discards
}

func (o Options) withDefaults() Options {
	o.Patience = cmp.Or(o.Patience, 10*time.Second)
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	if o.Count == nil {
		o.Count = func(string, error) {}
	}
	return o
}

const (
	tries      = 4 // at least so many full tries fit into Patience
	firstPause = 10 * time.Millisecond
	lastPause  = 500 * time.Millisecond

	// duplicateWindow is how long the broker remembers message ids in order to drop repetitions. It
	// must be longer than any Patience, and costs the broker about 150 bytes for each message sent within it.
	duplicateWindow = time.Minute

	maxWaiting     = 8192 // receivers that may wait at the same time
	prefix         = "cloudmaster-"
	consumerName   = "workers"
	metadataPrefix = "cloudmaster."           // begins the names of our metadata
	deliveriesKey  = "cloudmaster.deliveries" // metadata of the consumer: the delivery limit
	deadKey        = "cloudmaster.dead"       // metadata of a stream of dead letters: their visibility timeout
	visibilityKey  = "cloudmaster.visibility" // metadata of the consumer: the visibility timeout, if there is slack
	headerReason   = "Cloudmaster-Reason"     // of a dead letter: why it was moved there
	headerOrigin   = "Cloudmaster-Origin"     // of a dead letter: the queue from which it came
	headerOriginID = "Cloudmaster-Origin-Id"  // of a dead letter: its message id in that queue
	headerReceipts = "Cloudmaster-Deliveries" // of a dead letter: how often it was received from that queue
)

var validName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,200}$`)

// checkName refuses names that are not a single token of a NATS subject.
func checkName(name string) error {
	if !validName.MatchString(name) {
		return fmt.Errorf("queue name %q: use 1 to 200 of the characters A-Z a-z 0-9 _ and -", name)
	}
	return nil
}

func streamName(queue string) string  { return prefix + queue }
func subjectName(queue string) string { return "cloudmaster.queue." + queue }

// sentBy returns the subject of what one sender sends to the queue.
func sentBy(queue, sender string) string {
	if sender == "" {
		return subjectName(queue)
	}
	return subjectName(queue) + "." + sender
}

// hintName returns the subject on which the broker announces messages that it has stored in the queue.
func hintName(queue string) string { return "cloudmaster.hint." + queue }

// JetStream returns a JetStream context with the settings that queues need. All queues on one
// connection should share it.
func JetStream(nc *nats.Conn) (jetstream.JetStream, error) {
	js, err := jetstream.New(
		nc,
		jetstream.WithPublishAsyncTimeout(ackTimeout),
		jetstream.WithPublishAsyncMaxPending(64*windowMessages),
	)
	if err != nil {
		return nil, fmt.Errorf("set up JetStream: %w", err)
	}
	return js, nil
}
