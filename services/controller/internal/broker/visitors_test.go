package broker_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"cloudmaster/services/controller/internal/broker"
)

// watched is a broker with logins whose log and refusals are looked at.
type watched struct {
	*broker.Broker

	address string // host:port

	mu      sync.Mutex
	log     bytes.Buffer   // guarded by mu
	refused map[string]int // guarded by mu
}

// Write takes a line of the log.
func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(p)
}

func (w *watched) said() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.String()
}

func (w *watched) counts() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.refused)
}

// startWatched starts a broker that waits so long for its clients.
func startWatched(t *testing.T, far bool, patience time.Duration) *watched {
	t.Helper()
	w := &watched{refused: make(map[string]int)}
	o := broker.Options{
		Listen: "127.0.0.1:0", StoreDir: t.TempDir(), Logins: true, Log: slog.New(slog.NewTextHandler(w, nil)),
		Refused: func(reason string) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.refused[reason]++
		},
	}
	o.Impatient(patience)
	if far {
		o.AllFar()
	}
	b, err := broker.Start(t.Context(), o)
	must(t, "start", err)
	t.Cleanup(func() { must(t, "close", b.Close()) })
	w.Broker, w.address = b, strings.TrimPrefix(b.URL(), "nats://")
	return w
}

// knock connects from an address and says nothing.
func (w *watched) knock(t *testing.T, from string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := d.DialContext(t.Context(), "tcp", w.address)
	must(t, "dial", err)
	t.Cleanup(func() { _ = c.Close() })
	must(t, "deadline", c.SetDeadline(time.Now().Add(time.Minute)))
	return c
}

// until waits for what takes milliseconds.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for tick := time.Tick(5 * time.Millisecond); !is(); <-tick {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// logsIn checks that a client with the controller's login gets in, soon.
func (w *watched) logsIn(t *testing.T) {
	t.Helper()
	start := time.Now()
	must(t, "log in", tryOpen(t, w.Own()))
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("the login took %v", took)
	}
}

// TestTenThousandSilentClients: of those that say nothing, a bounded number is kept, for a bounded time, in bounded
// memory, and others get in meanwhile.
func TestTenThousandSilentClients(t *testing.T) {
	w := startWatched(t, true, 5*time.Second)
	w.logsIn(t)
	before := memory()
	var kept []net.Conn
	for n := range 10_000 {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(n%100))}}
		c, err := d.DialContext(t.Context(), "tcp", w.address)
		must(t, "dial", err)
		t.Cleanup(func() { _ = c.Close() })
		kept = append(kept, c)
	}
	until(t, "most to be refused", func() bool { return w.counts()["waiting"] >= 9_000 })
	if got := w.Connections(); got > broker.MostWaiting {
		t.Errorf("got %d connections, want %d at most", got, broker.MostWaiting)
	}
	each := (memory() - before) / int64(max(1, w.Connections()))
	t.Logf("%d connections that say nothing cost %d KiB each, the test's own side included", w.Connections(), each>>10)
	if each > 200<<10 {
		t.Errorf("each of them costs %d bytes, want 200 KiB at most", each)
	}
	if got := strings.Count(w.said(), "too many have not logged in"); got != 10 {
		t.Errorf("got %d lines in the log, want 10 and a count of the rest", got)
	}
	until(t, "the silent ones to be ended", func() bool {
		counts := w.counts()
		return w.Connections() == 0 && counts["silent"]+counts["waiting"] == 10_000
	})
	w.logsIn(t)
	runtime.KeepAlive(kept)
}

func memory() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// TestOneAddressKeepsNobodyOut: one address of another machine has its share of those that have not logged in, and
// others get in at once.
func TestOneAddressKeepsNobodyOut(t *testing.T) {
	t.Parallel()
	w := startWatched(t, true, 20*time.Second)
	for range broker.MostPeerWaiting + 50 {
		w.knock(t, "127.0.0.2")
	}
	until(t, "what is too much to be refused", func() bool { return w.counts()["waiting"] == 50 })
	w.logsIn(t) // from 127.0.0.1
	until(t, "only those that wait to be left", func() bool { return w.Connections() == broker.MostPeerWaiting })
}

// TestARefusedClientTriesAgain: a program that finds all places taken gets in when there is one.
func TestARefusedClientTriesAgain(t *testing.T) {
	t.Parallel()
	w := startWatched(t, true, time.Second)
	for range broker.MostPeerWaiting {
		w.knock(t, "127.0.0.1")
	}
	until(t, "all places to be taken", func() bool { return w.Connections() == broker.MostPeerWaiting })
	w.logsIn(t)
	if got := w.counts()["waiting"]; got == 0 {
		t.Error("it was not refused, so nothing was tried")
	}
}

// TestLoggedInDoNotWait: those that have logged in count no more, however many there are.
func TestLoggedInDoNotWait(t *testing.T) {
	t.Parallel()
	w := startWatched(t, true, 20*time.Second)
	login, err := os.ReadFile(filepath.Join(w.access(), "controller"))
	must(t, "read", err)
	for range broker.MostPeerWaiting + 20 {
		c := w.knock(t, "127.0.0.1")
		in := bufio.NewReader(c)
		speaks(t, c, in, connectLine(string(login))+"PING\r\n", "PONG")
	}
	if got := w.counts(); len(got) > 0 {
		t.Errorf("got %v refused, want none", got)
	}
}

func (w *watched) access() string {
	file := strings.SplitN(w.Own(), "credentials=", 2)[1]
	return filepath.Dir(file)
}

// connectLine is the first line of a client with this login.
func connectLine(login string) string {
	words := make(map[string]string)
	for line := range strings.Lines(login) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		words[key] = value
	}
	return fmt.Sprintf("CONNECT {\"user\":%q,\"pass\":%q,\"verbose\":false}\r\n", words["user"], words["password"])
}

// speaks says something, and reads until a line begins with want.
func speaks(t *testing.T, c io.Writer, in *bufio.Reader, text, want string) {
	t.Helper()
	_, err := io.WriteString(c, text)
	must(t, "say", err)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			t.Fatalf("got %v, want a line %s", err, want)
		}
		if strings.HasPrefix(line, want) {
			return
		}
	}
}

// TestSlowLoris: who says a letter now and then is ended like one that says nothing.
func TestSlowLoris(t *testing.T) {
	t.Parallel()
	w := startWatched(t, true, 300*time.Millisecond)
	c := w.knock(t, "127.0.0.1")
	ctx, stop := context.WithCancel(t.Context())
	var over sync.WaitGroup
	over.Go(func() {
		for tick := time.Tick(20 * time.Millisecond); ctx.Err() == nil; <-tick {
			if _, err := io.WriteString(c, "C"); err != nil {
				return
			}
		}
	})
	t.Cleanup(func() { stop(); over.Wait() })
	until(t, "its connection to end", func() bool { return w.counts()["silent"] == 1 && w.Connections() == 0 })
}

// TestDeafClient: the connection of a client that reads nothing of what it is sent is ended on both sides.
func TestDeafClient(t *testing.T) {
	t.Parallel()
	w := startWatched(t, false, time.Second)
	login, err := os.ReadFile(filepath.Join(w.access(), "controller"))
	must(t, "read", err)
	c := w.knock(t, "127.0.0.1")
	speaks(t, c, bufio.NewReader(c), connectLine(string(login))+"SUB noise 1\r\nPING\r\n", "PONG")
	nc, err := nats.Connect(w.URL(), natsLogin(string(login)))
	must(t, "connect", err)
	defer nc.Close()
	ctx, stop := context.WithCancel(t.Context())
	var over sync.WaitGroup
	over.Go(func() {
		noise := make([]byte, 512<<10)
		for ctx.Err() == nil && nc.Publish("noise", noise) == nil {
			if nc.FlushTimeout(5*time.Second) != nil {
				return
			}
		}
	})
	t.Cleanup(func() { stop(); over.Wait() })
	until(t, "the deaf client to be ended", func() bool { return w.counts()["deaf"] == 1 && w.Connections() == 1 })
	stop()
	if !strings.Contains(w.said(), "does not read what it is sent") || !strings.Contains(w.said(), "from=127.0.0.1:") {
		t.Errorf("got no word of it, with its address, in the log:\n%s", w.said())
	}
}

func natsLogin(login string) nats.Option {
	words := make(map[string]string)
	for line := range strings.Lines(login) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		words[key] = value
	}
	return nats.UserInfo(words["user"], words["password"])
}

// TestFailedLogins: each is counted; ten a minute are logged, with address and user and without the password.
func TestFailedLogins(t *testing.T) {
	t.Parallel()
	w := startWatched(t, false, 20*time.Second)
	for n := range 25 {
		_, err := nats.Connect(w.URL(), nats.UserInfo("mallory", fmt.Sprintf("guess-%d", n)))
		if err == nil {
			t.Fatal("got in")
		}
	}
	until(t, "all to be counted", func() bool { return w.counts()["login"] == 25 })
	said := w.said()
	if got := strings.Count(said, "a login at the broker failed"); got != 10 {
		t.Errorf("got %d lines, want 10:\n%s", got, said)
	}
	if !strings.Contains(said, "from=127.0.0.1:") || !strings.Contains(said, "user=mallory") ||
		strings.Contains(said, "guess-") || strings.Contains(said, "authentication error") {
		t.Errorf("got a log without address or user, with a password, or with the server's own lines:\n%s", said)
	}
	if got := w.counts()["silent"]; got > 0 {
		t.Errorf("got %d counted as silent too", got)
	}
}
