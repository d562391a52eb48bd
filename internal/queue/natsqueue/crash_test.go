package natsqueue_test

import (
	"os"
	"testing"
	"time"

	"cloudmaster/internal/queue"
	"cloudmaster/internal/queue/natsqueue"
)

// crash does to the broker what SIGKILL does: it starts again with the files as they are at this moment.
func (b *broker) crash(t testing.TB) {
	t.Helper()
	files := t.TempDir()
	if err := os.CopyFS(files, os.DirFS(b.opts.StoreDir)); err != nil {
		t.Fatal(err)
	}
	b.stop()
	b.opts.StoreDir = files
	b.start(t)
}

// written is longer than the broker takes to write down what it has delivered: it does so at most every 100 ms.
const written = 300 * time.Millisecond

// TestWhatWaitedLongStaysInFlightOverACrash: the broker dies soon after it has delivered a message that had waited for
// longer than the visibility timeout. When it is back the message is still held.
func TestWhatWaitedLongStaysInFlightOverACrash(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	limits := queue.Limits{Visibility: 5 * time.Second}
	q := ensure(t, b.connect(t), "jobs", limits)
	send(t, q, "job")
	<-time.After(limits.Visibility)
	held := take(t, q)
	<-time.After(written)
	b.crash(t)
	const looks = 1500 * time.Millisecond // after a start the broker looks for expired messages within so long
	if got, err := q.Receive(t.Context(), 1, looks+written); err != nil || len(got) > 0 {
		t.Errorf("got %d messages and error %v, want none: it is held", len(got), err)
	}
	if err := q.Delete(t.Context(), held.Receipt); err != nil {
		t.Errorf("delete: %v", err)
	}
	eventually(t, q, 0, 0)
}

// TestSlack: everybody is told the visibility timeout, and what nobody extends comes back only after the slack.
func TestSlack(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	js := b.connect(t)
	const visibility, slack = 500 * time.Millisecond, 1500 * time.Millisecond
	opts := natsqueue.Options{Slack: slack}
	q, err := natsqueue.Ensure(t.Context(), js, "jobs", queue.Limits{Visibility: visibility}, opts)
	if err != nil {
		t.Fatal(err)
	}
	other, err := natsqueue.Open(t.Context(), b.connect(t), "jobs", natsqueue.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for who, got := range map[string]time.Duration{"maker": q.Visibility(), "other": other.Visibility()} {
		if got != visibility {
			t.Errorf("%s: got visibility %v, want %v", who, got, visibility)
		}
	}
	send(t, q, "job")
	take(t, other)
	start := time.Now()
	take(t, other)
	if took := time.Since(start); took < slack {
		t.Errorf("the message came back after %v, want %v or more", took, visibility+slack)
	}
	if got := ensure(t, js, "jobs", queue.Limits{Visibility: visibility}); got.Visibility() != visibility {
		t.Errorf("without slack: got visibility %v, want %v", got.Visibility(), visibility)
	}
}

// TestSlackCoversARestart: what was held when the broker died, and is extended again as soon as it is back, has stayed
// in flight, although the outage and the broker's whole seconds together are longer than the visibility timeout.
func TestSlackCoversARestart(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	opts := natsqueue.Options{Slack: 3 * time.Second}
	q, err := natsqueue.Ensure(t.Context(), b.connect(t), "jobs", queue.Limits{Visibility: 2 * time.Second}, opts)
	if err != nil {
		t.Fatal(err)
	}
	send(t, q, "job")
	held := take(t, q)
	<-time.After(time.Second)
	b.crash(t)
	<-time.After(1500 * time.Millisecond) // in this time the broker looks for what has expired
	if err := q.Extend(t.Context(), held.Receipt); err != nil {
		t.Fatal(err)
	}
	if got, err := q.Receive(t.Context(), 1, time.Second); err != nil || len(got) > 0 {
		t.Errorf("got %d messages and error %v, want none: it is held", len(got), err)
	}
}

// TestLink: a connection that was made again is another one.
func TestLink(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	q := ensure(t, b.connect(t), "jobs", queue.Limits{})
	before, up := q.Link()
	if !up {
		t.Error("the link is down at the beginning")
	}
	b.stop()
	for deadline := time.Now().Add(soon); up && time.Now().Before(deadline); _, up = q.Link() {
		<-time.After(time.Millisecond)
	}
	if up {
		t.Error("the link is up without a broker")
	}
	b.start(t)
	if _, err := q.Backlog(t.Context()); err != nil {
		t.Fatal(err)
	}
	if now, up := q.Link(); !up || now == before {
		t.Errorf("got link %d (up %v) after %d, want another one that is up", now, up, before)
	}
}
