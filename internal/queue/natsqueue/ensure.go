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

// Ensure opens a queue, creating it and its dead letters where they are missing, and
// brings existing limits to those given.
func Ensure(ctx context.Context, js jetstream.JetStream, name string, limits queue.Limits, opts Options) (*Queue, error) {
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
	// The dead letters first: a queue must never be without them.
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

// createTime is what a busy cluster may need to agree on a new queue.
const createTime = 10 * time.Second

// create makes or updates one stream and its consumer.
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

// replicas is what the options ask for, or else what the stream has.
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
		duplicates = min(duplicates, limits.Retention) // the server refuses a longer one
	}
	return jetstream.StreamConfig{
		Name:        streamName(name),
		Description: "CloudMaster queue " + name,
		Subjects:    []string{subjectName(name)},
		Retention:   jetstream.WorkQueuePolicy,
		Storage:     jetstream.FileStorage,
		MaxAge:      limits.Retention, // 0: for ever, as is ours
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
		MaxDeliver:    -1, // see condemn: the broker would only stop delivering, and tell nobody
		MaxAckPending: -1,
		MaxWaiting:    maxWaiting,
	}
	if limits.Deliveries > 0 {
		cfg.Metadata = map[string]string{deliveriesKey: strconv.Itoa(limits.Deliveries)}
	}
	return cfg
}
