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

// request asks the consumer for messages. nats.go's own Fetch either does not wait or waits for a
// full batch; the broker can also wait for the first message and then give what there is, which is
// no_wait together with expires.
type request struct {
	batch    int
	wait     time.Duration // ≤ 0: what is there now
	maxBytes int           // 0: no limit
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
	// How long after its time a request may stay unanswered, and how long a batch that has begun may
	// stop coming before we take it as it is. Its end is told at once, so this is for emergencies;
	// too short, it would on a slow machine hand back what is just coming in, and that counts as deliveries.
	grace = time.Second
)

// pull sends one request and returns what it brings. Nothing within r.wait is no error.
func (q *Queue) pull(ctx context.Context, r request) ([]*nats.Msg, error) {
	interrupted := q.nc.StatusChanged(nats.RECONNECTING, nats.CLOSED)
	defer q.nc.RemoveStatusListener(interrupted)
	in, err := q.ask(r)
	if err != nil {
		return nil, err
	}
	// The broker may have sent messages that we shall not wait for; in hands them back.
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

// ask sends the request with an inbox for the answers.
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

// redeliverable reports whether a message waits to be delivered again. The broker does not
// count those, but a request with room for one byte finds out without taking any: it is
// refused because of the size if there is something to deliver, and ends empty if not.
func (q *Queue) redeliverable(ctx context.Context) (bool, error) {
	found := false
	err := q.call(ctx, "pull", func(ctx context.Context) error {
		_, err := q.pull(ctx, request{batch: 1, maxBytes: 1})
		found = errors.Is(err, errTooBig)
		if found || errors.Is(err, errOthersFirst) {
			return nil // what others wait for is as good as taken
		}
		return err
	})
	return found, err
}

// inbox collects the answers to one request.
type inbox struct {
	queue   *Queue
	sub     *nats.Subscription
	arrived chan struct{} // cap 1: something is new since the last look

	mu    sync.Mutex
	msgs  []*nats.Msg // guarded by mu
	want  int         // how many there will be; guarded by mu
	ended bool        // the broker will send no more; guarded by mu
	err   error       // why it ended early; guarded by mu
	left  bool        // nobody waits any more; guarded by mu
}

// receive is called by the connection for each answer, in order.
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

// look returns the batch if it is complete.
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

// take returns the batch as it is, and err only if that is nothing.
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

// leave ends the request. What was not taken, or still arrives, is handed back at once, so that it
// need not wait for its visibility timeout: when the broker has seen the subscription end it
// delivers elsewhere what it can no longer deliver here.
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

// handBack releases a message that nobody waits for. If that fails its visibility timeout does it.
func (q *Queue) handBack(m *nats.Msg) {
	err := q.nc.Publish(m.Reply, []byte(ackRelease))
	q.opts.Count("release", err)
	if err != nil {
		q.log.Debug("hand back a late message", "error", err)
	}
}

// isStatus tells the broker's word about a request from a message, which wants an acknowledgement.
func isStatus(m *nats.Msg) bool { return m.Reply == "" }
