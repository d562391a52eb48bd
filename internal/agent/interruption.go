package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"cloudmaster/internal/backoff"
)

// ErrInterrupted is the cause of a context that ended because the cloud takes the machine back.
var ErrInterrupted = errors.New("the cloud takes this instance back")

// interruptionInterval is what EC2 recommends; its notice comes two minutes before the end.
const interruptionInterval = 5 * time.Second

// UntilInterrupted returns a context that also ends, with ErrInterrupted as its cause, when the cloud announces that it
// takes the machine back. Where there is no cloud (m is nil, or OnEC2 is false) nothing is asked. The function that it
// returns ends the watch and must be called.
func UntilInterrupted(ctx context.Context, m Metadata, log *slog.Logger) (context.Context, func()) {
	if m == nil || !m.OnEC2() {
		return ctx, func() {}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		if notice := interruption(ctx, m, log); notice != "" {
			log.WarnContext(ctx, "the cloud takes this instance back; stopping as at a signal", "notice", notice)
			cancel(fmt.Errorf("%w: %s", ErrInterrupted, notice))
		}
	})
	return ctx, func() {
		cancel(nil)
		wg.Wait()
	}
}

// interruption waits for a notice; empty if ctx ended before.
func interruption(ctx context.Context, m Metadata, log *slog.Logger) string {
	for said := false; ; {
		notice, err := m.Interruption(ctx)
		switch {
		case ctx.Err() != nil:
			return ""
		case err == nil && notice != "":
			return notice
		case err != nil && !said:
			log.DebugContext(ctx, "cannot ask whether the cloud takes this instance back; trying again", "error", err)
			said = true
		}
		if !backoff.Wait(ctx, interruptionInterval) {
			return ""
		}
	}
}
