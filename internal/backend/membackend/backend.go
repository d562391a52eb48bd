// Package membackend is a backend in memory: the queues and the store of one
// process, for tests and simulations. The zero value is an empty backend.
package membackend

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"cloudmaster/internal/backend"
	"cloudmaster/internal/blob"
	"cloudmaster/internal/blob/memblob"
	"cloudmaster/internal/queue"
	"cloudmaster/internal/queue/memqueue"
)

var (
	_ backend.Backend = (*Backend)(nil)
	_ backend.Notices = (*Backend)(nil)
	_ queue.Ager      = (*Backend)(nil)
)

// Backend holds queues and a store. Its queues are *memqueue.Queue and its store is
// a *memblob.Store, for those who want to inject faults.
type Backend struct {
	mu     sync.Mutex
	queues map[string]*memqueue.Queue // guarded by mu
	closed bool                       // guarded by mu
	ears   map[string][]*ear          // guarded by mu: those that listen, by topic

	store memblob.Store
}

// New returns an empty backend.
func New() *Backend { return &Backend{} }

// Queue implements backend.Backend.
func (b *Backend) Queue(ctx context.Context, name string) (queue.Queue, error) {
	q, err := b.find(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("open queue %s: %w", name, err)
	}
	return q, nil
}

// Ensure implements backend.Backend. The limits of an existing queue stay as they are.
func (b *Backend) Ensure(ctx context.Context, name string, limits queue.Limits) (queue.Queue, error) {
	if ctx.Err() != nil {
		return nil, fmt.Errorf("ensure queue %s: %w", name, context.Cause(ctx))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, fmt.Errorf("ensure queue %s: %w", name, queue.ErrClosed)
	}
	if q, ok := b.queues[name]; ok {
		return q, nil
	}
	if b.queues == nil {
		b.queues = map[string]*memqueue.Queue{}
	}
	q := memqueue.New(name, limits)
	b.queues[name], b.queues[q.Dead().Name()] = q, q.Dead()
	return q, nil
}

// Ages implements queue.Ager.
func (b *Backend) Ages(ctx context.Context, names ...string) (map[string]queue.Age, error) {
	ages := make(map[string]queue.Age)
	for _, name := range names {
		q, err := b.find(ctx, name)
		if err == nil {
			ages[name], err = q.Age(ctx)
		}
		switch {
		case errors.Is(err, queue.ErrNotFound):
			delete(ages, name)
		case err != nil:
			return nil, fmt.Errorf("look how old the messages of %s are: %w", name, err)
		}
	}
	return ages, nil
}

// Blobs implements backend.Backend.
func (b *Backend) Blobs(context.Context) (blob.Store, error) { return &b.store, nil }

// Store returns the store for injecting faults.
func (b *Backend) Store() *memblob.Store { return &b.store }

// Close implements backend.Backend. What the queues hold stays.
func (b *Backend) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	return nil
}

func (b *Backend) find(ctx context.Context, name string) (*memqueue.Queue, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, queue.ErrClosed
	}
	q, ok := b.queues[name]
	if !ok {
		return nil, queue.ErrNotFound
	}
	return q, nil
}
