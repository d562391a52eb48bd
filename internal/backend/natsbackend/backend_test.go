package natsbackend_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"go.uber.org/goleak"

	"cloudmaster/internal/backend"
	"cloudmaster/internal/backend/natsbackend"
	"cloudmaster/internal/blob"
	"cloudmaster/internal/queue"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const soon = 10 * time.Second

// broker is a NATS server that can be stopped and started again at the same address.
type broker struct {
	opts server.Options
	srv  *server.Server
}

func startBroker(t *testing.T, opts server.Options) *broker {
	t.Helper()
	opts.Host, opts.Port = "127.0.0.1", server.RANDOM_PORT
	opts.NoLog, opts.NoSigs, opts.JetStream, opts.StoreDir = true, true, true, t.TempDir()
	b := &broker{opts: opts}
	b.start(t)
	t.Cleanup(b.stop)
	return b
}

func (b *broker) start(t *testing.T) {
	t.Helper()
	opts := b.opts
	srv, err := server.NewServer(&opts)
	if err != nil {
		t.Fatalf("new broker: %v", err)
	}
	srv.Start()
	if !srv.ReadyForConnections(soon) {
		t.Fatal("the broker does not start")
	}
	b.srv = srv
	b.opts.Port = opts.Port
}

func (b *broker) stop() {
	b.srv.Shutdown()
	b.srv.WaitForShutdown()
}

// lines is a log that can be waited for.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), text)
}

func (l *lines) await(t *testing.T, text string) {
	t.Helper()
	for deadline := time.Now().Add(soon); l.count(text) == 0; {
		if time.Now().After(deadline) {
			t.Fatalf("the log does not say %q:\n%s", text, l.text.String())
		}
		<-time.After(5 * time.Millisecond)
	}
}

func (l *lines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func open(t *testing.T, address string, opts backend.Options) backend.Backend {
	t.Helper()
	b, err := backend.Open(t.Context(), address, backend.Openers{"nats": natsbackend.Open}, opts)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return b
}

func TestQueuesAndBlobs(t *testing.T) {
	t.Parallel()
	address := startBroker(t, server.Options{}).srv.ClientURL()
	var mu sync.Mutex
	counted := map[string]int{}
	b := open(t, address, backend.Options{Deployment: "demo", Count: func(service, operation string, err error) {
		mu.Lock()
		defer mu.Unlock()
		if service != "nats" {
			t.Errorf("got service %q, want nats", service)
		}
		if err == nil {
			counted[operation]++
		}
	}})
	if _, err := b.Queue(t.Context(), "jobs"); !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("queue before ensure: got %v, want %v", err, queue.ErrNotFound)
	}
	q, err := b.Ensure(t.Context(), "jobs", queue.Limits{Visibility: time.Minute})
	if err != nil {
		t.Fatalf("ensure: %v", err)
	}
	if err := q.Send(t.Context(), []byte("job")); err != nil {
		t.Fatalf("send: %v", err)
	}
	other, err := open(t, address, backend.Options{}).Queue(t.Context(), "jobs")
	if err != nil {
		t.Fatalf("queue: %v", err)
	}
	if msgs, err := other.Receive(t.Context(), 1, soon); err != nil || len(msgs) != 1 {
		t.Errorf("got %d messages, error %v, want the one sent", len(msgs), err)
	}
	putAndGet(t, b)
	mu.Lock()
	defer mu.Unlock()
	for _, operation := range []string{"publish", "create_queue", "consumer_info", "create", "get"} {
		if counted[operation] == 0 {
			t.Errorf("operation %q was not counted, got %v", operation, counted)
		}
	}
}

func putAndGet(t *testing.T, b backend.Backend) {
	t.Helper()
	store, err := b.Blobs(t.Context())
	if err != nil {
		t.Fatalf("blobs: %v", err)
	}
	version, err := store.Put(t.Context(), "k", make([]byte, blob.MaxSize), "")
	if err != nil {
		t.Fatalf("put: %v", err)
	}
	if o, err := store.Get(t.Context(), "k", ""); err != nil || o.Version != version {
		t.Errorf("got version %q, error %v, want %q", o.Version, err, version)
	}
}

func TestDeploymentsHaveTheirOwnStores(t *testing.T) {
	t.Parallel()
	address := startBroker(t, server.Options{}).srv.ClientURL()
	for _, deployment := range []string{"", "a", "b"} {
		store, err := open(t, address, backend.Options{Deployment: deployment}).Blobs(t.Context())
		if err != nil {
			t.Fatalf("blobs: %v", err)
		}
		if _, err := store.Put(t.Context(), "k", nil, ""); err != nil {
			t.Errorf("deployment %q: put: %v", deployment, err)
		}
	}
	if _, err := open(t, address, backend.Options{Deployment: "a.b"}).Blobs(t.Context()); err == nil {
		t.Error("deployment a.b: got no error, want one")
	}
}

func TestWaitsForTheBroker(t *testing.T) {
	t.Parallel()
	srv := startBroker(t, server.Options{})
	address := srv.srv.ClientURL()
	srv.stop()
	var log lines
	opened := make(chan backend.Backend, 1)
	go func() {
		opened <- open(t, address, backend.Options{Log: log.logger()})
	}()
	log.await(t, "waiting for the broker")
	srv.start(t)
	b := <-opened
	log.await(t, "the broker is there")
	if n := log.count("\n"); n != 2 {
		t.Errorf("got %d lines of log, want 2:\n%s", n, log.text.String())
	}
	if _, err := b.Ensure(t.Context(), "jobs", queue.Limits{}); err != nil {
		t.Errorf("ensure: %v", err)
	}
}

func TestWaitEndsWithContext(t *testing.T) {
	t.Parallel()
	srv := startBroker(t, server.Options{})
	address := srv.srv.ClientURL()
	srv.stop()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := backend.Open(ctx, address, backend.Openers{"nats": natsbackend.Open}, backend.Options{})
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no servers available") {
		t.Errorf("got %v, want the end of ctx and why it waited", err)
	}
}

func TestReconnects(t *testing.T) {
	t.Parallel()
	srv := startBroker(t, server.Options{})
	var log lines
	b := open(t, srv.srv.ClientURL(), backend.Options{Log: log.logger()})
	q, err := b.Ensure(t.Context(), "jobs", queue.Limits{})
	if err != nil {
		t.Fatalf("ensure: %v", err)
	}
	srv.stop()
	log.await(t, "lost the broker")
	sent := make(chan error, 1)
	go func() { sent <- q.Send(t.Context(), []byte("meanwhile")) }()
	<-time.After(500 * time.Millisecond) // some tries of reconnecting fail
	srv.start(t)
	if err := <-sent; err != nil {
		t.Errorf("send: %v", err)
	}
	log.await(t, "reconnected to the broker")
	if msgs, err := q.Receive(t.Context(), 10, soon); err != nil || len(msgs) != 1 {
		t.Errorf("got %d messages, error %v, want the one sent", len(msgs), err)
	}
	if n := log.count("\n"); n != 2 {
		t.Errorf("got %d lines of log, want 2:\n%s", n, log.text.String())
	}
}

func TestUserAndPassword(t *testing.T) {
	t.Parallel()
	address := startBroker(t, server.Options{Username: "cloud", Password: "master"}).srv.Addr().String()
	open(t, "nats://cloud:master@"+address, backend.Options{})
	for _, user := range []string{"", "cloud:wrong@"} {
		_, err := backend.Open(t.Context(), "nats://"+user+address, backend.Openers{"nats": natsbackend.Open},
			backend.Options{})
		if !errors.Is(err, queue.ErrDenied) {
			t.Errorf("user %q: got %v, want %v", user, err, queue.ErrDenied)
		}
		if err != nil && strings.Contains(err.Error(), "wrong") {
			t.Errorf("the error tells the password: %v", err)
		}
	}
}

func TestSeveralHosts(t *testing.T) {
	t.Parallel()
	dead := startBroker(t, server.Options{})
	gone := dead.srv.Addr().String()
	dead.stop()
	alive := startBroker(t, server.Options{}).srv.Addr().String()
	open(t, "nats://"+gone+","+alive+"?replicas=1", backend.Options{})
}

func TestBadAddresses(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"nats://h?replica=3":  `unknown option "replica"`,
		"nats://h?replicas=x": "from 1 to 5",
		"nats://h?replicas=0": "from 1 to 5",
		"nats://h?replicas=6": "from 1 to 5",
		"nats://h/path":       "/path",
		"nats://":             "host name is empty",
		"nats://a,,b":         "host name is empty",
		"nats://:4222":        "write HOST",
		"nats://h:70000":      "65535",
		"nats://h:0":          "65535",

		"nats://h?tls=x":                         "want true or false",
		"nats://h?ca=":                           "option ca is empty",
		"nats://h?cert=a":                        "go together",
		"nats://h?key=a":                         "go together",
		"nats://u:p@h?credentials=a":             "keep one of them",
		"nats://h?credentials=/none":             "no such file",
		"nats://h?credentials=$NOT_SET_AT_ALL/a": "NOT_SET_AT_ALL is not set",
		"nats://h?ca=/none":                      "option ca: ",
		"nats://h?credentials=" + seed:           "holds a secret",
	} {
		u, err := url.Parse(address)
		if err != nil {
			t.Errorf("%s: %v", address, err)
			continue
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		_, err = natsbackend.Open(ctx, u, backend.Options{})
		cancel()
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), seed) {
			t.Errorf("%s: got %v, want an error that says %q", address, err, want)
		}
	}
}

func TestClose(t *testing.T) {
	t.Parallel()
	b := open(t, startBroker(t, server.Options{}).srv.ClientURL(), backend.Options{})
	q, err := b.Ensure(t.Context(), "jobs", queue.Limits{})
	if err != nil {
		t.Fatalf("ensure: %v", err)
	}
	for range 2 {
		if err := b.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	if err := q.Send(t.Context(), []byte("x")); !errors.Is(err, queue.ErrClosed) {
		t.Errorf("send after close: got %v, want %v", err, queue.ErrClosed)
	}
}
