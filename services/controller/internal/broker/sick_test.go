package broker

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
)

// TestRunTellsThatTheStoreFails checks that Run returns an error when the store fails. The server itself only
// logs it, and goes on without working.
func TestRunTellsThatTheStoreFails(t *testing.T) {
	t.Parallel()
	b := &Broker{sick: make(chan string, 1)}
	l := &serverLog{log: slog.New(slog.DiscardHandler), sick: b.sick}
	l.Warnf("Slow consumer on %s", "x")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Run(ctx); err != nil {
		t.Errorf("got %v from an ordinary warning, want none", err)
	}
	l.Errorf("JetStream failed to store a msg on stream '%s > %s': write /x/1.blk: no space left on device", "$G",
		"status")
	// Nobody has received the first reason yet, and this must not block.
	l.Warnf("JetStream failed to store a msg: %s", "critical write error")
	err := b.Run(t.Context())
	if !errors.Is(err, ErrStore) || !strings.Contains(err.Error(), "no space left") ||
		!strings.Contains(err.Error(), "start the controller again") {
		t.Errorf("got %v, want ErrStore with reason and next step", err)
	}
}
