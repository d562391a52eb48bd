// Package backendtest checks that backends keep what they promise beyond their queues and their store.
package backendtest

import (
	"testing"
	"time"

	"cloudmaster/internal/backend"
)

const (
	soon  = 10 * time.Second
	again = 20 * time.Millisecond
	topic = "news"
	ready = "ready" // a notice that is sent until it is heard
)

// TestNotices checks what backend.Notices promises: one and two belong to one deployment, and may be the same;
// elsewhere belongs to another one on the same broker, and may be nil.
func TestNotices(t *testing.T, one, two, elsewhere backend.Notices) {
	t.Helper()
	first, stop := listen(t, one, topic)
	second, stopSecond := listen(t, two, topic)
	defer stopSecond()
	other, stopOther := listen(t, two, "other")
	defer stopOther()
	meet(t, two, topic, first, second)
	meet(t, one, "other", other)
	if elsewhere != nil {
		away, stopAway := listen(t, elsewhere, topic)
		defer stopAway()
		meet(t, elsewhere, topic, away)
		defer func() { tell(t, elsewhere, topic, "away"); hear(t, away, "away") }()
	}

	tell(t, one, topic, "1", "2", "3")
	hear(t, first, "1", "2", "3") // its own as well
	hear(t, second, "1", "2", "3")
	stop()
	tell(t, two, topic, "4")
	hear(t, second, "4")
	tell(t, two, "other", "5")
	hear(t, other, "5") // and nothing before it
	select {
	case got := <-first:
		t.Errorf("after the stop: got %q, want nothing", got)
	default:
	}
}

func listen(t *testing.T, on backend.Notices, topic string) (heard chan string, stop func()) {
	t.Helper()
	heard = make(chan string, 1000)
	stop, err := on.Listen(topic, func(data []byte) { heard <- string(data) })
	if err != nil {
		t.Fatalf("listen to %s: %v", topic, err)
	}
	return heard, stop
}

func tell(t *testing.T, on backend.Notices, topic string, notices ...string) {
	t.Helper()
	for _, n := range notices {
		if err := on.Notify(topic, []byte(n)); err != nil {
			t.Fatalf("notify %s of %s: %v", topic, n, err)
		}
	}
}

// meet returns when all of them hear: a broker may learn a moment later that somebody listens.
func meet(t *testing.T, on backend.Notices, topic string, all ...chan string) {
	t.Helper()
	deadline := time.After(soon)
	for _, heard := range all {
		for met := false; !met; {
			tell(t, on, topic, ready)
			select {
			case <-heard:
				met = true
			case <-time.After(again):
			case <-deadline:
				t.Fatalf("nobody hears notices of %s", topic)
			}
		}
	}
}

// hear expects these notices next, but for those that meet has sent.
func hear(t *testing.T, heard chan string, want ...string) {
	t.Helper()
	for _, w := range want {
		got := ready
		for got == ready {
			select {
			case got = <-heard:
			case <-time.After(soon):
				t.Fatalf("got no notice, want %q", w)
			}
		}
		if got != w {
			t.Errorf("got notice %q, want %q", got, w)
		}
	}
}
