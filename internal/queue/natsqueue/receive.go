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
	// longestPull bounds one request. It is therefore also how long a Receive may wait in vain after
	// the broker's node that had its request has died silently.
	longestPull = 5 * time.Second
)

// mostBytes bounds what one delivery may bring. The broker closes connections for which more than 64 MiB wait.
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

// pullOnce makes one request to the broker, and repeats it while the broker cannot answer.
func (q *Queue) pullOnce(ctx context.Context, most int, deadline time.Time) ([]queue.Message, error) {
	var got []*nats.Msg
	limit := min(time.Until(deadline), longestPull)
	whole := ctx
	// The request ignores the time limit of a try, because it has its own: a batch that is arriving may take longer.
	err := q.callFor(ctx, "pull", max(limit, 0), func(ctx context.Context) error {
		if q.lost.Load() {
			if err := q.bind(ctx); err != nil {
				return err
			}
		}
		wait := min(time.Until(deadline), limit)
		var err error
		got, err = q.pull(whole, request{batch: most, wait: wait, maxBytes: q.mostBytes()})
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
	q.restartClocks(msgs)
	return msgs, nil
}

// restartClocks tells the broker that the visibility timeouts of these messages begin now. It knows that as long as it
// runs; but into its files it writes, as the time of the delivery, the time at which the message was sent. After a
// restart it would therefore take what had waited for long for expired at once, and give it to a second receiver,
// although the first one has just begun. An extension is written with its own time. Whether a message is old is seen by
// our clock: if that is wrong, it is extended once more than needed. Nobody waits for the answer. What has waited for
// less than a quarter of the timeout is left as it is, because an extension costs a third of what receiving costs.
func (q *Queue) restartClocks(msgs []queue.Message) {
	now, fresh := time.Now(), q.Visibility()/4
	for _, m := range msgs {
		if now.Sub(m.SentAt).Abs() < fresh {
			continue
		}
		if err := q.nc.Publish(string(m.Receipt), []byte(ackProgress)); err != nil {
			q.log.Debug("extend what was just received", "error", err) // its holder will extend it
			return
		}
	}
}

// living returns the messages, except those that were delivered too often, which it moves to the
// dead letters.
func (q *Queue) living(ctx context.Context, msgs []queue.Message) []queue.Message {
	limit := q.terms.Load().deliveries
	if limit == 0 {
		return msgs
	}
	alive := make([]queue.Message, 0, len(msgs))
	for _, m := range msgs {
		if m.Deliveries <= limit {
			alive = append(alive, m)
			continue
		}
		q.condemn(ctx, m)
	}
	return alive
}

// condemn buries a message that was received too often. If that fails, the message stays in flight,
// and the receiver that gets it after its visibility timeout tries again.
//
// The broker's own limit (MaxDeliver) is no substitute: the broker would stop delivering the
// message but leave it in the stream, and report it only in an advisory, which may have no listener.
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

// message converts a delivery. All that is not in the body is in the subject for its
// acknowledgement.
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
		Sender:     senderOf(m.Subject),
	}, nil
}

// senderOf returns the name that ends the subject of a message which was sent under a name (sentBy).
func senderOf(subject string) string {
	_, sender, _ := strings.Cut(strings.TrimPrefix(subject, subjectName("")), ".")
	return sender
}
