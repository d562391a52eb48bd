package natsqueue

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"cloudmaster/internal/queue"
)

// deadStream is the stream of the queue's dead letters. It gets its consumer when somebody opens it, which is seldom:
// consumers cost the broker much memory, and the more of them there are the longer it takes to stop.
func (q *Queue) deadStream(visibility time.Duration) jetstream.StreamConfig {
	cfg := streamConfig(queue.DeadLetters(q.name), queue.Limits{})
	cfg.Metadata = map[string]string{deadKey: visibility.String()}
	return cfg
}

// openDead makes what a queue of dead letters does not have yet: its consumer, and its stream if there were no letters.
// Of another queue it returns the error that says what is missing.
func (q *Queue) openDead(ctx context.Context, missing error) error {
	stream, err := q.js.Stream(ctx, streamName(q.name))
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if stream, err = q.makeDead(ctx); stream == nil && err == nil {
			return missing
		}
	}
	if err != nil {
		return err
	}
	text, ok := stream.CachedInfo().Config.Metadata[deadKey]
	if !ok {
		return missing
	}
	visibility, err := time.ParseDuration(text)
	if err != nil {
		return fmt.Errorf("stream %s: metadata %s: %w", streamName(q.name), deadKey, err)
	}
	cfg := q.consumerConfig(queue.Limits{Visibility: visibility})
	_, err = q.js.CreateOrUpdateConsumer(ctx, streamName(q.name), *cfg)
	return err
}

// makeDead makes the stream of the dead letters of an existing queue; nil if there is no such queue.
func (q *Queue) makeDead(ctx context.Context) (jetstream.Stream, error) {
	name, ok := strings.CutSuffix(q.name, queue.DeadLetters(""))
	if !ok {
		return nil, nil //nolint:nilnil // see above
	}
	consumer, err := q.js.Consumer(ctx, streamName(name), consumerName)
	if notFound(err) {
		return nil, nil //nolint:nilnil // see above
	}
	if err != nil {
		return nil, err
	}
	t, err := termsOf(consumer.CachedInfo().Config)
	if err != nil {
		return nil, err
	}
	of := &Queue{name: name, js: q.js, opts: q.opts}
	if err := of.putStream(ctx, of.deadStream(t.visibility)); err != nil {
		return nil, err
	}
	return q.js.Stream(ctx, streamName(q.name))
}

// firstLetter makes the stream of the queue's dead letters and puts a letter into it.
func (q *Queue) firstLetter(ctx context.Context, letter *nats.Msg) error {
	if err := q.putStream(ctx, q.deadStream(q.Visibility())); err != nil {
		return fmt.Errorf("make the stream of the dead letters: %w", err)
	}
	_, err := q.js.PublishMsg(ctx, letter)
	return err
}
