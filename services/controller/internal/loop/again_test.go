package loop_test

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestOneThatFindsWorkIsNotToldToEndAgain: the cloud has refused to end an idle instance. Before it is told again the
// active set is written, and while that takes its time the instance reports that it has found work. Then it may do it
// first.
func TestOneThatFindsWorkIsNotToldToEndAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := jobPool()
		cfg.Blob, cfg.Maximum, cfg.ActiveSetInterval = true, 2, time.Second
		s := newStepped(t, cfg, nil, bootsIn(2*time.Second))
		defer s.close()
		s.workers.scripted = true
		s.startController()
		s.send(4)
		s.pass(10 * time.Second)
		idle, busy := s.workers.worker(first), s.workers.worker(second)
		busy.take(t.Context())
		s.tap.breakDown("cloud.terminate", errAway)
		s.takeAway(3)
		s.pass(2 * time.Minute)
		s.tap.heal()
		busy.set(0.5) // so that there is something to write
		s.tap.meanwhile = func() {
			if last := s.tap.calls[len(s.tap.calls)-1]; last.op == "store.put" {
				s.tap.meanwhile = nil
				idle.set(1)
				s.pass(0)
			}
		}
		s.pass(time.Minute)
		s.wantStates("i-000001:active i-000002:active")
		idle.set(0)
		s.pass(time.Minute)
		s.wantStates("i-000002:active")
	})
}
