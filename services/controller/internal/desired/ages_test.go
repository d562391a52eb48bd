package desired_test

import (
	"testing"
	"time"

	"cloudmaster/internal/queue"
	"cloudmaster/services/controller/internal/record"
)

// TestRecordsSayHowOldMessagesAre: of the pool that was told, also after its tasks were started anew.
func TestRecordsSayHowOldMessagesAre(t *testing.T) {
	bubble(t, func(w *world) {
		c, tasks := w.mustLead(1)
		a, b := want("a", 0, 2), want("b", 0, 2)
		w.apply(c, a, b)
		if got := c.WorkQueues(); len(got) != 2 || got["a"] != "a-work" || got["b"] != "b-work" {
			t.Errorf("got %v, want both pools' queues", got)
		}
		c.TellAges("a", record.Ages{Work: queue.Age{Known: true, Oldest: time.Hour}})
		c.TellAges("gone", record.Ages{})
		a.ServicePort = 80
		w.apply(c, a, b)
		w.passes = nil
		w.run(tasks, time.Minute)
		for _, r := range w.passes {
			if known := r.Ages.Work.Known; known != (r.Pool == "a") {
				t.Errorf("pool %s: got %+v", r.Pool, r.Ages)
			}
		}
		if len(w.passes) == 0 {
			t.Error("no pass was made")
		}
	})
}
