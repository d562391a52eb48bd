package natsbackend_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"cloudmaster/internal/backend"
	"cloudmaster/internal/backend/backendtest"
)

func notices(t *testing.T, address string, opts backend.Options) backend.Notices {
	t.Helper()
	n, ok := open(t, address, opts).(backend.Notices)
	if !ok {
		t.Fatal("the backend has no notices")
	}
	return n
}

func TestNotices(t *testing.T) {
	t.Parallel()
	address := startBroker(t, server.Options{}).srv.ClientURL()
	demo := backend.Options{Deployment: "demo"}
	backendtest.TestNotices(t, notices(t, address, demo), notices(t, address, demo),
		notices(t, address, backend.Options{}))
}

// What is sent while the broker is away is an error at once, and not sent later. Listening goes on by itself.
func TestNoticesAfterAnOutage(t *testing.T) {
	t.Parallel()
	srv := startBroker(t, server.Options{})
	var log lines
	b := notices(t, srv.srv.ClientURL(), backend.Options{Log: log.logger()})
	heard := make(chan string, 100)
	stop, err := b.Listen("news", func(data []byte) { heard <- string(data) })
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	srv.stop()
	log.await(t, "lost the broker")
	if err := b.Notify("news", []byte("lost")); err == nil {
		t.Error("notify without a broker: got no error")
	}
	srv.start(t)
	log.await(t, "reconnected to the broker")
	for deadline := time.After(soon); ; {
		_ = b.Notify("news", []byte("found")) // the broker may not know at once that we listen
		select {
		case got := <-heard:
			if got != "found" {
				t.Errorf("got %q, want found", got)
			}
			return
		case <-time.After(20 * time.Millisecond):
		case <-deadline:
			t.Fatal("nothing is heard after the outage")
		}
	}
}

func TestBadTopics(t *testing.T) {
	t.Parallel()
	address := startBroker(t, server.Options{}).srv.ClientURL()
	for name, c := range map[string]struct{ deployment, topic string }{
		"no topic":          {"demo", ""},
		"topic of two":      {"demo", "a.b"},
		"topic of all":      {"demo", ">"},
		"deployment of two": {"a.b", "news"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := notices(t, address, backend.Options{Deployment: c.deployment})
			if err := b.Notify(c.topic, nil); err == nil {
				t.Error("notify: got no error")
			}
			if _, err := b.Listen(c.topic, func([]byte) {}); err == nil {
				t.Error("listen: got no error")
			}
		})
	}
}
