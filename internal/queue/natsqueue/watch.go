package natsqueue

import (
	"context"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Watch implements queue.Watcher. The broker announces each stored message, with headers only, on a
// subject of its own, whether or not anybody listens. Messages that become visible again are not
// announced. After a lost connection Watch signals once, because announcements may have been missed.
func (q *Queue) Watch(ctx context.Context) (<-chan struct{}, error) {
	c := make(chan struct{}, 1)
	signal := func() {
		select {
		case c <- struct{}{}:
		default: // the last signal has not been read yet: it stands for this one as well
		}
	}
	sub, err := q.nc.Subscribe(hintName(q.name), func(m *nats.Msg) {
		if n, err := strconv.ParseUint(m.Header.Get(jetstream.SequenceHeader), 10, 64); err == nil {
			q.announced.Store(n)
		}
		signal()
	})
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", q.name, classify(err))
	}
	// After this round trip the broker knows our subscription: whatever is stored from now on is
	// announced to us.
	if err := q.call(ctx, "subscribe", q.nc.FlushWithContext); err != nil {
		q.unsubscribe(sub)
		return nil, fmt.Errorf("watch %s: %w", q.name, err)
	}
	connected := q.nc.StatusChanged(nats.CONNECTED)
	go q.relay(connected, signal)
	context.AfterFunc(ctx, func() {
		q.unsubscribe(sub)
		q.nc.RemoveStatusListener(connected) // also closes the channel, which ends relay
	})
	return c, nil
}

// relay signals after each reconnect until connected is closed.
func (q *Queue) relay(connected <-chan nats.Status, signal func()) {
	for range connected {
		signal()
	}
}

// unsubscribe ends a subscription. It ignores errors, which mean that the subscription has already ended.
func (q *Queue) unsubscribe(sub *nats.Subscription) {
	if err := sub.Unsubscribe(); err != nil {
		q.log.Debug("unsubscribe", "subject", sub.Subject, "error", err)
	}
}
