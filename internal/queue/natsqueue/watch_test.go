package natsqueue_test

import (
	"testing"

	"cloudmaster/internal/queue"
)

// TestWhatIsAnnouncedIsCounted: the broker announces a message before it counts it. Whoever looks when it was announced
// finds it all the same.
func TestWhatIsAnnouncedIsCounted(t *testing.T) {
	t.Parallel()
	server := startBroker(t)
	q := ensure(t, server.connect(t), "q", queue.Limits{})
	arrivals, err := q.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	from := ensure(t, server.connect(t), "q", queue.Limits{})
	for n := 1; n <= 1000; n++ {
		if err := from.Send(t.Context(), []byte("1|1")); err != nil {
			t.Fatal(err)
		}
		<-arrivals
		if b, err := q.Backlog(t.Context()); err != nil || b.Visible != n {
			t.Fatalf("got %d messages and %v, want the %d that were announced", b.Visible, err, n)
		}
	}
}
