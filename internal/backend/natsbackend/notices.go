package natsbackend

import (
	"fmt"
	"slices"

	"github.com/nats-io/nats.go"

	"cloudmaster/internal/backend"
)

var _ backend.Notices = (*Backend)(nil)

// noticeSubject returns the subject of a topic's notices. Deployments on one broker do not hear each other.
func (b *Backend) noticeSubject(topic string) (string, error) {
	if bad := unsafe.FindString(topic); bad != "" || topic == "" {
		return "", fmt.Errorf("topic %q: use A-Z a-z 0-9 _ and -", topic)
	}
	own, err := b.own()
	if err != nil {
		return "", err
	}
	return own + ".notice." + topic, nil
}

// Notify implements backend.Notices. While the broker is away it returns an error.
func (b *Backend) Notify(topic string, data []byte) error {
	subject, err := b.noticeSubject(topic)
	if err == nil {
		err = b.nc.Publish(subject, data)
		b.count("Notify", err)
	}
	if err != nil {
		return fmt.Errorf("notify %s: %w", topic, err)
	}
	return nil
}

// Listen implements backend.Notices. It goes on when a lost connection is made again.
func (b *Backend) Listen(topic string, take func(data []byte)) (stop func(), err error) {
	subject, err := b.noticeSubject(topic)
	if err != nil {
		return nil, fmt.Errorf("listen to %s: %w", topic, err)
	}
	sub, err := b.nc.Subscribe(subject, func(m *nats.Msg) { take(slices.Clone(m.Data)) })
	b.count("Listen", err)
	if err != nil {
		return nil, fmt.Errorf("listen to %s: %w", topic, err)
	}
	return func() { _ = sub.Unsubscribe() }, nil // it fails only if the connection is closed, and all with it
}
