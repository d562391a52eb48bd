package natsqueue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"cloudmaster/internal/queue"
)

// Ages tells of queues what queue.Ager promises, exactly: each stream knows when its first message was stored. If the
// clocks of broker and caller differ, the ages do by as much. Nothing is made, not even dead letters.
func Ages(ctx context.Context, js jetstream.JetStream, opts Options, names ...string) (map[string]queue.Age, error) {
	ages := make(map[string]queue.Age)
	for _, name := range names {
		q, err := newQueue(js, name, opts)
		if err != nil {
			return nil, err
		}
		age, err := q.age(ctx)
		switch {
		case errors.Is(err, queue.ErrNotFound):
		case err != nil:
			return nil, fmt.Errorf("look how old the messages of %s are: %w", name, err)
		default:
			ages[name] = age
		}
	}
	return ages, nil
}

// age looks at the queue's stream.
func (q *Queue) age(ctx context.Context) (queue.Age, error) {
	var info *jetstream.StreamInfo
	err := q.call(ctx, "stream_info", func(ctx context.Context) error {
		stream, err := q.js.Stream(ctx, streamName(q.name))
		if err == nil {
			info = stream.CachedInfo()
		}
		return err
	})
	if err != nil {
		return queue.Age{}, err
	}
	age := queue.Age{Known: true, Retention: info.Config.MaxAge}
	if info.State.Msgs > 0 {
		age.Oldest = max(0, time.Since(info.State.FirstTime))
	}
	return age, nil
}
