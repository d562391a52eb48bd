package queuetest

import (
	"slices"
	"testing"
	"time"

	"cloudmaster/internal/queue"
)

func settleTests() map[string]func(*testing.T, Harness) {
	return map[string]func(*testing.T, Harness){
		"extend keeps it invisible":          testExtend,
		"release shows it at once":           testRelease,
		"delete ends it":                     testDelete,
		"old receipts are harmless":          testOldReceipts,
		"too many deliveries kill a message": testDeliveryLimit,
		"an expired message can die, too":    testExpiredDies,
		"bury moves it":                      testBury,
		"dead letters live on":               testDeadLettersLive,
	}
}

func testExtend(t *testing.T, h Harness) {
	q := h.Make(t, queue.Limits{Visibility: 2 * h.Unit})
	send(t, q, "long job")
	got := receive(t, q, 1, soon)
	for range 4 { // together twice the visibility timeout
		nothing(t, q, h.Unit)
		if err := q.Extend(t.Context(), got[0].Receipt); err != nil {
			t.Fatalf("extend: %v", err)
		}
	}
	again := receive(t, q, 1, 2*h.Unit+soon)
	if again[0].Deliveries != 2 {
		t.Errorf("got delivery %d, want 2", again[0].Deliveries)
	}
}

func testRelease(t *testing.T, h Harness) {
	q := h.Make(t, queue.Limits{Visibility: time.Minute})
	send(t, q, numbered(5)...)
	got := receive(t, q, 5, soon)
	if err := q.Release(t.Context(), receipts(got)...); err != nil {
		t.Fatalf("release: %v", err)
	}
	for _, m := range receive(t, q, 5, soon) {
		if m.Deliveries != 2 {
			t.Errorf("got delivery %d of %q, want 2", m.Deliveries, m.Body)
		}
	}
}

func testDelete(t *testing.T, h Harness) {
	q := h.Make(t, queue.Limits{Visibility: 2 * h.Unit})
	send(t, q, numbered(30)...)
	got := receive(t, q, 30, soon)
	if err := q.Delete(t.Context(), receipts(got[:29])...); err != nil {
		t.Fatalf("delete: %v", err)
	}
	left := receive(t, q, 1, 2*h.Unit+soon)
	if left[0].ID != got[29].ID {
		t.Errorf("got %q again, want %q, which alone was not deleted", left[0].Body, got[29].Body)
	}
	nothing(t, q, h.Unit)
}

func testOldReceipts(t *testing.T, h Harness) {
	q := h.Make(t, queue.Limits{Visibility: time.Minute})
	send(t, q, "deleted", "delivered again", "bystander")
	got := receive(t, q, 3, soon)
	deleted, again, bystander := got[0], got[1], got[2]
	if err := q.Delete(t.Context(), deleted.Receipt); err != nil {
		t.Fatalf("delete: %v", err)
	}
	if err := q.Release(t.Context(), again.Receipt); err != nil {
		t.Fatalf("release: %v", err)
	}
	holder := receive(t, q, 1, soon)[0]
	if holder.ID != again.ID {
		t.Fatalf("got message %q, want %q", holder.Body, again.Body)
	}
	for name, call := range map[string]func(...queue.Receipt) error{
		"extend":  func(r ...queue.Receipt) error { return q.Extend(t.Context(), r...) },
		"release": func(r ...queue.Receipt) error { return q.Release(t.Context(), r...) },
		"delete":  func(r ...queue.Receipt) error { return q.Delete(t.Context(), r...) },
	} {
		old := []queue.Receipt{deleted.Receipt}
		if h.InertReceipts {
			old = append(old, again.Receipt)
		}
		if err := call(old...); err != nil {
			t.Errorf("%s with old receipts: got %v, want success", name, err)
		}
	}
	nothing(t, q, moment)
	what, want := exactly(0, 2)
	backlog(t, h, q, what, want)
	if err := q.Delete(t.Context(), again.Receipt, deleted.Receipt, holder.Receipt, bystander.Receipt); err != nil {
		t.Errorf("delete with old and new receipts: %v", err)
	}
	what, want = exactly(0, 0)
	backlog(t, h, q, what, want)
}

func testDeliveryLimit(t *testing.T, h Harness) {
	q := h.Make(t, queue.Limits{Visibility: time.Minute, Deliveries: 3})
	send(t, q, "poison", "good")
	for n := 1; n <= 3; n++ {
		got := receive(t, q, 2, soon)
		i := slices.IndexFunc(got, func(m queue.Message) bool { return string(m.Body) == "poison" })
		if i < 0 || got[i].Deliveries != n {
			t.Fatalf("got %+v, want delivery %d of poison", got, n)
		}
		if err := q.Release(t.Context(), got[i].Receipt); err != nil {
			t.Fatalf("release: %v", err)
		}
		if err := q.Delete(t.Context(), got[1-i].Receipt); err != nil {
			t.Fatalf("delete: %v", err)
		}
		send(t, q, "good")
	}
	got := receive(t, q, 1, soon)
	if string(got[0].Body) != "good" {
		t.Errorf("got %q (delivery %d), want good", got[0].Body, got[0].Deliveries)
	}
	nothing(t, q, moment)
	same(t, h, receive(t, dead(t, h, q), 1, soon), []string{"poison"})
	what, want := exactly(0, 1)
	backlog(t, h, q, what, want)
}

func testExpiredDies(t *testing.T, h Harness) {
	q := h.Make(t, queue.Limits{Visibility: h.Unit, Deliveries: 1})
	send(t, q, "kills its worker")
	receive(t, q, 1, soon)
	d := dead(t, h, q)
	for deadline := time.Now().Add(h.Unit + soon + h.Lag); ; {
		nothing(t, q, h.Unit)
		if msgs, err := d.Receive(t.Context(), 1, 0); err != nil {
			t.Fatalf("receive from dead letters: %v", err)
		} else if len(msgs) > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no dead letter")
		}
	}
}

func testBury(t *testing.T, h Harness) {
	q := h.Make(t, queue.Limits{Visibility: h.Unit})
	send(t, q, "1|", "1|10")
	got := receive(t, q, 2, soon)
	slices.SortFunc(got, func(a, b queue.Message) int { return len(a.Body) - len(b.Body) })
	for range 2 { // twice, as a caller would whose first answer was lost
		if err := q.Bury(t.Context(), got[0], "N is missing\r\nand more"); err != nil {
			t.Fatalf("bury: %v", err)
		}
	}
	letters := receive(t, dead(t, h, q), 1, soon)
	same(t, h, letters, []string{"1|"})
	same(t, h, receive(t, q, 1, h.Unit+soon), []string{"1|10"})
	nothing(t, q, moment)
}

func testDeadLettersLive(t *testing.T, h Harness) {
	q := h.Make(t, queue.Limits{Visibility: time.Minute, Deliveries: 1})
	send(t, q, "letter")
	if err := q.Bury(t.Context(), receive(t, q, 1, soon)[0], "test"); err != nil {
		t.Fatalf("bury: %v", err)
	}
	d := dead(t, h, q)
	for range 4 { // more often than q's delivery limit
		got := receive(t, d, 1, soon)
		if err := d.Release(t.Context(), got[0].Receipt); err != nil {
			t.Fatalf("release: %v", err)
		}
	}
	got := receive(t, d, 1, soon)
	if err := d.Delete(t.Context(), got[0].Receipt); err != nil {
		t.Fatalf("delete: %v", err)
	}
	what, want := exactly(0, 0)
	backlog(t, h, d, what, want)
}
