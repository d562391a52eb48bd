package natsqueue

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"cloudmaster/internal/queue"
)

const (
	// windowMessages is how many messages are sent before the broker must have confirmed all of them.
	// A broker drops what exceeds its ingest queue (10,000 messages, 128 MiB by default).
	windowMessages = 500
	windowBytes    = 2 << 20

	headerRoom = 4 << 10 // of the broker's limit for one message, reserved for its subject and headers
	ackTimeout = 5 * time.Second
)

// Send implements queue.Queue.
func (q *Queue) Send(ctx context.Context, bodies ...[]byte) error {
	limit := int(q.nc.MaxPayload()) - headerRoom
	msgs := make([]*nats.Msg, len(bodies))
	batch := nuid.Next()
	for i, body := range bodies {
		if len(body) > limit {
			return fmt.Errorf("send to %s: message %d has %d bytes, the broker takes %d: %w",
				q.name, i, len(body), limit, queue.ErrTooLarge)
		}
		msgs[i] = &nats.Msg{
			Subject: sentBy(q.name, q.opts.Sender),
			Header:  nats.Header{jetstream.MsgIDHeader: {batch + "-" + strconv.Itoa(i)}},
			Data:    body,
		}
	}
	for len(msgs) > 0 {
		n := window(msgs)
		if err := q.store(ctx, msgs[:n]); err != nil {
			return fmt.Errorf("send to %s: %w", q.name, err)
		}
		msgs = msgs[n:]
	}
	return nil
}

// window returns how many of the messages may be under way at the same time: at least one.
func window(msgs []*nats.Msg) int {
	size := 0
	for i, m := range msgs[:min(len(msgs), windowMessages)] {
		if size += len(m.Data); size > windowBytes && i > 0 {
			return i
		}
	}
	return min(len(msgs), windowMessages)
}

// store publishes messages, in order, until the broker has confirmed all. Those that it has not
// confirmed are sent again; the broker recognises by their ids those that it has stored already.
func (q *Queue) store(ctx context.Context, msgs []*nats.Msg) error {
	return q.call(ctx, "publish", func(ctx context.Context) error {
		var err error
		msgs, err = q.publish(ctx, msgs)
		return err
	})
}

// publish sends the messages once. It returns those that were not confirmed, and the first error.
func (q *Queue) publish(ctx context.Context, msgs []*nats.Msg) ([]*nats.Msg, error) {
	futures := make([]jetstream.PubAckFuture, 0, len(msgs))
	var first error
	for _, m := range msgs {
		f, err := q.js.PublishMsgAsync(m)
		if err != nil {
			first = err
			break
		}
		futures = append(futures, f)
	}
	var rest []*nats.Msg
	for i, f := range futures {
		if err := confirmed(ctx, f); err != nil {
			if first == nil {
				first = err
			}
			rest = append(rest, msgs[i])
		}
	}
	return append(rest, msgs[len(futures):]...), first
}

// confirmed waits for the broker's answer to one message.
func confirmed(ctx context.Context, f jetstream.PubAckFuture) error {
	select {
	case <-f.Ok():
		return nil
	case err := <-f.Err():
		return err
	case <-ctx.Done():
	}
	select {
	case <-f.Ok(): // the confirmation came at the same time as the end of ctx
		return nil
	default:
		return ctx.Err()
	}
}
