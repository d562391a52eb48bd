package natsqueue_test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"cloudmaster/internal/queue"
	"cloudmaster/internal/queue/natsqueue"
)

// anew makes the queue of jobs and its stream from nothing.
func anew(t *testing.T, js jetstream.JetStream) *natsqueue.Queue {
	t.Helper()
	if err := js.DeleteStream(t.Context(), "cloudmaster-jobs"); err != nil {
		t.Fatal(err)
	}
	return ensure(t, js, "jobs", queue.Limits{Visibility: 2 * time.Second})
}

// sendAndTake sends a message and takes the next one.
func sendAndTake(t *testing.T, q queue.Queue, text string) queue.Message {
	t.Helper()
	send(t, q, text)
	return take(t, q)
}

// TestLettersOfAQueueMadeAnewAreOthers: a message that has the number of one of the queue before it, which was buried
// within a minute, is no repetition of it.
func TestLettersOfAQueueMadeAnewAreOthers(t *testing.T) {
	js := startBroker(t).connect(t)
	q := ensure(t, js, "jobs", queue.Limits{})
	if err := q.Bury(t.Context(), sendAndTake(t, q, "old"), "no job"); err != nil {
		t.Fatal(err)
	}
	q = anew(t, js)
	if err := q.Bury(t.Context(), sendAndTake(t, q, "new"), "no job"); err != nil {
		t.Fatal(err)
	}
	dead, err := natsqueue.Open(t.Context(), js, queue.DeadLetters("jobs"), natsqueue.Options{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := dead.Receive(t.Context(), 10, time.Second)
	if err != nil || len(got) != 2 {
		t.Errorf("got %d dead letters and error %v, want both", len(got), err)
	}
}

// TestReceiptOfAQueueBeforeEndsNothing in the one that was made anew under its name.
func TestReceiptOfAQueueBeforeEndsNothing(t *testing.T) {
	for name, taken := range map[string]bool{"waits": false, "taken by one that dies over it": true} {
		t.Run(name, func(t *testing.T) {
			js := startBroker(t).connect(t)
			old := sendAndTake(t, ensure(t, js, "jobs", queue.Limits{Visibility: 2 * time.Second}), "old")
			q := anew(t, js)
			send(t, q, "new")
			if taken {
				take(t, q)
			}
			ctx, cancel := context.WithTimeout(t.Context(),
				2*time.Second) // the broker does not answer what it does not know
			defer cancel()
			if err := q.Delete(ctx, old.Receipt); err != nil {
				t.Logf("the receipt is refused: %v", err)
			}
			if got := take(t, q); string(got.Body) != "new" {
				t.Errorf("got %q, want the new one", got.Body)
			}
		})
	}
}
