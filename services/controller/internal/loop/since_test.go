package loop_test

import (
	"strings"
	"testing"
	"time"

	"cloudmaster/internal/blob/memblob"
	"cloudmaster/internal/policy"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
	"cloudmaster/internal/queue/memqueue"
	"cloudmaster/services/controller/internal/loop"
	"cloudmaster/services/controller/internal/roster"
)

// TestAListFromBeforeThePoolDoesNotCount: the pool may have run before, and launched after that list was asked for.
func TestAListFromBeforeThePoolDoesNotCount(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	r := roster.New("mem", roster.Options{})
	machines := stand(t, 0, r, now)
	l := loop.New(loop.Options{
		Judge:          policy.Judge{Policy: policy.Fixed{}, Limits: pool.Limits{Minimum: 1, Maximum: 1}},
		PolicyInterval: time.Minute, ReportInterval: time.Hour,
	}, loop.Ports{
		Pool: "p", Cloud: machines, Inventory: machines, Roster: r, Store: memblob.New(),
		Work:  memqueue.New("work", queue.Limits{}),
		Since: now.Add(time.Millisecond), Now: func() time.Time { return now }, Token: func() string { return "token" },
	})
	rec := l.Step(t.Context(), now.Add(time.Millisecond)) // machines panics if it is asked to launch
	if !strings.Contains(rec.Blind, "has not been listed since the pool was added") {
		t.Errorf("got %q, %s, want it to wait for a list", rec.Blind, rec.Words)
	}
	if rec.Next.Sub(rec.At) > time.Second {
		t.Errorf("got the next look after %s, want it soon: the list may come without news", rec.Next.Sub(rec.At))
	}
}
