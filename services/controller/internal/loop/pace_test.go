package loop_test

import (
	"testing"
	"time"

	"cloudmaster/services/controller/internal/loop"
)

// TestBurstIsGathered: after quiet the next pass may follow almost at once. While statuses come without end, passes
// become rarer, so that they do not cost a pass each; and after quiet the next one may follow at once again.
func TestBurstIsGathered(t *testing.T) {
	t.Parallel()
	now := time.Now()
	l := standingPool(t, 4, &now)
	afterQuiet(t, l, &now)
	start, passes := now, 0
	for now.Sub(start) < 10*time.Second { // each pass begins as soon as it may
		now = l.Step(t.Context(), now).NotBefore
		passes++
	}
	if passes > 210 {
		t.Errorf("got %d passes in 10 s, want about 20 a second", passes)
	}
	afterQuiet(t, l, &now)
}

// afterQuiet checks how soon a pass may follow one that nobody waited for.
func afterQuiet(t *testing.T, l *loop.Loop, now *time.Time) {
	t.Helper()
	*now = now.Add(time.Second)
	if pause := l.Step(t.Context(), *now).NotBefore.Sub(*now); pause > 10*time.Millisecond {
		t.Errorf("after quiet the next pass may not begin for %s", pause)
	}
}
