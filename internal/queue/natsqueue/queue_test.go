package natsqueue_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"cloudmaster/internal/queue"
	"cloudmaster/internal/queue/natsqueue"
	"cloudmaster/internal/queue/queuetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) { conform(t, natsqueue.Options{}) }

// TestConformanceWithLateLetters runs the suite on queues whose dead letters get a stream when there are any.
func TestConformanceWithLateLetters(t *testing.T) { conform(t, natsqueue.Options{LateLetters: true}) }

func conform(t *testing.T, opts natsqueue.Options) {
	t.Helper()
	b := startBroker(t)
	js := b.connect(t)
	var mu sync.Mutex
	made := 0
	queuetest.Run(t, queuetest.Harness{
		Make: func(t *testing.T, limits queue.Limits) queue.Queue {
			mu.Lock()
			made++
			name := fmt.Sprintf("Queue_%d", made)
			mu.Unlock()
			q, err := natsqueue.Ensure(t.Context(), js, name, limits, opts)
			if err != nil {
				t.Fatalf("ensure: %v", err)
			}
			return q
		},
		Open: func(ctx context.Context, name string) (queue.Queue, error) {
			return natsqueue.Open(ctx, js, name, natsqueue.Options{})
		},
		Remove: func(t *testing.T, name string) {
			err := js.DeleteStream(t.Context(), "cloudmaster-"+name)
			// Dead letters may get their stream with the first letter.
			if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
				t.Errorf("delete stream of %s: %v", name, err)
			}
		},
		Ages: func(ctx context.Context, names ...string) (map[string]queue.Age, error) {
			return natsqueue.Ages(ctx, js, opts, names...)
		},
		Unit:     500 * time.Millisecond,
		TooLarge: 1 << 20,
		Ordered:  true,
	})
}

// broker is a NATS server that can be stopped and started again at the same address.
type broker struct {
	opts server.Options
	srv  *server.Server
}

func startBroker(t testing.TB) *broker {
	t.Helper()
	b := &broker{opts: server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true,
		JetStream: true, StoreDir: t.TempDir(),
	}}
	b.start(t)
	t.Cleanup(func() { b.stop() })
	return b
}

func (b *broker) start(t testing.TB) {
	t.Helper()
	opts := b.opts
	srv, err := server.NewServer(&opts)
	if err != nil {
		t.Fatalf("new broker: %v", err)
	}
	srv.Start()
	if !srv.ReadyForConnections(10 * time.Second) {
		t.Fatal("the broker does not start")
	}
	b.srv = srv
	_, port, _ := strings.Cut(srv.Addr().String(), ":")
	if _, err := fmt.Sscan(port, &b.opts.Port); err != nil {
		t.Fatalf("port of the broker: %v", err)
	}
}

func (b *broker) stop() {
	b.srv.Shutdown()
	b.srv.WaitForShutdown()
}

// connect makes a connection that never gives up reconnecting, like those of natsbackend.
func (b *broker) connect(t testing.TB) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(
		b.srv.ClientURL(),
		nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond), nats.ReconnectBufSize(-1),
	)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(nc.Close)
	js, err := natsqueue.JetStream(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func ensure(t testing.TB, js jetstream.JetStream, name string, limits queue.Limits) *natsqueue.Queue {
	t.Helper()
	q, err := natsqueue.Ensure(t.Context(), js, name, limits, natsqueue.Options{})
	if err != nil {
		t.Fatalf("ensure: %v", err)
	}
	return q
}
