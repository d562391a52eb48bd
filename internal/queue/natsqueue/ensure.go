package natsqueue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"cloudmaster/internal/queue"
)

// Ensure opens a queue. It creates the queue and its dead letters where they are missing, and
// changes the limits of existing ones to those given.
func Ensure(
	ctx context.Context, js jetstream.JetStream, name string, limits queue.Limits, opts Options,
) (*Queue, error) {
	q, err := newQueue(js, name, opts)
	if err != nil {
		return nil, err
	}
	limits.Visibility = cmp.Or(limits.Visibility, queue.DefaultVisibility)
	limits.Deliveries = cmp.Or(limits.Deliveries, queue.DefaultDeliveries)
	if limits.Visibility < 0 || limits.Deliveries < 0 || limits.Retention < 0 {
		return nil, fmt.Errorf("ensure queue %s: negative limit in %+v", name, limits)
	}
	if !q.opts.LateLetters {
		// The dead letters come first, so that a queue never exists without them.
		if err := q.create(ctx, q.deadStream(limits.Visibility), nil); err != nil {
			return nil, fmt.Errorf("ensure dead letters of queue %s: %w", name, err)
		}
	}
	if err := q.create(ctx, streamConfig(name, limits), q.consumerConfig(limits)); err != nil {
		return nil, fmt.Errorf("ensure queue %s: %w", name, err)
	}
	if err := q.call(ctx, "consumer_info", q.bind); err != nil {
		return nil, fmt.Errorf("ensure queue %s: %w", name, err)
	}
	return q, nil
}

// createTime bounds one attempt at creating a queue. A busy cluster may need this long to agree on a new one.
const createTime = 10 * time.Second

// create creates or updates one stream, and its consumer if it is to have one. What is as it should be is not touched:
// each change costs the broker a file, and a controller may have a thousand queues.
func (q *Queue) create(ctx context.Context, stream jetstream.StreamConfig, consumer *jetstream.ConsumerConfig) error {
	return q.callFor(ctx, "create_queue", createTime, func(ctx context.Context) error {
		if err := q.putStream(ctx, stream); err != nil {
			return fmt.Errorf("stream %s: %w", stream.Name, err)
		}
		if consumer == nil {
			return nil
		}
		if err := q.putConsumer(ctx, stream.Name, *consumer); err != nil {
			return fmt.Errorf("consumer %s of stream %s: %w", consumerName, stream.Name, err)
		}
		return nil
	})
}

// putStream creates a stream, or changes the limits of the existing one. An existing one is never given another first
// number: the broker would drop all messages below it when it starts the next time.
func (q *Queue) putStream(ctx context.Context, cfg jetstream.StreamConfig) error {
	old, err := q.js.Stream(ctx, cfg.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		cfg.Replicas = max(q.opts.Replicas, 1)
		cfg.FirstSeq = firstNumber(time.Now())
		_, err = q.js.CreateStream(ctx, cfg)
		if !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			return err
		}
		old, err = q.js.Stream(ctx, cfg.Name) // somebody else has created it in this moment
	}
	if err != nil {
		return err
	}
	had := old.CachedInfo().Config
	cfg.Replicas = cmp.Or(q.opts.Replicas, had.Replicas)
	cfg.FirstSeq = had.FirstSeq
	if sameStream(had, cfg) {
		return nil
	}
	_, err = q.js.UpdateStream(ctx, cfg)
	return err
}

// sameStream reports whether a stream is as it is to be. The broker writes -1 for a limit that is not set. If a future
// broker adds other defaults, the stream is changed at each start, as it would be without this look.
func sameStream(had, want jetstream.StreamConfig) bool {
	want.MaxConsumers, want.MaxMsgs, want.MaxBytes = -1, -1, -1
	want.MaxMsgsPerSubject, want.MaxMsgSize = -1, -1
	had.Metadata, want.Metadata = ours(had.Metadata), ours(want.Metadata)
	return reflect.DeepEqual(had, want)
}

// ours returns the metadata that this package has written. The broker adds its own.
func ours(metadata map[string]string) map[string]string {
	own := make(map[string]string)
	for key, value := range metadata {
		if strings.HasPrefix(key, metadataPrefix) {
			own[key] = value
		}
	}
	return own
}

// putConsumer creates a stream's consumer, or changes the existing one.
func (q *Queue) putConsumer(ctx context.Context, stream string, cfg jetstream.ConsumerConfig) error {
	old, err := q.js.Consumer(ctx, stream, consumerName)
	if err == nil && sameConsumer(old.CachedInfo().Config, cfg) {
		return nil
	}
	if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return err
	}
	_, err = q.js.CreateOrUpdateConsumer(ctx, stream, cfg)
	return err
}

// sameConsumer reports whether a consumer has the properties that we set.
func sameConsumer(had, want jetstream.ConsumerConfig) bool {
	return had.AckPolicy == want.AckPolicy && had.AckWait == want.AckWait && had.MaxDeliver == want.MaxDeliver &&
		had.MaxAckPending == want.MaxAckPending && had.MaxWaiting == want.MaxWaiting &&
		maps.Equal(ours(had.Metadata), ours(want.Metadata))
}

// firstNumber is the number of the first message of a stream that is created now: the time in microseconds. The broker
// knows a message by the stream's name and this number, and nothing else of a receipt. Therefore a stream that is made
// anew under the same name must not use the numbers of the one before it again, or a receipt of an old message would
// end a new one. No stream stores a million messages a second for all of its life, so numbers never catch up with time.
func firstNumber(now time.Time) uint64 { return uint64(max(now.UnixMicro(), 1)) }

func streamConfig(name string, limits queue.Limits) jetstream.StreamConfig {
	duplicates := duplicateWindow
	if limits.Retention > 0 {
		duplicates = min(duplicates, limits.Retention) // the server refuses a window that is longer than MaxAge
	}
	return jetstream.StreamConfig{
		Name:        streamName(name),
		Description: "CloudMaster queue " + name,
		Subjects:    []string{subjectName(name), sentBy(name, "*")},
		Retention:   jetstream.WorkQueuePolicy,
		Storage:     jetstream.FileStorage,
		MaxAge:      limits.Retention, // 0 means for ever, both here and in limits
		Duplicates:  duplicates,
		RePublish:   &jetstream.RePublish{Source: subjectName(name), Destination: hintName(name), HeadersOnly: true},
	}
}

func (q *Queue) consumerConfig(limits queue.Limits) *jetstream.ConsumerConfig {
	cfg := &jetstream.ConsumerConfig{
		Durable:       consumerName,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       limits.Visibility + q.opts.Slack,
		MaxDeliver:    -1, // condemn does it: the broker would only stop delivering, without moving the message
		MaxAckPending: -1,
		MaxWaiting:    maxWaiting,
		Metadata:      map[string]string{},
	}
	if limits.Deliveries > 0 {
		cfg.Metadata[deliveriesKey] = strconv.Itoa(limits.Deliveries)
	}
	if q.opts.Slack > 0 {
		cfg.Metadata[visibilityKey] = limits.Visibility.String()
	}
	return cfg
}
