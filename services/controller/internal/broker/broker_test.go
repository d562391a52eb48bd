package broker_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"cloudmaster/internal/backend"
	"cloudmaster/internal/backend/natsbackend"
	"cloudmaster/internal/blob"
	"cloudmaster/internal/queue"
	"cloudmaster/services/controller/internal/broker"
)

// childStore is an environment variable. If it names a store, this test binary runs a broker on it until it
// is killed.
const childStore = "BROKER_TEST_STORE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childStore); dir != "" {
		runChild(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

func runChild(dir string) {
	b, err := broker.Start(context.Background(), broker.Options{Listen: "127.0.0.1:0", StoreDir: dir})
	if err != nil {
		fmt.Println("error:", err)
		return
	}
	fmt.Println(b.URL())
	select {} // until SIGKILL
}

func start(t *testing.T, dir string) *broker.Broker {
	t.Helper()
	b, err := broker.Start(t.Context(), broker.Options{
		Listen: "127.0.0.1:0", StoreDir: dir, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatalf("start: %v", err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return b
}

func connect(t *testing.T, address string) backend.Backend {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	b, err := natsbackend.Open(t.Context(), u, backend.Options{})
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return b
}

func ensure(t *testing.T, b backend.Backend) queue.Queue {
	t.Helper()
	q, err := b.Ensure(t.Context(), "jobs", queue.Limits{Visibility: time.Minute})
	if err != nil {
		t.Fatalf("ensure: %v", err)
	}
	return q
}

// take receives and deletes n messages and returns how often each body came.
func take(t *testing.T, q queue.Queue, n int) map[string]int {
	t.Helper()
	got := map[string]int{}
	for n > 0 {
		msgs, err := q.Receive(t.Context(), n, 10*time.Second)
		if err != nil || len(msgs) == 0 {
			t.Fatalf("got %d messages, error %v with %d to come", len(msgs), err, n)
		}
		receipts := make([]queue.Receipt, len(msgs))
		for i, m := range msgs {
			got[string(m.Body)]++
			receipts[i] = m.Receipt
		}
		if err := q.Delete(t.Context(), receipts...); err != nil {
			t.Fatalf("delete: %v", err)
		}
		n -= len(msgs)
	}
	return got
}

func TestRestartKeepsAll(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := start(t, dir)
	before := connect(t, b.URL())
	if err := ensure(t, before).Send(t.Context(), []byte("kept")); err != nil {
		t.Fatalf("send: %v", err)
	}
	blobs, err := before.Blobs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	version, err := blobs.Put(t.Context(), "k", []byte("kept"), "")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // twice is fine
		if err := b.Close(); err != nil {
			t.Fatalf("close: %v", err)
		}
	}

	after := connect(t, start(t, dir).URL())
	if got := take(t, ensure(t, after), 1); got["kept"] != 1 {
		t.Errorf("got %v, want the message sent before", got)
	}
	if blobs, err = after.Blobs(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := blobs.Get(t.Context(), "k", version); !errors.Is(err, blob.ErrNotModified) {
		t.Errorf("got %v, want the object at its version", err)
	}
}

// child starts a broker in another process and returns its address.
func child(t *testing.T, dir string) (*exec.Cmd, string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), childStore+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kill(cmd) })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "nats://") {
		t.Fatalf("child: got %q, error %v, want its address", line, err)
	}
	return cmd, strings.TrimSpace(line)
}

// kill ends a child with SIGKILL and waits until it is gone. Errors are ignored, because they mean that it is
// gone already.
func kill(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

func TestKillKeepsWhatWasConfirmed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd, address := child(t, dir)
	q := ensure(t, connect(t, address))
	const sent, done, held = 1000, 300, 5
	bodies := make([][]byte, sent)
	for i := range bodies {
		bodies[i] = []byte(strconv.Itoa(i))
	}
	if err := q.Send(t.Context(), bodies...); err != nil {
		t.Fatalf("send: %v", err)
	}
	finished := take(t, q, done)
	inFlight, err := q.Receive(t.Context(), held, 10*time.Second)
	if err != nil || len(inFlight) != held {
		t.Fatalf("got %d messages, error %v, want %d", len(inFlight), err, held)
	}
	kill(cmd)

	q = ensure(t, connect(t, start(t, dir).URL()))
	backlog, err := q.Backlog(t.Context())
	if err != nil || backlog.Visible+backlog.InFlight != sent-done {
		t.Fatalf("got backlog %+v, error %v, want %d in all", backlog, err, sent-done)
	}
	// Whether the broker remembers who held the messages depends on timing. That they are not lost does not.
	for _, m := range inFlight {
		if err := q.Release(t.Context(), m.Receipt); err != nil {
			t.Fatalf("release: %v", err)
		}
	}
	left := take(t, q, sent-done)
	for i := range sent {
		body := strconv.Itoa(i)
		if left[body]+finished[body] != 1 {
			t.Errorf("got message %s %d times after the kill and %d before, want once", body, left[body],
				finished[body])
		}
	}
}

func TestStoreInUse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd, _ := child(t, dir)
	_, err := broker.Start(t.Context(), broker.Options{Listen: "127.0.0.1:0", StoreDir: dir})
	says(t, err, dir, "in use by process "+strconv.Itoa(cmd.Process.Pid), "choose another directory")
	kill(cmd)
	start(t, dir) // the lock has ended with its process
}

func TestSameProcessTwice(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	start(t, dir)
	_, err := broker.Start(t.Context(), broker.Options{Listen: "127.0.0.1:0", StoreDir: dir})
	says(t, err, "in use by process "+strconv.Itoa(os.Getpid()))
}

func TestPortTaken(t *testing.T) {
	t.Parallel()
	other, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.Close() })
	cmd, address := child(t, t.TempDir())
	for name, tc := range map[string]struct{ address, by string }{
		"by another controller": {
			strings.TrimPrefix(address, "nats://"), "another controller, process " + strconv.Itoa(cmd.Process.Pid),
		},
		"by something silent": {other.Addr().String(), "another program"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			_, err := broker.Start(t.Context(), broker.Options{Listen: tc.address, StoreDir: dir})
			says(t, err, tc.address, tc.by, "choose another listen address")
			start(t, dir) // the start that failed has left nothing locked
		})
	}
}

func TestBadOptions(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		opts broker.Options
		want string
	}{
		"no store":     {broker.Options{Listen: "127.0.0.1:0"}, "store directory is not set"},
		"a file":       {broker.Options{StoreDir: file}, "choose another"},
		"under a file": {broker.Options{StoreDir: filepath.Join(file, "x")}, file},
		"no port":      {broker.Options{Listen: "localhost", StoreDir: "x"}, "write HOST:PORT"},
		"a wrong port": {broker.Options{Listen: "localhost:nats", StoreDir: "x"}, "from 0 to 65535"},
		"a lock that cannot be opened": {
			broker.Options{Listen: "127.0.0.1:0", StoreDir: dirWith(t, "lock/")}, "is not writable",
		},
		"a store that cannot be opened": {
			broker.Options{Listen: "127.0.0.1:0", StoreDir: dirWith(t, "jetstream")}, "broker: start: ",
		},
		"not an address": {
			broker.Options{
				Listen: "192.0.2.1:4222", StoreDir: t.TempDir(), Logins: true,
				TLS: broker.TLS{Certificate: broker.Generated},
			}, "choose another listen address",
		},
		"open to all machines": {
			broker.Options{Listen: "0.0.0.0:0", StoreDir: t.TempDir()},
			"set logins: true and tls_certificate: generated",
		},
		"passwords in clear": {
			broker.Options{Listen: ":0", StoreDir: t.TempDir(), Logins: true}, "tls_certificate: generated",
		},
		"no logins": {
			broker.Options{Listen: "[::]:0", StoreDir: t.TempDir(), TLS: broker.TLS{Certificate: broker.Generated}},
			"set logins: true",
		},
		"a certificate without key": {
			broker.Options{Listen: "127.0.0.1:0", StoreDir: t.TempDir(), TLS: broker.TLS{Certificate: file}},
			"tls_key: is empty",
		},
		"no certificate": {
			broker.Options{Listen: "127.0.0.1:0", StoreDir: t.TempDir(), TLS: broker.TLS{Certificate: file, Key: file}},
			"tls_certificate, tls_key: ",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := broker.Start(t.Context(), tc.opts)
			says(t, err, tc.want)
		})
	}
}

// dirWith returns a directory with one entry; a name that ends in a slash makes a directory.
func dirWith(t *testing.T, name string) string {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, name)
	var err error
	if strings.HasSuffix(name, "/") {
		err = os.Mkdir(path, 0o700)
	} else {
		err = os.WriteFile(path, nil, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestStoreNotWritable(t *testing.T) {
	t.Parallel()
	if os.Getuid() == 0 {
		t.Skip("root may write everywhere")
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o500); err != nil { //nolint:gosec // a directory needs its x
		t.Fatal(err)
	}
	_, err := broker.Start(t.Context(), broker.Options{Listen: "127.0.0.1:0", StoreDir: dir})
	says(t, err, dir, "not writable", "change its owner")
}

func TestRun(t *testing.T) {
	t.Parallel()
	b, err := broker.Start(t.Context(), broker.Options{Listen: "127.0.0.1:0", StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	connect(t, b.URL())
	cancel()
	if err := <-done; err != nil {
		t.Errorf("run: %v", err)
	}
	connect(t, b.URL()) // Run has not closed the broker
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

func TestCancelledStart(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir := t.TempDir()
	if b, err := broker.Start(ctx, broker.Options{Listen: "127.0.0.1:0", StoreDir: dir}); !errors.Is(err,
		context.Canceled) {
		t.Errorf("got %v, error %v, want %v", b, err, context.Canceled)
	}
	start(t, dir)
}

// says fails unless err's text has all the parts.
func says(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("got no error, want one")
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("got error %q, want it to say %q", err, p)
		}
	}
}
