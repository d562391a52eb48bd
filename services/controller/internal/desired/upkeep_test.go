package desired_test

import (
	"errors"
	"testing"
	"time"

	"cloudmaster/internal/policy/manual"
)

// TestDeletedQueuesAreMadeAnew while the pool runs, as soon as that is possible, and tried no more often than every ten
// seconds until then. No instance suffers by it.
func TestDeletedQueuesAreMadeAnew(t *testing.T) {
	bubble(t, func(w *world) {
		p := want("a", 0, 4)
		p.Loop.Judge.Policy, p.Orders.Name = manual.Manual{}, "a-manual"
		c, tasks := w.mustLead(1)
		w.apply(c, p)
		w.order(&p, 2, true)
		w.run(tasks, 30*time.Second)
		before := w.running("a")
		names := []string{"a-work", "a-status", "a-manual"}
		for _, name := range names {
			w.queue(name).Remove()
			w.deleted[name], w.opens[name] = true, 0
		}
		w.broken = errors.New("the broker takes no queues")
		w.run(tasks, 65*time.Second)
		for _, name := range names {
			if got := w.opens[name]; got < 6 || got > 7 {
				w.t.Errorf("%s: got %d attempts in 65 s, want 6 or 7", name, got)
			}
		}
		w.broken = nil
		w.run(tasks, 11*time.Second)
		w.order(&p, 1, false)
		w.run(tasks, 30*time.Second)
		if len(w.deleted) > 0 {
			w.t.Errorf("got %v, want all of them made anew", w.deleted)
		}
		if got := w.running("a"); len(got) != 3 || len(before) != 2 || !same(got[:2], before) {
			w.t.Errorf("got %v, want %v and one more", got, before)
		}
	})
}
