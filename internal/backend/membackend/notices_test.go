package membackend_test

import (
	"errors"
	"testing"

	"cloudmaster/internal/backend/backendtest"
	"cloudmaster/internal/backend/membackend"
	"cloudmaster/internal/queue"
)

func TestNotices(t *testing.T) {
	t.Parallel()
	b := membackend.New()
	backendtest.TestNotices(t, b, b, membackend.New())
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := b.Notify("news", nil); !errors.Is(err, queue.ErrClosed) {
		t.Errorf("notify after the end: got %v, want %v", err, queue.ErrClosed)
	}
	if _, err := b.Listen("news", func([]byte) {}); !errors.Is(err, queue.ErrClosed) {
		t.Errorf("listen after the end: got %v, want %v", err, queue.ErrClosed)
	}
}
