package natsqueue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
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
	dead := queue.Limits{Visibility: limits.Visibility}
	// The dead letters come first, so that a queue never exists without them.
	if err := q.create(ctx, queue.DeadLetters(name), dead); err != nil {
		return nil, fmt.Errorf("ensure dead letters of queue %s: %w", name, err)
	}
	if err := q.create(ctx, name, limits); err != nil {
		return nil, fmt.Errorf("ensure queue %s: %w", name, err)
	}
	if err := q.call(ctx, "consumer_info", q.bind); err != nil {
		return nil, fmt.Errorf("ensure queue %s: %w", name, err)
	}
	return q, nil
}

// createTime bounds one attempt at creating a queue. A busy cluster may need this long to agree on a new one.
const createTime = 10 * time.Second

// create creates or updates one stream and its consumer.
func (q *Queue) create(ctx context.Context, name string, limits queue.Limits) error {
	return q.callFor(ctx, "create_queue", createTime, func(ctx context.Context) error {
		replicas, err := q.replicas(ctx, name)
		if err != nil {
			return err
		}
		if _, err := q.js.CreateOrUpdateStream(ctx, streamConfig(name, limits, replicas)); err != nil {
			return fmt.Errorf("stream %s: %w", streamName(name), err)
		}
		if _, err := q.js.CreateOrUpdateConsumer(ctx, streamName(name), consumerConfig(limits)); err != nil {
			return fmt.Errorf("consumer %s of stream %s: %w", consumerName, streamName(name), err)
		}
		return nil
	})
}

// replicas returns the number of replicas that the options ask for, or that of the existing stream
// if they ask for none.
func (q *Queue) replicas(ctx context.Context, name string) (int, error) {
	if q.opts.Replicas > 0 {
		return q.opts.Replicas, nil
	}
	stream, err := q.js.Stream(ctx, streamName(name))
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return 1, nil
	case err != nil:
		return 0, err
	}
	return stream.CachedInfo().Config.Replicas, nil
}

func streamConfig(name string, limits queue.Limits, replicas int) jetstream.StreamConfig {
	duplicates := duplicateWindow
	if limits.Retention > 0 {
		duplicates = min(duplicates, limits.Retention) // the server refuses a window that is longer than MaxAge
	}
	return jetstream.StreamConfig{
		Name:        streamName(name),
		Description: "CloudMaster queue " + name,
		Subjects:    []string{subjectName(name)},
		Retention:   jetstream.WorkQueuePolicy,
		Storage:     jetstream.FileStorage,
		MaxAge:      limits.Retention, // 0 means for ever, both here and in limits
		Duplicates:  duplicates,
		Replicas:    replicas,
		RePublish:   &jetstream.RePublish{Source: subjectName(name), Destination: hintName(name), HeadersOnly: true},
	}
}

func consumerConfig(limits queue.Limits) jetstream.ConsumerConfig {
	cfg := jetstream.ConsumerConfig{
		Durable:       consumerName,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       limits.Visibility,
		MaxDeliver:    -1, // condemn does it: the broker would only stop delivering, without moving the message
		MaxAckPending: -1,
		MaxWaiting:    maxWaiting,
	}
	if limits.Deliveries > 0 {
		cfg.Metadata = map[string]string{deliveriesKey: strconv.Itoa(limits.Deliveries)}
	}
	return cfg
}
