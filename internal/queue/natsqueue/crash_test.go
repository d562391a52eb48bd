package natsqueue_test

import (
	"os"
	"testing"
	"time"

	"cloudmaster/internal/queue"
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
