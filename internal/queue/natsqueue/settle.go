package natsqueue

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"cloudmaster/internal/queue"
)

// The acknowledgements that the broker understands on the subject of a receipt.
const (
	ackDone     = "+ACK"
	ackProgress = "+WPI"
	ackRelease  = "-NAK"
)

// Extend implements queue.Queue.
func (q *Queue) Extend(ctx context.Context, receipts ...queue.Receipt) error {
	if err := q.acknowledge(ctx, "extend", ackProgress, receipts); err != nil {
		return fmt.Errorf("extend %d messages of %s: %w", len(receipts), q.name, err)
	}
	return nil
}

// Release implements queue.Queue.
func (q *Queue) Release(ctx context.Context, receipts ...queue.Receipt) error {
	if err := q.acknowledge(ctx, "release", ackRelease, receipts); err != nil {
		return fmt.Errorf("release %d messages of %s: %w", len(receipts), q.name, err)
	}
	return nil
}

// Delete implements queue.Queue.
func (q *Queue) Delete(ctx context.Context, receipts ...queue.Receipt) error {
	if err := q.acknowledge(ctx, "delete", ackDone, receipts); err != nil {
		return fmt.Errorf("delete %d messages of %s: %w", len(receipts), q.name, err)
	}
	return nil
}

// acknowledge sends verb for all receipts and waits only until the broker has confirmed the last
// one. That confirms all of them: they travel on one connection, and the broker puts the
// acknowledgements for a consumer into one queue, which one goroutine works off in order (in a
// cluster, into one log). Repeating an acknowledgement is harmless.
func (q *Queue) acknowledge(ctx context.Context, operation, verb string, receipts []queue.Receipt) error {
	if len(receipts) == 0 {
		return nil
	}
	for _, r := range receipts {
		if !q.owns(r) {
			return fmt.Errorf("receipt %q was not given by this queue", r)
		}
	}
	// An extension that gets lost must be repeated while the message is still in flight.
	each := min(q.opts.Patience/tries, q.Visibility()/3)
	body := []byte(verb)
	last := len(receipts) - 1
	return q.callIn(ctx, operation, q.opts.Patience, each, func(ctx context.Context) error {
		for _, r := range receipts[:last] {
			if err := q.nc.Publish(string(r), body); err != nil {
				return err
			}
		}
		_, err := q.nc.RequestWithContext(ctx, string(receipts[last]), body)
		return err
	})
}

// Bury implements queue.Queue.
func (q *Queue) Bury(ctx context.Context, m queue.Message, reason string) error {
	if !q.owns(m.Receipt) {
		return fmt.Errorf("bury message %s of %s: receipt %q was not given by this queue", m.ID, q.name, m.Receipt)
	}
	if err := q.addLetter(ctx, m, reason); err != nil {
		return fmt.Errorf("bury message %s of %s: %w", m.ID, q.name, err)
	}
	if err := q.acknowledge(ctx, "delete", ackDone, []queue.Receipt{m.Receipt}); err != nil {
		return fmt.Errorf("bury message %s of %s: %w", m.ID, q.name, err)
	}
	return nil
}

// addLetter stores a copy of m among the dead letters. Its id is made from m's, so that
// repetitions, also by other receivers, result in one letter only, and from m's time, because a stream that is made
// anew numbers its messages from 1 again.
func (q *Queue) addLetter(ctx context.Context, m queue.Message, reason string) error {
	dead := queue.DeadLetters(q.name)
	letter := &nats.Msg{
		Subject: subjectName(dead),
		Data:    m.Body,
		Header: nats.Header{
			jetstream.MsgIDHeader: {q.name + "-" + m.ID + "-" + strconv.FormatInt(m.SentAt.UnixNano(), 10)},
			headerReason:          {oneLine(reason)},
			headerOrigin:          {q.name},
			headerOriginID:        {m.ID},
			headerReceipts:        {strconv.Itoa(m.Deliveries)},
		},
	}
	return q.call(ctx, "publish", func(ctx context.Context) error {
		_, err := q.js.PublishMsg(ctx, letter)
		if errors.Is(err, jetstream.ErrNoStreamResponse) {
			if _, missing := q.js.Stream(ctx, streamName(dead)); notFound(missing) {
				return q.firstLetter(ctx, letter)
			}
		}
		return err
	})
}

// oneLine makes text fit for a header: it replaces control characters by spaces and limits the length.
func oneLine(text string) string {
	const most = 1000
	out := make([]rune, 0, min(len(text), most))
	for _, r := range text {
		if len(out) == most {
			break
		}
		if r < ' ' || r == 0x7f {
			r = ' '
		}
		out = append(out, r)
	}
	return string(out)
}
