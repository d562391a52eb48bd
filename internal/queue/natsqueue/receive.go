package natsqueue

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"cloudmaster/internal/queue"
)

const (
	mostPerPull  = 1000
	bytesPerPull = 16 << 20
	// longestPull bounds one request, and so how long a Receive may wait in vain when
	// the broker's node that held its request died without a word.
	longestPull = 5 * time.Second
)

// mostBytes bounds one delivery. The broker closes connections that more than 64 MiB wait for.
func (q *Queue) mostBytes() int { return max(bytesPerPull, 2*int(q.nc.MaxPayload())) }

// Receive implements queue.Queue. It returns at most 1000 messages.
func (q *Queue) Receive(ctx context.Context, most int, wait time.Duration) ([]queue.Message, error) {
	if most < 1 {
		return nil, fmt.Errorf("receive from %s: at most %d messages asked for, want 1 or more", q.name, most)
	}
	deadline := time.Now().Add(max(wait, 0))
	for {
		msgs, err := q.pullOnce(ctx, min(most, mostPerPull), deadline)
		if err != nil {
			return nil, fmt.Errorf("receive from %s: %w", q.name, err)
		}
		living := q.living(ctx, msgs)
		if len(living) > 0 || len(msgs) == 0 && !time.Now().Before(deadline) {
			return living, nil
		}
	}
}

// pullOnce makes one request to the broker, repeated while it cannot answer.
func (q *Queue) pullOnce(ctx context.Context, most int, deadline time.Time) ([]queue.Message, error) {
	var got []*nats.Msg
	limit := min(time.Until(deadline), longestPull)
	// The request keeps its own time, not that of a try: a batch that is coming in may take longer.
	err := q.callFor(ctx, "pull", max(limit, 0), func(context.Context) error {
		wait := min(time.Until(deadline), limit)
		var err error
		got, err = q.pull(ctx, request{batch: most, wait: wait, maxBytes: q.mostBytes()})
		return err
	})
	if err != nil {
		return nil, err
	}
	msgs := make([]queue.Message, 0, len(got))
	for _, m := range got {
		msg, err := message(m)
		if err != nil {
			return nil, err
		}
		msgs = append(msgs, msg)
	}
	return msgs, nil
}

// living moves messages that were delivered too often to the dead letters, and returns the others.
func (q *Queue) living(ctx context.Context, msgs []queue.Message) []queue.Message {
	if q.deliveries == 0 {
		return msgs
	}
	alive := make([]queue.Message, 0, len(msgs))
	for _, m := range msgs {
		if m.Deliveries <= q.deliveries {
			alive = append(alive, m)
			continue
		}
		q.condemn(ctx, m)
	}
	return alive
}

// condemn buries a message that was received too often. If it cannot, the message stays in
// flight and meets its next receiver when its visibility timeout is over.
//
// The broker's own limit (MaxDeliver) is no help: it stops delivering and leaves the message in the
// stream, told only in an advisory that nobody may hear.
func (q *Queue) condemn(ctx context.Context, m queue.Message) {
	m.Deliveries--
	reason := fmt.Sprintf("received %d times without being deleted", m.Deliveries)
	if err := q.Bury(ctx, m, reason); err != nil {
		q.log.WarnContext(ctx, "cannot bury a message that was received too often", "id", m.ID, "error", err)
	}
}

// owns reports whether a receipt was given by this queue.
func (q *Queue) owns(r queue.Receipt) bool {
	tokens := strings.SplitN(string(r), ".", 7)
	if len(tokens) < 7 || tokens[0] != "$JS" || tokens[1] != "ACK" {
		return false
	}
	stream := streamName(q.name)
	// $JS.ACK.<stream>.<consumer>.… or $JS.ACK.<domain>.<account hash>.<stream>.<consumer>.…
	return tokens[2] == stream && tokens[3] == consumerName || tokens[4] == stream && tokens[5] == consumerName
}

// message reads a delivery; what is not in the body is in the subject for its acknowledgement.
func message(m *nats.Msg) (queue.Message, error) {
	meta, err := m.Metadata()
	if err != nil {
		return queue.Message{}, fmt.Errorf("read delivery %q: %w", m.Reply, err)
	}
	return queue.Message{
		ID:         strconv.FormatUint(meta.Sequence.Stream, 10),
		Body:       m.Data,
		SentAt:     meta.Timestamp,
		Deliveries: int(meta.NumDelivered),
		Receipt:    queue.Receipt(m.Reply),
	}, nil
}
