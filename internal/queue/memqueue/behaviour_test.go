package memqueue_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"cloudmaster/internal/faults"
	"cloudmaster/internal/queue"
	"cloudmaster/internal/queue/memqueue"
)

var errInjected = errors.New("injected")

func send(t *testing.T, q queue.Queue, bodies ...string) {
	t.Helper()
	for _, b := range bodies {
		if err := q.Send(t.Context(), []byte(b)); err != nil {
			t.Fatalf("send %q: %v", b, err)
		}
	}
}

func receive(t *testing.T, q queue.Queue, most int, wait time.Duration) []queue.Message {
	t.Helper()
	msgs, err := q.Receive(t.Context(), most, wait)
	if err != nil {
		t.Fatalf("receive: %v", err)
	}
	return msgs
}

func bodies(msgs []queue.Message) []string {
	out := make([]string, len(msgs))
	for i, m := range msgs {
		out[i] = string(m.Body)
	}
	return out
}

// TestExactTimes checks, in fake time, the exact moments for which the conformance suite can only give bounds.
func TestExactTimes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := memqueue.New("jobs", queue.Limits{Visibility: 30 * time.Second, Retention: time.Hour})
		start := time.Now()
		passed := func(what string, want time.Duration) {
			t.Helper()
			if got := time.Since(start); got != want {
				t.Errorf("%s after %v, want %v", what, got, want)
			}
		}
		if got := receive(t, q, 1, 20*time.Second); len(got) > 0 {
			t.Errorf("got %d messages from an empty queue", len(got))
		}
		passed("the wait was over", 20*time.Second)

		time.AfterFunc(5*time.Second, func() { send(t, q, "job") })
		receive(t, q, 1, time.Minute)
		passed("the message came", 25*time.Second)

		if got := receive(t, q, 1, time.Minute); len(got) != 1 || got[0].Deliveries != 2 {
			t.Errorf("got %+v, want the second delivery", got)
		}
		passed("it came again", 55*time.Second)

		if got := receive(t, q, 1, 2*time.Hour); len(got) != 1 || got[0].Deliveries != 3 {
			t.Errorf("got %+v, want the third delivery", got)
		}
		time.Sleep(time.Hour)
		if got, err := q.Backlog(t.Context()); err != nil || got.Visible+got.InFlight != 0 {
			t.Errorf("got backlog %+v, error %v, want none left: the retention time is over", got, err)
		}
	})
}

func TestFaults(t *testing.T) {
	t.Parallel()
	q := memqueue.New("jobs", queue.Limits{})
	check := func(what string, got, want error) {
		t.Helper()
		if !errors.Is(got, want) {
			t.Errorf("%s: got %v, want %v", what, got, want)
		}
	}
	sendX := func() error { return q.Send(t.Context(), []byte("x")) }
	count := func() error { _, err := q.Backlog(t.Context()); return err }

	q.NextError(memqueue.OpSend, errInjected)
	q.NextError(memqueue.OpSend, queue.ErrThrottled)
	check("backlog beside a fault of send", count(), nil)
	check("first send", sendX(), errInjected)
	check("second send", sendX(), queue.ErrThrottled)
	if got := q.Bodies(); len(got) > 0 {
		t.Errorf("got %q after sends that failed, want nothing", got)
	}
	q.NextLost(faults.Any, errInjected)
	check("send whose answer is lost", sendX(), errInjected)
	if got := q.Bodies(); len(got) != 1 {
		t.Errorf("got %q after a send whose answer was lost, want it", got)
	}
	q.FailAfter(memqueue.OpBacklog, 2, errInjected)
	for i, want := range []error{nil, nil, errInjected, errInjected} {
		if i == 3 {
			check("send beside a fault of backlog", sendX(), nil)
		}
		check("backlog", count(), want)
	}
	q.Heal()
	check("backlog after healing", count(), nil)
}

func TestDuplicates(t *testing.T) {
	t.Parallel()
	q := memqueue.New("jobs", queue.Limits{})
	send(t, q, "job")
	q.Disturb(memqueue.Disturbance{Duplicate: 1})
	first, second := receive(t, q, 1, 0), receive(t, q, 1, 0)
	if len(first) != 1 || len(second) != 1 || first[0].ID != second[0].ID || second[0].Deliveries != 2 {
		t.Fatalf("got %+v and %+v, want the message twice", first, second)
	}
	if third := receive(t, q, 1, 0); len(third) > 0 {
		t.Errorf("got %q a third time", third[0].Body)
	}
}

func TestLateAndShuffled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := memqueue.New("jobs", queue.Limits{})
		q.Disturb(memqueue.Disturbance{Late: time.Second, Shuffle: rand.New(rand.NewPCG(1, 2))})
		sent := []string{"a", "b", "c", "d", "e", "f", "g", "h"}
		send(t, q, sent...)
		if got := receive(t, q, 10, 0); len(got) > 0 {
			t.Errorf("got %q at once, want it late", bodies(got))
		}
		start := time.Now()
		got := bodies(receive(t, q, 10, time.Minute))
		if late := time.Since(start); late != time.Second {
			t.Errorf("the messages came after %v, want 1s", late)
		}
		if slices.Equal(got, sent) {
			t.Errorf("got %q, want another order", got)
		}
		slices.Sort(got)
		if !slices.Equal(got, sent) {
			t.Errorf("got %q, want all of %q", got, sent)
		}
	})
}

func TestLettersHaveReasons(t *testing.T) {
	t.Parallel()
	q := memqueue.New("jobs", queue.Limits{Deliveries: 1})
	send(t, q, "bad", "deadly")
	got := receive(t, q, 2, 0)
	if err := q.Bury(t.Context(), got[0], "N is missing"); err != nil {
		t.Fatal(err)
	}
	if err := q.Release(t.Context(), got[1].Receipt); err != nil {
		t.Fatal(err)
	}
	receive(t, q, 1, 0)
	want := []memqueue.Letter{{"bad", "N is missing"}, {"deadly", "delivered 1 times without being deleted"}}
	if got := q.Dead().Letters(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
