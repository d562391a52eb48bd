package membackend

import (
	"fmt"
	"slices"

	"cloudmaster/internal/queue"
)

// ear is somebody who listens.
type ear struct {
	take func(data []byte)
}

// Notify implements backend.Notices. All that listen have taken the notice when it returns.
func (b *Backend) Notify(topic string, data []byte) error {
	b.mu.Lock()
	ears, closed := slices.Clone(b.ears[topic]), b.closed
	b.mu.Unlock()
	if closed {
		return fmt.Errorf("notify %s: %w", topic, queue.ErrClosed)
	}
	for _, e := range ears {
		e.take(slices.Clone(data))
	}
	return nil
}

// Listen implements backend.Notices.
func (b *Backend) Listen(topic string, take func(data []byte)) (stop func(), err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, fmt.Errorf("listen to %s: %w", topic, queue.ErrClosed)
	}
	if b.ears == nil {
		b.ears = map[string][]*ear{}
	}
	own := &ear{take}
	b.ears[topic] = append(b.ears[topic], own)
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.ears[topic] = slices.DeleteFunc(b.ears[topic], func(e *ear) bool { return e == own })
	}, nil
}
