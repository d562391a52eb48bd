package app_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"cloudmaster/internal/activeset"
	"cloudmaster/internal/backend"
	"cloudmaster/internal/backend/membackend"
	"cloudmaster/internal/blob"
	"cloudmaster/internal/queue"
	"cloudmaster/internal/queue/memqueue"
	"cloudmaster/services/allocator/internal/app"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// broker is a backend in memory that can be away when it is opened.
type broker struct {
	*membackend.Backend
	there chan struct{} // closed when it can be reached

	mu     sync.Mutex
	closed int // guarded by mu
}

func newBroker() *broker { return &broker{Backend: membackend.New(), there: make(chan struct{})} }

func (b *broker) open(ctx context.Context, _ *url.URL, _ backend.Options) (backend.Backend, error) {
	select {
	case <-b.there:
		return b, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (b *broker) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed++
	return nil
}

func (b *broker) timesClosed() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closed
}

func (b *broker) publish(t *testing.T, version int, instances ...activeset.Instance) {
	t.Helper()
	data, err := activeset.Encode(activeset.Set{
		Pool: "fib", Version: version, WrittenAt: time.Now(), Instances: instances,
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Store().Put(t.Context(), activeset.Key("fib"), data, blob.Any); err != nil {
		t.Fatal(err)
	}
}

func settings() app.Settings {
	return app.Settings{
		Listen: "127.0.0.1:0", OpsListen: "127.0.0.1:0",
		Backend: "mem://", Refresh: 5 * time.Millisecond, Request: time.Minute,
		Forget: time.Minute,
		Pools:  []app.PoolSettings{{Name: "fib", Queue: "fib-work", ClientLoad: 0.1}},
	}
}

// running is an app that has been started.
type running struct {
	url  string // for clients
	ops  string
	stop context.CancelFunc
	done chan error // receives what Run returned
	log  *syncBuffer
}

// syncBuffer is a log that may be read while it is written.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

// Write appends to the log.
func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func start(t *testing.T, b *broker, s app.Settings) *running {
	t.Helper()
	r := &running{done: make(chan error, 1), log: &syncBuffer{}}
	listening, ops := make(chan net.Addr, 1), make(chan net.Addr, 1)
	a, err := app.New(s, backend.Openers{"mem": b.open}, app.Options{
		Log: slog.New(slog.NewTextHandler(r.log, nil)), Listening: func(addr net.Addr) { listening <- addr },
		Ops: func(addr net.Addr) { ops <- addr },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	r.stop = stop
	var wg sync.WaitGroup
	wg.Go(func() { r.done <- a.Run(ctx) })
	t.Cleanup(func() { stop(); wg.Wait(); http.DefaultClient.CloseIdleConnections() })
	select {
	case addr := <-listening:
		r.url, r.ops = "http://"+addr.String(), "http://"+(<-ops).String()
	case err := <-r.done:
		t.Fatalf("run: %v", err)
	}
	return r
}

func (r *running) ended(t *testing.T) {
	t.Helper()
	r.stop()
	if err := <-r.done; err != nil {
		t.Errorf("run: got %v, want no error after a stop", err)
	}
}

func (r *running) do(t *testing.T, method, path string) (int, string) {
	t.Helper()
	base := r.ops
	if strings.HasSuffix(path, "/allocations") {
		base = r.url
	}
	req, err := http.NewRequestWithContext(t.Context(), method, base+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// patience is how long await waits for what should take milliseconds.
const patience = 20 * time.Second

// await asks until the answer holds part.
func (r *running) await(t *testing.T, method, path string, status int, part string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for tick := time.Tick(time.Millisecond); ; <-tick {
		got, body := r.do(t, method, path)
		if got == status && strings.Contains(body, part) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s %s: got %d %s, want %d with %q", method, path, got, body, status, part)
		}
	}
}

const allocations = "/v1/pools/fib/allocations"

// The whole life: broker away, broker there, no document, no queue, servers come and go.
func TestLife(t *testing.T) {
	t.Parallel()
	b := newBroker()
	r := start(t, b, settings())
	r.await(t, http.MethodGet, "/healthz", 200, "ok")
	r.await(t, http.MethodGet, "/readyz", 503, "not been read yet of pool fib")
	r.await(t, http.MethodPost, allocations, 503, "servers-not-known-yet")

	close(b.there)
	r.await(t, http.MethodGet, "/readyz", 200, "ready")
	r.await(t, http.MethodPost, allocations, 503, `"request":"failed"`) // no queue yet

	q, err := b.Ensure(t.Context(), "fib-work", queue.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	r.await(t, http.MethodPost, allocations, 503, `"request":"queued"`)
	r.await(t, http.MethodPost, allocations, 503, `"request":"recently_queued"`)
	got, err := q.Receive(t.Context(), 10, 0)
	if err != nil || len(got) != 1 || string(got[0].Body) != "startup" {
		t.Errorf("work queue: got %v, %v, want one message startup", got, err)
	}

	b.publish(t, 1, activeset.Instance{ID: "i-1", Address: "10.0.0.1:1"})
	r.await(t, http.MethodPost, allocations, 201, `"address":"10.0.0.1:1"`)
	b.publish(t, 2)
	r.await(t, http.MethodPost, allocations, 503, "no servers are running, try again in a minute")
	r.await(t, http.MethodGet, "/metrics", 200, `cloudmaster_allocator_set_reads_total{outcome="updated",pool="fib"} 2`)
	r.ended(t)
	if got := b.timesClosed(); got != 1 {
		t.Errorf("backend closed %d times, want once", got)
	}
}

// Two allocators on one broker hear of each other's clients.
func TestAllocatorsTellEachOther(t *testing.T) {
	t.Parallel()
	b := newBroker()
	close(b.there)
	b.publish(t, 1, activeset.Instance{ID: "i-1", Address: "10.0.0.1:1"})
	one, two := start(t, b, settings()), start(t, b, settings())
	for _, r := range []*running{one, two} {
		r.await(t, http.MethodGet, "/readyz", 200, "ready")
		r.awaitLog(t, "allocators tell each other what they assign")
	}
	one.await(t, http.MethodPost, allocations, 201, `"load_estimate":0}`)
	two.await(t, http.MethodGet, "/v1/pools/fib", 200, `"load_estimate":0.1,"reported_load":0,"assigned":0,"heard":1`)
	one.await(t, http.MethodGet, "/v1/pools/fib", 200, `"load_estimate":0.1,"reported_load":0,"assigned":1,"heard":0`)
	two.await(t, http.MethodGet, "/metrics", 200, `cloudmaster_allocator_notices_total{outcome="heard"}`)
	one.ended(t)
	two.ended(t)
}

// awaitLog waits until the log says so.
func (r *running) awaitLog(t *testing.T, part string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for tick := time.Tick(time.Millisecond); !strings.Contains(r.log.String(), part); <-tick {
		if time.Now().After(deadline) {
			t.Fatalf("the log does not say %q:\n%s", part, r.log.String())
		}
	}
}

func TestStops(t *testing.T) {
	t.Parallel()
	cases := map[string]func(b *broker, r *running){
		"while the broker is away": func(*broker, *running) {},
		"twice":                    func(_ *broker, r *running) { r.stop() },
		"just as the broker comes": func(b *broker, _ *running) { close(b.there) },
	}
	for name, before := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBroker()
			r := start(t, b, settings())
			before(b, r)
			r.ended(t)
		})
	}
}

func TestStoppedBeforeItBegins(t *testing.T) {
	t.Parallel()
	a, err := app.New(settings(), backend.Openers{"mem": newBroker().open}, app.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := a.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want nothing but the stop", err)
	}
}

func TestTwoInOneProcess(t *testing.T) {
	t.Parallel()
	b := newBroker()
	close(b.there)
	b.publish(t, 1, activeset.Instance{ID: "i-1", Address: "10.0.0.1:1"})
	one, two := start(t, b, settings()), start(t, b, settings())
	one.await(t, http.MethodPost, allocations, 201, "i-1")
	two.await(t, http.MethodPost, allocations, 201, "i-1")
	one.ended(t)
	two.await(t, http.MethodPost, allocations, 201, "i-1")
	two.ended(t)
}

func TestPortTaken(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	s := settings()
	s.Listen = l.Addr().String()
	a, err := app.New(s, backend.Openers{"mem": newBroker().open}, app.Options{})
	if err != nil {
		t.Fatal(err)
	}
	err = a.Run(t.Context())
	for _, want := range []string{s.Listen, "another program has this port", "--listen"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %q", err, want)
		}
	}
}

// An address that no waiting can mend ends the program.
func TestBackendOfAnotherKind(t *testing.T) {
	t.Parallel()
	s := settings()
	s.Backend = "gopher://there"
	a, err := app.New(s, backend.Openers{"mem": newBroker().open}, app.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "this program speaks mem") {
		t.Errorf("got %v, want an error that names what it speaks", err)
	}
}

// brokenStore cannot open its store the first time.
type brokenStore struct {
	*broker
	once sync.Once
}

func (b *brokenStore) Blobs(ctx context.Context) (store blob.Store, err error) {
	b.once.Do(func() { err = blob.ErrThrottled })
	if err != nil {
		return nil, err
	}
	return b.broker.Blobs(ctx)
}

func TestAStoreThatCannotBeOpenedIsTriedAgain(t *testing.T) {
	t.Parallel()
	b := &brokenStore{broker: newBroker()}
	close(b.there)
	s := settings()
	log := &syncBuffer{}
	ops := make(chan net.Addr, 1)
	a, err := app.New(s, backend.Openers{
		"mem": func(context.Context, *url.URL, backend.Options) (backend.Backend, error) { return b, nil },
	}, app.Options{Log: slog.New(slog.NewTextHandler(log, nil)), Ops: func(addr net.Addr) { ops <- addr }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	r := &running{stop: stop, done: make(chan error, 1), log: log}
	var wg sync.WaitGroup
	wg.Go(func() { r.done <- a.Run(ctx) })
	t.Cleanup(func() { stop(); wg.Wait(); http.DefaultClient.CloseIdleConnections() })
	r.ops = "http://" + (<-ops).String()
	r.await(t, http.MethodGet, "/readyz", 200, "ready")
	if !strings.Contains(log.String(), "trying again") {
		t.Errorf("got no word of the failure in the log:\n%s", log)
	}
	r.ended(t)
}

// A request for a server that is under way when the stop comes is still sent and answered.
func TestAStopLetsRequestsFinish(t *testing.T) {
	t.Parallel()
	b := &slowQueues{broker: newBroker(), asked: make(chan struct{}), release: make(chan struct{})}
	close(b.there)
	listening, ops := make(chan net.Addr, 1), make(chan net.Addr, 1)
	a, err := app.New(settings(), backend.Openers{
		"mem": func(context.Context, *url.URL, backend.Options) (backend.Backend, error) { return b, nil },
	}, app.Options{
		Listening: func(addr net.Addr) { listening <- addr }, Ops: func(addr net.Addr) { ops <- addr },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	r := &running{stop: stop, done: make(chan error, 1)}
	var wg sync.WaitGroup
	wg.Go(func() { r.done <- a.Run(ctx) })
	t.Cleanup(func() { stop(); wg.Wait(); http.DefaultClient.CloseIdleConnections() })
	r.url, r.ops = "http://"+(<-listening).String(), "http://"+(<-ops).String()
	r.await(t, http.MethodGet, "/readyz", 200, "ready")

	var client sync.WaitGroup
	client.Go(func() {
		status, body := r.do(t, http.MethodPost, allocations)
		if status != 503 || !strings.Contains(body, `"request":"queued"`) {
			t.Errorf("got %d %s, want the request queued", status, body)
		}
	})
	<-b.asked
	stop()
	close(b.release)
	client.Wait()
	if err := <-r.done; err != nil {
		t.Errorf("run: %v", err)
	}
	if got := b.work.Bodies(); len(got) != 1 {
		t.Errorf("work queue: got %v, want one message", got)
	}
}

// slowQueues opens its work queue only when released.
type slowQueues struct {
	*broker
	asked, release chan struct{}
	work           *memqueue.Queue
}

func (b *slowQueues) Queue(_ context.Context, name string) (queue.Queue, error) {
	close(b.asked)
	<-b.release
	b.work = memqueue.New(name, queue.Limits{})
	return b.work, nil
}
