package natsqueue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// request asks the consumer for messages. The Fetch of nats.go either does not wait at all or waits
// until the batch is full. The broker itself can also wait for the first message and then return
// what is there: no_wait together with expires asks for this.
type request struct {
	batch    int
	wait     time.Duration // 0 or less: return what is there now, without waiting
	maxBytes int           // 0 means no limit
}

func (r request) encode() ([]byte, error) {
	return json.Marshal(struct {
		Batch    int           `json:"batch"`
		NoWait   bool          `json:"no_wait"`
		Expires  time.Duration `json:"expires,omitempty"`
		MaxBytes int           `json:"max_bytes,omitempty"`
	}{r.batch, true, max(r.wait, 0), r.maxBytes})
}

const (
	// grace is how long we wait for an answer after the request's own time is over, and how long a
	// batch that has begun may pause before we return what has come so far. Normally the broker
	// reports the end of a request at once, so this is for emergencies only. A shorter time would, on
	// a slow machine, hand back messages that are just arriving, and each of these counts as a delivery.
	grace = time.Second
)

// pull sends one request and returns the messages that it brings. No message within r.wait is not an error.
func (q *Queue) pull(ctx context.Context, r request) ([]*nats.Msg, error) {
	interrupted := q.nc.StatusChanged(nats.RECONNECTING, nats.CLOSED)
	defer q.nc.RemoveStatusListener(interrupted)
	in, err := q.ask(r)
	if err != nil {
		return nil, err
	}
	// When we return early the broker may already have sent messages; leave hands these back.
	defer in.leave()

	patience := min(grace, q.opts.Patience/tries)
	timer := time.NewTimer(max(r.wait, 0) + patience)
	defer timer.Stop()
	for {
		select {
		case <-in.arrived:
			if msgs, done, err := in.look(); done {
				return msgs, err
			}
			timer.Reset(patience)
		case <-timer.C:
			return in.take(errNoAnswer)
		case <-interrupted:
			return in.take(errInterrupted)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// ask sends the request and returns the inbox that receives the answers.
func (q *Queue) ask(r request) (*inbox, error) {
	body, err := r.encode()
	if err != nil {
		return nil, fmt.Errorf("encode request: %w", err)
	}
	in := &inbox{queue: q, want: r.batch, arrived: make(chan struct{}, 1)}
	subject := q.nc.NewInbox()
	if in.sub, err = q.nc.Subscribe(subject, in.receive); err != nil {
		return nil, err
	}
	next := "$JS.API.CONSUMER.MSG.NEXT." + streamName(q.name) + "." + consumerName
	if err := q.nc.PublishRequest(next, subject, body); err != nil {
		in.leave()
		return nil, err
	}
	return in, nil
}

// redeliverable reports whether a message waits to be delivered again. The broker does not count
// such messages. A request with room for one byte finds out without receiving any: the broker
// refuses it because of its size if there is something to deliver, and otherwise ends it without a message.
func (q *Queue) redeliverable(ctx context.Context) (bool, error) {
	found := false
	err := q.call(ctx, "pull", func(ctx context.Context) error {
		_, err := q.pull(ctx, request{batch: 1, maxBytes: 1})
		found = errors.Is(err, errTooBig)
		if found || errors.Is(err, errOthersFirst) {
			return nil // other receivers wait already, and will get whatever there is
		}
		return err
	})
	return found, err
}

// inbox collects the answers to one request.
type inbox struct {
	queue   *Queue
	sub     *nats.Subscription
	arrived chan struct{} // capacity 1: something has arrived since the last look

	mu    sync.Mutex
	msgs  []*nats.Msg // guarded by mu
	want  int         // how many messages will come; guarded by mu
	ended bool        // the broker will send nothing more; guarded by mu
	err   error       // why the request ended early; guarded by mu
	left  bool        // the caller no longer waits; guarded by mu
}

// receive is called by the connection for each answer, in the order of arrival.
func (in *inbox) receive(m *nats.Msg) {
	in.mu.Lock()
	defer in.mu.Unlock()
	switch {
	case !isStatus(m) && in.left:
		in.queue.handBack(m)
		return
	case !isStatus(m):
		in.msgs = append(in.msgs, m)
	default:
		in.want -= missing(m, in.want-len(in.msgs))
		in.err = statusError(m)
	}
	in.ended = len(in.msgs) >= in.want
	select {
	case in.arrived <- struct{}{}:
	default:
	}
}

// look returns the batch if it is complete or has failed.
func (in *inbox) look() (msgs []*nats.Msg, done bool, err error) {
	in.mu.Lock()
	ended, err := in.ended, in.err
	in.mu.Unlock()
	if !ended {
		return nil, false, nil
	}
	msgs, err = in.take(err)
	return msgs, true, err
}

// take returns the messages that have come so far, and err only if there are none.
func (in *inbox) take(err error) ([]*nats.Msg, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	msgs := in.msgs
	in.msgs = nil
	if len(msgs) > 0 {
		return msgs, nil
	}
	return nil, err
}

// leave ends the request. Messages that were not taken, or that still arrive, are handed back at
// once, so that nobody has to wait for their visibility timeout. When the broker has processed the
// end of the subscription, it delivers to other receivers what it can no longer deliver here.
func (in *inbox) leave() {
	in.mu.Lock()
	in.left = true
	rest := in.msgs
	in.msgs = nil
	ended := in.ended
	in.mu.Unlock()
	for _, m := range rest {
		in.queue.handBack(m)
	}
	if ended {
		in.queue.unsubscribe(in.sub)
		return
	}
	if err := in.sub.Drain(); err != nil {
		in.queue.unsubscribe(in.sub)
	}
}

// handBack releases a message for which nobody waits. If that fails, it becomes visible again when
// its visibility timeout is over.
func (q *Queue) handBack(m *nats.Msg) {
	err := q.nc.Publish(m.Reply, []byte(ackRelease))
	q.opts.Count("release", err)
	if err != nil {
		q.log.Debug("hand back a late message", "error", err)
	}
}

// isStatus reports whether m is the broker's report on a request instead of a message. Only a message
// wants an acknowledgement.
func isStatus(m *nats.Msg) bool { return m.Reply == "" }
