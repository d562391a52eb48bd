package natsqueue_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"cloudmaster/internal/queue"
	"cloudmaster/internal/queue/natsqueue"
)

const soon = 10 * time.Second

// take receives one message.
func take(t *testing.T, q queue.Queue) queue.Message {
	t.Helper()
	msgs, err := q.Receive(t.Context(), 1, soon)
	if err != nil || len(msgs) != 1 {
		t.Fatalf("got %d messages, error %v, want one", len(msgs), err)
	}
	return msgs[0]
}

func send(t *testing.T, q queue.Queue, bodies ...string) {
	t.Helper()
	for _, b := range bodies {
		if err := q.Send(t.Context(), []byte(b)); err != nil {
			t.Fatalf("send %q: %v", b, err)
		}
	}
}

func TestReceiptsOutliveTheConnection(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	q := ensure(t, b.connect(t), "jobs", queue.Limits{Visibility: time.Minute})
	send(t, q, "extended", "deleted", "released")
	extended, deleted, released := take(t, q), take(t, q), take(t, q)

	b.stop()
	b.start(t)

	if err := q.Extend(t.Context(), extended.Receipt); err != nil {
		t.Errorf("extend: %v", err)
	}
	if err := q.Delete(t.Context(), deleted.Receipt); err != nil {
		t.Errorf("delete: %v", err)
	}
	if err := q.Release(t.Context(), released.Receipt); err != nil {
		t.Errorf("release: %v", err)
	}
	if got := take(t, q); string(got.Body) != "released" || got.Deliveries != 2 {
		t.Errorf("got %q delivery %d, want released, 2", got.Body, got.Deliveries)
	}
	backlog, err := q.Backlog(t.Context())
	if err != nil || backlog.InFlight != 2 || backlog.Visible != 0 {
		t.Errorf("got backlog %+v, error %v, want 2 in flight", backlog, err)
	}
}

// TestCallsWaitForTheBroker starts calls while the broker is down, and wants all of them to succeed
// once it is back.
func TestCallsWaitForTheBroker(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	q := ensure(t, b.connect(t), "jobs", queue.Limits{Visibility: time.Minute})
	send(t, q, "before")
	held := take(t, q)
	b.stop()

	calls := map[string]func(context.Context) error{
		"send":    func(ctx context.Context) error { return q.Send(ctx, []byte("during")) },
		"extend":  func(ctx context.Context) error { return q.Extend(ctx, held.Receipt) },
		"backlog": func(ctx context.Context) error { _, err := q.Backlog(ctx); return err },
		"receive": func(ctx context.Context) error {
			msgs, err := q.Receive(ctx, 1, soon)
			if err == nil && len(msgs) != 1 {
				t.Errorf("got %d messages, want the one sent", len(msgs))
			}
			return err
		},
	}
	done := make(chan string, len(calls))
	for name, call := range calls {
		go func() {
			if err := call(t.Context()); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			done <- name
		}()
	}
	select {
	case name := <-done:
		t.Errorf("%s ended without a broker", name)
	case <-time.After(300 * time.Millisecond):
	}
	b.start(t)
	start := time.Now()
	for range calls {
		name := <-done
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("%s came back %v after the broker", name, took)
		}
	}
}

func TestReceiveSurvivesAnOutage(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	q := ensure(t, b.connect(t), "jobs", queue.Limits{Visibility: time.Minute})
	got := make(chan []queue.Message, 1)
	go func() {
		msgs, err := q.Receive(t.Context(), 10, time.Minute)
		if err != nil {
			t.Errorf("receive: %v", err)
		}
		got <- msgs
	}()
	awaitReceiver(t, b.connect(t), "jobs")
	b.stop()
	b.start(t)
	send(t, ensure(t, b.connect(t), "jobs", queue.Limits{Visibility: time.Minute}), "after")
	start := time.Now()
	msgs := <-got
	if len(msgs) != 1 || string(msgs[0].Body) != "after" {
		t.Errorf("got %d messages, want the one sent after the outage", len(msgs))
	}
	// A request whose end got lost with the connection would end only after 6 s.
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("the message came after %v", took)
	}
}

// awaitReceiver waits until a receiver's request for messages has reached the broker.
func awaitReceiver(t *testing.T, js jetstream.JetStream, name string) {
	t.Helper()
	for deadline := time.Now().Add(soon); time.Now().Before(deadline); {
		c, err := js.Consumer(t.Context(), "cloudmaster-"+name, "workers")
		if err != nil {
			t.Fatal(err)
		}
		if c.CachedInfo().NumWaiting > 0 {
			return
		}
	}
	t.Fatal("nobody receives")
}

func TestAnOutageIsAnErrorInTheEnd(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	js := b.connect(t)
	ensure(t, js, "jobs", queue.Limits{})
	q, err := natsqueue.Open(t.Context(), js, "jobs", natsqueue.Options{Patience: 400 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	b.stop()
	start := time.Now()
	if err := q.Send(t.Context(), []byte("lost")); err == nil || errors.Is(err, queue.ErrNotFound) {
		t.Errorf("send: got %v, want a fault of the transport", err)
	}
	if got, err := q.Backlog(t.Context()); err == nil || got.Known {
		t.Errorf("got backlog %+v and error %v, want an unknown backlog and an error", got, err)
	}
	if msgs, err := q.Receive(t.Context(), 1, 0); err == nil {
		t.Errorf("got %d messages and no error, want an error: nobody was asked", len(msgs))
	}
	if took := time.Since(start); took < time.Second || took > soon {
		t.Errorf("three calls took %v, want three times the patience", took)
	}
	b.start(t)
	if msgs, err := q.Receive(t.Context(), 1, 0); err != nil || len(msgs) > 0 {
		t.Errorf("got %d messages, error %v, want none: Send had failed", len(msgs), err)
	}
}

func TestWatchSignalsAfterAnOutage(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	q := ensure(t, b.connect(t), "jobs", queue.Limits{})
	arrivals, err := q.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b.stop()
	b.start(t)
	wait := func(what string) {
		select {
		case <-arrivals:
		case <-time.After(soon):
			t.Fatalf("no signal %s", what)
		}
	}
	wait("after the outage")
	send(t, q, "new")
	wait("of a message after the outage")
}

func TestClosedConnection(t *testing.T) {
	t.Parallel()
	js := startBroker(t).connect(t)
	q := ensure(t, js, "jobs", queue.Limits{})
	js.Conn().Close()
	start := time.Now()
	if err := q.Send(t.Context(), []byte("x")); !errors.Is(err, queue.ErrClosed) {
		t.Errorf("send: got %v, want %v", err, queue.ErrClosed)
	}
	if _, err := q.Receive(t.Context(), 1, time.Minute); !errors.Is(err, queue.ErrClosed) {
		t.Errorf("receive: got %v, want %v", err, queue.ErrClosed)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("the call took %v", took)
	}
}

func TestTwoConnectionsShareTheWork(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	limits := queue.Limits{Visibility: time.Minute}
	one, two := ensure(t, b.connect(t), "jobs", limits), ensure(t, b.connect(t), "jobs", limits)
	got := make(chan string, 2)
	for _, q := range []*natsqueue.Queue{one, two} {
		go func() {
			msgs, err := q.Receive(t.Context(), 1, soon)
			if err != nil || len(msgs) != 1 {
				t.Errorf("got %d messages, error %v, want one", len(msgs), err)
				got <- ""
				return
			}
			got <- string(msgs[0].Body)
		}()
	}
	send(t, one, "a", "b")
	if a, b := <-got, <-got; a == b {
		t.Errorf("both got %q", a)
	}
}

// TestLargeBatches receives more bytes than the broker lets wait for one connection (64 MiB).
func TestLargeBatches(t *testing.T) {
	t.Parallel()
	q := ensure(t, startBroker(t).connect(t), "jobs", queue.Limits{Visibility: time.Minute})
	body := bytes.Repeat([]byte("x"), 256<<10)
	const n = 280 // 70 MiB
	bodies := make([][]byte, n)
	for i := range bodies {
		bodies[i] = body
	}
	if err := q.Send(t.Context(), bodies...); err != nil {
		t.Fatalf("send: %v", err)
	}
	for left := n; left > 0; {
		msgs, err := q.Receive(t.Context(), left, soon)
		if err != nil || len(msgs) == 0 {
			t.Fatalf("got %d messages, error %v with %d to come", len(msgs), err, left)
		}
		if size := len(msgs) * len(body); size > 16<<20 {
			t.Errorf("got %d bytes in one batch, want at most 16 MiB", size)
		}
		for _, m := range msgs {
			if m.Deliveries != 1 {
				t.Fatalf("got delivery %d of %s, want 1", m.Deliveries, m.ID)
			}
		}
		left -= len(msgs)
	}
}

func TestDeadLettersSayWhy(t *testing.T) {
	t.Parallel()
	js := startBroker(t).connect(t)
	q := ensure(t, js, "jobs", queue.Limits{Deliveries: 1})
	send(t, q, "buried", "condemned")
	if err := q.Bury(t.Context(), take(t, q), "N is\r\nmissing"); err != nil {
		t.Fatalf("bury: %v", err)
	}
	if err := q.Release(t.Context(), take(t, q).Receipt); err != nil {
		t.Fatalf("release: %v", err)
	}
	if msgs, err := q.Receive(t.Context(), 1, 0); err != nil || len(msgs) > 0 {
		t.Fatalf("got %d messages, error %v, want none", len(msgs), err)
	}
	stream, err := js.Stream(t.Context(), "cloudmaster-jobs-dead")
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"N is  missing", "received 1 times without being deleted"} {
		m, err := stream.GetMsg(t.Context(), stream.CachedInfo().State.FirstSeq+uint64(i))
		if err != nil {
			t.Fatalf("letter %d: %v", i+1, err)
		}
		if got := m.Header.Get("Cloudmaster-Reason"); got != want {
			t.Errorf("got reason %q, want %q", got, want)
		}
		if got := m.Header.Get("Cloudmaster-Origin"); got != "jobs" {
			t.Errorf("got origin %q, want jobs", got)
		}
	}
}

func TestEnsure(t *testing.T) {
	t.Parallel()
	js := startBroker(t).connect(t)
	send(t, ensure(t, js, "jobs", queue.Limits{Visibility: time.Minute}), "kept")

	q := ensure(t, js, "jobs", queue.Limits{Visibility: 2 * time.Minute, Deliveries: 1})
	if got := q.Visibility(); got != 2*time.Minute {
		t.Errorf("got visibility %v, want the new limit", got)
	}
	if err := q.Release(t.Context(), take(t, q).Receipt); err != nil {
		t.Fatal(err)
	}
	if msgs, err := q.Receive(t.Context(), 1, 0); err != nil || len(msgs) > 0 {
		t.Errorf("got %d messages, error %v, want none after one delivery", len(msgs), err)
	}
	for _, name := range []string{"", "a.b", "a b", "a*", "ü", strings.Repeat("x", 300)} {
		if _, err := natsqueue.Ensure(t.Context(), js, name, queue.Limits{}, natsqueue.Options{}); err == nil {
			t.Errorf("name %q: got no error, want one", name)
		}
	}
	_, err := natsqueue.Ensure(t.Context(), js, "jobs", queue.Limits{Visibility: -1}, natsqueue.Options{})
	if err == nil {
		t.Error("negative visibility: got no error, want one")
	}
	if err := q.Delete(t.Context(), "$JS.ACK.cloudmaster-other.workers.1.1.1.1.1"); err == nil {
		t.Error("receipt of another queue: got no error, want one")
	}
	if err := q.Delete(t.Context(), "nonsense"); err == nil {
		t.Error("receipt of no queue: got no error, want one")
	}
}

// TestMissingConsumer: a stream whose consumer is missing must be an error, not an empty queue.
func TestMissingConsumer(t *testing.T) {
	t.Parallel()
	js := startBroker(t).connect(t)
	q := ensure(t, js, "jobs", queue.Limits{})
	if err := js.DeleteConsumer(t.Context(), "cloudmaster-jobs", "workers"); err != nil {
		t.Fatal(err)
	}
	if got, err := q.Backlog(t.Context()); !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("got backlog %+v, error %v, want %v", got, err, queue.ErrNotFound)
	}
	if _, err := q.Receive(t.Context(), 1, soon); !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("receive: got %v, want %v", err, queue.ErrNotFound)
	}
}
