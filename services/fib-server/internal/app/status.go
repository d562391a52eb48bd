package app

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"cloudmaster/internal/agent"
	"cloudmaster/internal/backend"
	"cloudmaster/internal/queue"
)

// statusQueue is the pool's status queue. It is opened when the first message is sent, so that only the sending waits
// for a broker that is away.
type statusQueue struct {
	openers backend.Openers
	me      agent.UserData
	log     *slog.Logger
	count   func(service, operation string, err error)

	mu      sync.Mutex
	backend backend.Backend // guarded by mu; nil before it is open
	queue   queue.Queue     // guarded by mu; nil before it is open
}

func newStatusQueue(
	openers backend.Openers, me agent.UserData, log *slog.Logger, count func(service, operation string, err error),
) *statusQueue {
	return &statusQueue{openers: openers, me: me, log: log, count: count}
}

// Send sends the messages, and waits for the broker as long as ctx allows.
func (s *statusQueue) Send(ctx context.Context, bodies ...[]byte) error {
	q, err := s.open(ctx)
	if err != nil {
		return err
	}
	return q.Send(ctx, bodies...)
}

func (s *statusQueue) open(ctx context.Context) (queue.Queue, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.queue != nil {
		return s.queue, nil
	}
	if s.backend == nil {
		b, err := backend.Open(ctx, s.me.Backend, s.openers, backend.Options{
			Deployment: s.me.Deployment, Client: Name, PolicyFile: policyFile, Log: s.log, Count: s.count,
		})
		if err != nil {
			return nil, err
		}
		s.backend = b
	}
	q, err := s.backend.Queue(ctx, s.me.Queues.Status)
	if err != nil {
		return nil, fmt.Errorf("open status queue %s: %w", s.me.Queues.Status, err)
	}
	s.queue = q
	return q, nil
}

func (s *statusQueue) close(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.backend == nil {
		return
	}
	if err := s.backend.Close(); err != nil {
		s.log.WarnContext(ctx, "status queue was not closed in order", "error", err)
	}
}
