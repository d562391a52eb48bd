package queuetest

import (
	"testing"
	"time"

	"cloudmaster/internal/queue"
)

func ageTests() map[string]func(*testing.T, Harness) {
	return map[string]func(*testing.T, Harness){
		"ages of messages":      testAges,
		"ages of dead letters":  testAgesOfDeadLetters,
		"ages of what is gone":  testAgesOfNothing,
		"ages with a retention": testAgesWithRetention,
	}
}

// age returns the age of one queue, which must be known.
func age(t *testing.T, h Harness, name string) queue.Age {
	t.Helper()
	if h.Ages == nil {
		t.Skip("nothing tells how old messages are")
	}
	ages, err := h.Ages(t.Context(), name)
	if err != nil {
		t.Fatalf("ages: %v", err)
	}
	got := ages[name]
	if !got.Known || len(ages) != 1 {
		t.Fatalf("got %+v, want the age of %s known", ages, name)
	}
	return got
}

// between fails the test unless the oldest message has been there for a time from least to most.
func between(t *testing.T, when string, got queue.Age, least, most time.Duration) {
	t.Helper()
	if got.Oldest < least || got.Oldest > most {
		t.Errorf("%s: got an age of %s, want %s to %s", when, got.Oldest, least, most)
	}
}

// testAges: the oldest message counts, whether it waits or is in flight, until it is deleted.
func testAges(t *testing.T, h Harness) {
	q := h.Make(t, queue.Limits{Visibility: time.Minute})
	between(t, "empty", age(t, h, q.Name()), 0, 0)
	began := time.Now()
	send(t, q, "first")
	pause(t, 2*moment)
	sent := time.Now()
	send(t, q, "second")
	between(t, "visible", age(t, h, q.Name()), moment, time.Since(began)+moment)
	first := receive(t, q, 1, soon)
	between(t, "in flight", age(t, h, q.Name()), moment, time.Since(began)+moment)
	if !h.Ordered {
		return
	}
	if err := q.Delete(t.Context(), receipts(first)...); err != nil {
		t.Fatalf("delete: %v", err)
	}
	between(t, "deleted", age(t, h, q.Name()), 0, time.Since(sent)+moment)
	if err := q.Delete(t.Context(), receipts(receive(t, q, 1, soon))...); err != nil {
		t.Fatalf("delete: %v", err)
	}
	between(t, "empty again", age(t, h, q.Name()), 0, 0)
}

func testAgesOfDeadLetters(t *testing.T, h Harness) {
	q := h.Make(t, queue.Limits{Visibility: time.Minute})
	if h.Ages == nil {
		t.Skip("nothing tells how old messages are")
	}
	dead := queue.DeadLetters(q.Name())
	if ages, err := h.Ages(t.Context(), dead); err != nil || ages[dead].Oldest != 0 {
		t.Errorf("no letters: got %+v, %v, want none or an age of 0", ages, err)
	}
	send(t, q, "bad")
	if err := q.Bury(t.Context(), receive(t, q, 1, soon)[0], "a test"); err != nil {
		t.Fatalf("bury: %v", err)
	}
	buried := time.Now()
	pause(t, 2*moment)
	between(t, "a letter", age(t, h, dead), moment, time.Since(buried)+soon)
	between(t, "its queue", age(t, h, q.Name()), 0, 0)
}

// testAgesOfNothing: a queue that does not exist is not in the answer, and hides no other.
func testAgesOfNothing(t *testing.T, h Harness) {
	q := h.Make(t, queue.Limits{})
	if h.Ages == nil {
		t.Skip("nothing tells how old messages are")
	}
	ages, err := h.Ages(t.Context(), "never-made", q.Name())
	if _, there := ages["never-made"]; err != nil || there || !ages[q.Name()].Known {
		t.Errorf("got %+v, %v, want the one that exists and no other", ages, err)
	}
}

func testAgesWithRetention(t *testing.T, h Harness) {
	forever := h.Make(t, queue.Limits{})
	if got := age(t, h, forever.Name()).Retention; got != 0 {
		t.Errorf("kept for ever: got a retention of %s, want 0", got)
	}
	hour := h.Make(t, queue.Limits{Retention: time.Hour})
	if got := age(t, h, hour.Name()).Retention; got != time.Hour {
		t.Errorf("got a retention of %s, want 1h", got)
	}
}
