package natsqueue_test

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
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
			if err := q.Delete(t.Context(), old.Receipt); err != nil {
				t.Errorf("delete with the old receipt: %v", err)
			}
			if got := take(t, q); string(got.Body) != "new" {
				t.Errorf("got %q, want the new one", got.Body)
			}
		})
	}
}

// TestOpenQueueServesTheOneMadeAnew: who has a queue open receives from it again, without a restart, when the queue was
// deleted, wholly or only its consumer, and somebody else has made it anew; and by the terms of the new one.
func TestOpenQueueServesTheOneMadeAnew(t *testing.T) {
	for name, destroy := range map[string]func(context.Context, jetstream.JetStream) error{
		"stream": func(ctx context.Context, js jetstream.JetStream) error {
			return js.DeleteStream(ctx, "cloudmaster-jobs")
		},
		"consumer": func(ctx context.Context, js jetstream.JetStream) error {
			return js.DeleteConsumer(ctx, "cloudmaster-jobs", "workers")
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := startBroker(t)
			js := b.connect(t)
			q := ensure(t, js, "jobs", queue.Limits{Visibility: 2 * time.Second})
			if err := destroy(t.Context(), js); err != nil {
				t.Fatal(err)
			}
			if _, err := q.Receive(t.Context(), 1, time.Second); !errors.Is(err, queue.ErrNotFound) {
				t.Errorf("without the queue: got %v, want %v", err, queue.ErrNotFound)
			}
			other := ensure(t, b.connect(t), "jobs", queue.Limits{Visibility: 3 * time.Second})
			send(t, other, "new")
			if got := take(t, q); string(got.Body) != "new" {
				t.Errorf("got %q, want the new one", got.Body)
			}
			if got := q.Visibility(); got != 3*time.Second {
				t.Errorf("got visibility %v, want that of the new queue", got)
			}
		})
	}
}

// TestNumbersOfAnOlderVersionStay: a queue that was made before streams began at the time of their creation keeps its
// messages, also over a restart of the broker, which drops what is below a stream's first number.
func TestNumbersOfAnOlderVersionStay(t *testing.T) {
	b := startBroker(t)
	js := b.connect(t)
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: "cloudmaster-jobs", Subjects: []string{"cloudmaster.queue.jobs"}, Retention: jetstream.WorkQueuePolicy,
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateConsumer(t.Context(), "cloudmaster-jobs", jetstream.ConsumerConfig{
		Durable: "workers", AckPolicy: jetstream.AckExplicitPolicy, MaxWaiting: 8192, MaxAckPending: -1,
	}); err != nil {
		t.Fatal(err)
	}
	old, err := natsqueue.Open(t.Context(), js, "jobs", natsqueue.Options{})
	if err != nil {
		t.Fatal(err)
	}
	send(t, old, "held", "waiting")
	held := take(t, old)
	q := ensure(t, js, "jobs", queue.Limits{Visibility: time.Minute})
	b.stop()
	b.start(t)
	if got := take(t, q); string(got.Body) != "waiting" || got.ID != "2" {
		t.Errorf("got %q with the number %s, want the one that waited, 2", got.Body, got.ID)
	}
	if err := q.Delete(t.Context(), held.Receipt); err != nil {
		t.Errorf("delete what was received before: %v", err)
	}
	eventually(t, q, 0, 1)
}

// TestEnsureTogether: many who make a queue at the same time agree on one.
func TestEnsureTogether(t *testing.T) {
	b := startBroker(t)
	var all sync.WaitGroup
	for range 8 {
		js := b.connect(t)
		all.Go(func() {
			for i := range 5 {
				name := "jobs" + strconv.Itoa(i)
				if _, err := natsqueue.Ensure(t.Context(), js, name, queue.Limits{}, natsqueue.Options{}); err != nil {
					t.Errorf("ensure %s: %v", name, err)
				}
			}
		})
	}
	all.Wait()
}

// TestEnsureLeavesAloneWhatIsRight: a controller that starts again changes no stream and no consumer that is as it is
// to be, and does change one that is not.
func TestEnsureLeavesAloneWhatIsRight(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	limits := queue.Limits{Visibility: 2 * time.Second, Deliveries: 3, Retention: time.Hour}
	ensure(t, b.connect(t), "jobs", limits)
	nc := b.connect(t).Conn()
	var changes atomic.Int32
	for _, subject := range []string{"STREAM.UPDATE.>", "CONSUMER.DURABLE.CREATE.>", "CONSUMER.CREATE.>"} {
		if _, err := nc.Subscribe("$JS.API."+subject, func(*nats.Msg) { changes.Add(1) }); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		limits queue.Limits
		want   int32
	}{
		{limits, 0},
		{queue.Limits{Visibility: 3 * time.Second, Deliveries: 3, Retention: time.Hour}, 2}, // consumer, dead letters
		{queue.Limits{Visibility: 3 * time.Second, Deliveries: 4, Retention: time.Hour}, 3},
		{queue.Limits{Visibility: 3 * time.Second, Deliveries: 4}, 4},
	} {
		ensure(t, b.connect(t), "jobs", step.limits)
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
		if got := changes.Load(); got != step.want {
			t.Errorf("%+v: got %d changes so far, want %d", step.limits, got, step.want)
		}
	}
}

// TestLateLetters: the stream of the dead letters is made by who buries the first one, with a queue that it has only
// opened.
func TestLateLetters(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	js := b.connect(t)
	late := natsqueue.Options{LateLetters: true}
	if _, err := natsqueue.Ensure(t.Context(), js, "jobs", queue.Limits{}, late); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Stream(t.Context(), "cloudmaster-jobs-dead"); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Errorf("before the first letter: got %v, want %v", err, jetstream.ErrStreamNotFound)
	}
	q, err := natsqueue.Open(t.Context(), b.connect(t), "jobs", natsqueue.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"one", "two"} {
		if err := q.Bury(t.Context(), sendAndTake(t, q, text), "no job"); err != nil {
			t.Fatalf("bury %s: %v", text, err)
		}
	}
	dead, err := natsqueue.Open(t.Context(), js, queue.DeadLetters("jobs"), natsqueue.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := dead.Receive(t.Context(), 10, time.Second); err != nil || len(got) != 2 {
		t.Errorf("got %d dead letters and error %v, want both", len(got), err)
	}
}
