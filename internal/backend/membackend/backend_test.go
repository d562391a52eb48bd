package membackend_test

import (
	"context"
	"errors"
	"testing"

	"cloudmaster/internal/backend/membackend"
	"cloudmaster/internal/queue"
)

func TestQueues(t *testing.T) {
	t.Parallel()
	b := membackend.New()
	if _, err := b.Queue(t.Context(), "jobs"); !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("queue before ensure: got %v, want %v", err, queue.ErrNotFound)
	}
	q, err := b.Ensure(t.Context(), "jobs", queue.Limits{})
	if err != nil {
		t.Fatalf("ensure: %v", err)
	}
	again, err := b.Ensure(t.Context(), "jobs", queue.Limits{})
	if err != nil || again != q {
		t.Errorf("ensure again: got %v, error %v, want the same queue", again, err)
	}
	for _, name := range []string{"jobs", queue.DeadLetters("jobs")} {
		if got, err := b.Queue(t.Context(), name); err != nil || got.Name() != name {
			t.Errorf("queue %s: got %v, error %v", name, got, err)
		}
	}
}

func TestBlobs(t *testing.T) {
	t.Parallel()
	b := membackend.New()
	store, err := b.Blobs(t.Context())
	if err != nil {
		t.Fatalf("blobs: %v", err)
	}
	if _, err := store.Put(t.Context(), "k", nil, ""); err != nil {
		t.Fatalf("put: %v", err)
	}
	if _, err := b.Store().Get(t.Context(), "k", ""); err != nil {
		t.Errorf("get from the same store: %v", err)
	}
}

func TestClosed(t *testing.T) {
	t.Parallel()
	b := membackend.New()
	for range 2 {
		if err := b.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	if _, err := b.Ensure(t.Context(), "jobs", queue.Limits{}); !errors.Is(err, queue.ErrClosed) {
		t.Errorf("ensure: got %v, want %v", err, queue.ErrClosed)
	}
	if _, err := b.Queue(t.Context(), "jobs"); !errors.Is(err, queue.ErrClosed) {
		t.Errorf("queue: got %v, want %v", err, queue.ErrClosed)
	}
}

func TestCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b := membackend.New()
	if _, err := b.Ensure(ctx, "jobs", queue.Limits{}); !errors.Is(err, context.Canceled) {
		t.Errorf("ensure: got %v, want %v", err, context.Canceled)
	}
}
