package backoff_test

import (
	"context"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"cloudmaster/internal/backoff"
)

func TestDelay(t *testing.T) {
	t.Parallel()
	const least, most = 50 * time.Millisecond, 5 * time.Second
	for failures, want := range map[int]time.Duration{
		-1: least, 0: least, 1: least, 2: 2 * least, 3: 4 * least, 7: 64 * least, 8: most, 9: most, 100: most,
		math.MaxInt: most,
	} {
		for range 100 {
			if got := backoff.Delay(failures, least, most); got < want/2 || got > want {
				t.Fatalf("%d failures: got %s, want %s to %s", failures, got, want/2, want)
			}
		}
	}
}

func TestWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		if !backoff.Wait(ctx, time.Second) || time.Since(start) != time.Second {
			t.Errorf("got an end after %s, want the whole of 1s", time.Since(start))
		}
		if backoff.Wait(ctx, time.Hour) || time.Since(start) != time.Minute {
			t.Errorf("got an end after %s, want the context's after 1m", time.Since(start))
		}
		if backoff.Wait(ctx, 0) {
			t.Error("got true for a context that has ended")
		}
	})
}
