package desired_test

import (
	"strings"
	"testing"
	"time"

	"cloudmaster/internal/message"
	"cloudmaster/internal/policy"
	"cloudmaster/internal/policy/manual"
	"cloudmaster/internal/policy/schedule"
	"cloudmaster/services/controller/internal/desired"
)

// order sends an operator's order to a pool.
func (w *world) order(p *desired.Pool, n int, absolute bool) {
	w.t.Helper()
	if err := w.queue(p.Orders.Name).Send(w.t.Context(), message.EncodeOrder(n, absolute)); err != nil {
		w.t.Fatal(err)
	}
}

// TestOrdersOutliveTheController: the number that was ordered is kept over a restart and over a take-over, an order
// counts once, and one that arrives while no controller runs is carried out by the next.
func TestOrdersOutliveTheController(t *testing.T) {
	bubble(t, func(w *world) {
		p := want("a", 0, 4)
		p.Loop.Judge.Policy, p.Orders.Name = manual.Manual{}, "a-manual"
		first, tasks := w.mustLead(1)
		w.apply(first, p)
		w.order(&p, 2, true)
		w.order(&p, 1, false)
		w.run(tasks, time.Minute)
		if got := w.running("a"); len(got) != 3 {
			w.t.Fatalf("got %v, want three after orders of two and one more", got)
		}
		before := w.running("a")
		time.Sleep(20 * time.Second) // the first one stands still, so that its lease ends
		w.order(&p, 1, false)
		second, others := w.mustLead(2)
		w.apply(second, p)
		w.run(others, time.Minute)
		if got := w.running("a"); len(got) != 4 || !same(got[:3], before) {
			w.t.Errorf("got %v, want %v and one more", got, before)
		}
		w.order(&p, 9, false)
		w.passes = nil
		w.run(others, time.Minute)
		if got := w.running("a"); len(got) != 4 {
			w.t.Errorf("got %v, want the maximum of four", got)
		}
		said := ""
		for _, r := range w.passes {
			said += r.Words
		}
		if strings.Count(said, "maximum 4 drops 9 of the order") != 1 {
			w.t.Errorf("got %s, want it said once that nine were dropped", said)
		}
	})
}

// TestAWindowBeginsAtItsTime, and not at the next policy interval; a controller that starts in it goes by it at once.
func TestAWindowBeginsAtItsTime(t *testing.T) {
	bubble(t, func(w *world) {
		begin := time.Now().UTC().Add(10 * time.Minute).Truncate(time.Minute)
		three := 3
		made, err := schedule.Kind().New(&schedule.Settings{Windows: []schedule.Window{{
			From: begin.Format("15:04"), To: begin.Add(time.Hour).Format("15:04"), Minimum: &three,
		}}}, policy.Fixed{})
		if err != nil {
			w.t.Fatal(err)
		}
		p := want("a", 1, 4)
		p.Loop.Judge.Policy, p.Loop.PolicyInterval = made, time.Hour
		c, tasks := w.mustLead(1)
		w.apply(c, p)
		w.run(tasks, time.Until(begin)-time.Second)
		if got := w.running("a"); len(got) != 1 {
			w.t.Errorf("a second before: got %v, want one", got)
		}
		w.run(tasks, 2*time.Second)
		if got := w.running("a"); len(got) != 3 {
			w.t.Errorf("a second after: got %v, want three", got)
		}
	})
}
