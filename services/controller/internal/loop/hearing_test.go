package loop_test

import (
	"testing"
	"time"
)

// TestSuccessorWaitsForWhatItsPredecessorHolds: an empty status queue is no proof that all has been heard while a dead
// controller may have the newest messages in flight.
func TestSuccessorWaitsForWhatItsPredecessorHolds(t *testing.T) {
	t.Parallel()
	bubble(t, jobPool(), func(b *bench) {
		b.workers.setStuck(true) // it speaks by hand
		b.send(1)
		b.pass(2 * time.Second)
		b.say(first, 0, time.Now(), 1)
		b.pass(5 * time.Minute)
		b.wantStates("i-000001:active")
		b.stopController()
		b.takeAway(1)
		b.say(first, 1, time.Now(), 3)                   // it has taken a job
		b.say(first, 0, time.Now().Add(-time.Minute), 2) // and this comes later: SQS keeps no order
		if batch, err := b.status.Receive(t.Context(), 1, 0); err != nil || len(batch) != 1 {
			b.t.Fatalf("got %d messages and error %v, want the newest status", len(batch), err)
		}
		b.startController()
		b.pass(20 * time.Second)
		b.wantStates("i-000001:active")
	})
}
