package app_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"cloudmaster/internal/cloud/processcloud"
	"cloudmaster/services/controller/internal/app"
	"cloudmaster/services/controller/internal/broker"
	"cloudmaster/services/controller/internal/config"
	"cloudmaster/services/controller/internal/lease"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// configuration returns a configuration with one pool that stays empty. All its directories belong to the
// test.
func configuration(t *testing.T, top string) *config.Config {
	t.Helper()
	dir := t.TempDir()
	doc := top + "\nclouds: {local: {bin_dir: /bin, state_dir: " + dir + "/instances, audit_instance_interval: 1s}}\n" +
		"pools: {primes: {policy: job, image: ls, cloud: local}}\n"
	cfg, err := config.Parse("test.yaml", []byte(doc), app.Kinds())
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func embedded(t *testing.T, listen, store string) *config.Config {
	t.Helper()
	return configuration(t, `broker: {listen: "`+listen+`", store_dir: `+store+`}`)
}

// output is a writer that tests can wait on.
type output struct {
	mu    sync.Mutex
	text  bytes.Buffer
	wrote chan struct{} // has a value after a write; its capacity is 1
}

func newOutput() *output { return &output{wrote: make(chan struct{}, 1)} }

// Write keeps the bytes.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	select {
	case o.wrote <- struct{}{}:
	default:
	}
	return o.text.Write(p)
}

// await returns when the text has been written.
func (o *output) await(t *testing.T, text string) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		o.mu.Lock()
		got := o.text.String()
		o.mu.Unlock()
		if strings.Contains(got, text) {
			return
		}
		select {
		case <-o.wrote:
		case <-deadline:
			t.Fatalf("waited for %q, got\n%s", text, got)
		}
	}
}

// running is a controller under test.
type running struct {
	out, log *output
	stop     func() error
}

func start(t *testing.T, cfg *config.Config) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{out: newOutput(), log: newOutput()}
	ended := make(chan error, 1)
	go func() { ended <- app.RunConfig(ctx, cfg, nil, nil, r.out, slog.New(slog.NewTextHandler(r.log, nil))) }()
	r.stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// refused runs a controller that should not start, and returns its error.
func refused(t *testing.T, cfg *config.Config) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	err := app.RunConfig(ctx, cfg, nil, nil, io.Discard, slog.New(slog.DiscardHandler))
	if err == nil || ctx.Err() != nil {
		t.Fatalf("got %v, want the start refused", err)
	}
	return err
}

const passed = "primes Instances: 0 Queue Depth: 0"

func TestStartStopStartAgain(t *testing.T) {
	t.Parallel()
	cfg := embedded(t, "127.0.0.1:0", filepath.Join(t.TempDir(), "js"))
	for range 2 {
		r := start(t, cfg)
		r.out.await(t, passed)
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLogins checks that a controller whose broker wants logins has its own, and writes those that others need. Its
// next start takes the same ones.
func TestLogins(t *testing.T) {
	t.Parallel()
	store := filepath.Join(t.TempDir(), "js")
	cfg := configuration(t, `broker: {listen: "127.0.0.1:0", store_dir: `+store+`, logins: true}`)
	var before []byte
	for range 2 {
		r := start(t, cfg)
		r.out.await(t, passed)
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		client, err := os.ReadFile(filepath.Join(store, "access", "primes-client"))
		if err != nil {
			t.Fatal(err)
		}
		if before == nil {
			before = client
		}
		if string(client) != string(before) {
			t.Errorf("got login %q after a restart, want %q", client, before)
		}
	}
}

func TestCancelledStart(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := app.RunConfig(ctx, embedded(t, "127.0.0.1:0", t.TempDir()), nil, nil, io.Discard,
		slog.New(slog.DiscardHandler))
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want none or context.Canceled", err)
	}
}

func TestSecondOnTheSameStore(t *testing.T) {
	t.Parallel()
	store := filepath.Join(t.TempDir(), "js")
	first := start(t, embedded(t, "127.0.0.1:0", store))
	first.out.await(t, passed)
	err := refused(t, embedded(t, "127.0.0.1:0", store))
	if want := fmt.Sprintf("%s is in use by process %d", store, os.Getpid()); !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want it to name the first: %s", err, want)
	}
}

func TestPortTaken(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	address := l.Addr().String()
	if err := refused(t, embedded(t, address, t.TempDir())); !strings.Contains(err.Error(), address) {
		t.Errorf("got %v, want it to name %s", err, address)
	}
	cfg := embedded(t, "127.0.0.1:0", t.TempDir())
	cfg.OpsListen = address
	if err := refused(t, cfg); !strings.Contains(err.Error(), address) {
		t.Errorf("got %v, want it to name %s", err, address)
	}
}

func TestStoreNotWritable(t *testing.T) {
	t.Parallel()
	if err := refused(t, embedded(t, "127.0.0.1:0", "/proc/nothing")); !strings.Contains(err.Error(), "/proc/nothing") {
		t.Errorf("got %v, want it to name the directory", err)
	}
	cfg := embedded(t, "127.0.0.1:0", t.TempDir())
	set, ok := cfg.Clouds["local"].Settings.(*processcloud.Settings)
	if !ok {
		t.Fatalf("got settings %T", cfg.Clouds["local"].Settings)
	}
	set.StateDir = "/proc/nothing"
	if err := refused(t, cfg); !strings.Contains(err.Error(), "/proc/nothing") {
		t.Errorf("got %v, want it to name the directory", err)
	}
}

// external starts a broker that no controller runs.
func external(t *testing.T, listen, dir string) *broker.Broker {
	t.Helper()
	b, err := broker.Start(t.Context(),
		broker.Options{Listen: listen, StoreDir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// TestSecondOnAnExternalBroker checks that a controller does not start while one on another machine holds the
// lease.
func TestSecondOnAnExternalBroker(t *testing.T) {
	t.Parallel()
	b := external(t, "127.0.0.1:0", t.TempDir())
	cfg := configuration(t, "backend: "+b.URL())
	holdLease(t, b.URL(), lease.Holder{Host: "elsewhere", PID: 4711, RenewedAt: time.Now()})
	err := refused(t, cfg)
	if !errors.Is(err, lease.ErrHeld) || !strings.Contains(err.Error(), "process 4711 on elsewhere") {
		t.Errorf("got %v, want it to name the first", err)
	}
}

// freeAddress is one on which nobody listened a moment ago.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// TestBrokerDownAtStart checks that the controller says that it waits for the broker, and goes on when the
// broker is there.
func TestBrokerDownAtStart(t *testing.T) {
	t.Parallel()
	address := freeAddress(t)
	r := start(t, configuration(t, "backend: nats://"+address))
	r.log.await(t, "waiting for the broker")
	external(t, address, t.TempDir())
	r.out.await(t, passed)
}

// TestBrokerLostAndBack checks that the backlog counts as unknown and not as empty during an outage of the
// broker, and that the controller recovers by itself.
func TestBrokerLostAndBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := external(t, "127.0.0.1:0", dir)
	address := strings.TrimPrefix(b.URL(), "nats://")
	r := start(t, configuration(t, "backend: "+b.URL()+"\ndefaults: {policy_interval: 1s, report_interval: 1s}"))
	r.out.await(t, passed)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	r.out.await(t, "Queue Depth: unknown")
	external(t, address, dir)
	r.log.await(t, "passes succeed again")
}
