package app_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"cloudmaster/internal/agent"
	"cloudmaster/internal/message"
	"cloudmaster/services/fib-server/internal/app"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second

func TestServesWithoutAController(t *testing.T) {
	s := start(t, app.Program{}, "--listen", "127.0.0.1:0")
	s.wantLog(t, "nobody is told about load: this process was not started by a controller")
	dial(t, s.address).ask(t, "1", "1", "2", "3", "5")
}

func TestReportsItsLoad(t *testing.T) {
	status, program := statusQueue(t, nil)
	userData(t, map[string]any{"listen": "127.0.0.1:0", "max_clients": 5})
	s := start(t, program)

	got := status.wantLoad(t, 0, message.Idle)
	if got.Address != s.address || got.InstanceID != "fib-1" || got.State != "active" {
		t.Errorf("got %+v, want state active of fib-1 at %s", got, s.address)
	}
	a, b := dial(t, s.address), dial(t, s.address)
	status.wantLoad(t, 0.4, message.Busy)
	_ = a.Close()
	status.wantLoad(t, 0.2, message.Busy)
	_ = b.Close()
	status.wantLoad(t, 0, message.Idle)
}

func TestClientsAreServedWhileTheBrokerIsAway(t *testing.T) {
	back := make(chan struct{})
	status, program := statusQueue(t, back)
	userData(t, map[string]any{"listen": "127.0.0.1:0"})
	s := start(t, program)
	c := dial(t, s.address)
	c.ask(t, "1", "1", "2")
	close(back)
	status.wantLoad(t, 0.1, message.Busy)
	c.ask(t, "3")
}

func TestAStopSignalDrains(t *testing.T) {
	status, program := statusQueue(t, nil)
	userData(t, nil)
	s := start(t, program, "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0")
	ops := s.wantLog(t, "serving health and metrics")["address"].(string)
	c := dial(t, s.address)
	c.ask(t, "1")
	s.stop()
	s.wantLog(t, "serving the connected clients, taking no more")
	if code, body := get(t, ops, "/readyz"); code != http.StatusServiceUnavailable ||
		!strings.Contains(body, "draining") {
		t.Errorf("ready while draining: got %d %q, want 503", code, body)
	}
	if conn, err := net.Dial("tcp", s.address); err == nil {
		_ = conn.Close()
		t.Error("a new client was taken while draining")
	}
	status.wantSaid(t, "Draining: 1 clients connected")
	status.wantState(t, message.Draining)
	c.ask(t, "1", "2", "3")
	_ = c.Close()
	if err := s.wait(t); err != nil {
		t.Errorf("got %v, want nil", err)
	}
	status.wantLoad(t, 0, message.Idle)
}

// TestAClientThatAnAllocatorSendsAfterTheSignalIsServed: the allocator has not heard of the signal yet.
func TestAClientThatAnAllocatorSendsAfterTheSignalIsServed(t *testing.T) {
	status, program := statusQueue(t, nil)
	userData(t, nil)
	s := start(t, program, "--listen", "127.0.0.1:0", "--late-clients", "1s")
	s.stop()
	status.wantState(t, message.Draining)
	dial(t, s.address).ask(t, "1", "1", "2")
	if err := s.wait(t); err != nil {
		t.Errorf("got %v, want nil", err)
	}
}

// TestAServerWithoutClientsSaysThatItEnds although it ends at once.
func TestAServerWithoutClientsSaysThatItEnds(t *testing.T) {
	status, program := statusQueue(t, nil)
	userData(t, nil)
	s := start(t, program, "--listen", "127.0.0.1:0")
	status.wantState(t, "active")
	s.stop()
	status.wantState(t, message.Draining)
	if err := s.wait(t); err != nil {
		t.Errorf("got %v, want nil", err)
	}
}

func TestTheDrainIsBounded(t *testing.T) {
	s := start(t, app.Program{}, "--listen", "127.0.0.1:0", "--drain-timeout", "50ms")
	c := dial(t, s.address)
	c.ask(t, "1")
	s.stop()
	if err := s.wait(t); err != nil {
		t.Errorf("got %v, want nil", err)
	}
	if _, err := io.ReadAll(c.r); err != nil {
		t.Errorf("client: got %v, want the end of the connection", err)
	}
}

func TestOperations(t *testing.T) {
	s := start(t, app.Program{}, "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0")
	ops := s.wantLog(t, "serving health and metrics")["address"].(string)
	dial(t, s.address).ask(t, "1", "1", "2")
	for path, want := range map[string]string{
		"/healthz": "ok",
		"/readyz":  "ready",
		"/metrics": "cloudmaster_fib_lines_total 3",
	} {
		if code, body := get(t, ops, path); code != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: got %d, want 200 with %q in %.300s", path, code, want, body)
		}
	}
}

func TestAdvertisedAddress(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args []string
		want string // %s stands for the port
	}{
		"host as given":     {[]string{"--listen", "127.0.0.1:0"}, "127.0.0.1:%s"},
		"open host":         {[]string{"--listen", ":0"}, host + ":%s"},
		"open IPv4 host":    {[]string{"--listen", "0.0.0.0:0"}, host + ":%s"},
		"set":               {[]string{"--listen", ":0", "--advertise", "fib.example.org:443"}, "fib.example.org:443"},
		"set in IPv6 style": {[]string{"--listen", ":0", "--advertise", "[2001:db8::1]:443"}, "[2001:db8::1]:443"},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, app.Program{}, c.args...)
			_, port, err := net.SplitHostPort(s.address)
			if err != nil {
				t.Fatal(err)
			}
			if want := strings.ReplaceAll(c.want, "%s", port); s.advertised != want {
				t.Errorf("got %s, want %s", s.advertised, want)
			}
		})
	}
}

func TestATakenPortIsAnErrorWithANextStep(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	for name, args := range map[string][]string{
		"clients":    {"--listen", l.Addr().String()},
		"operations": {"--listen", "127.0.0.1:0", "--ops-listen", l.Addr().String()},
	} {
		err := app.Program{}.Run(t.Context(), args, io.Discard, io.Discard)
		if err == nil || !strings.Contains(err.Error(), "address already in use") {
			t.Errorf("%s: got %v, want address already in use", name, err)
		}
	}
}

func TestBadSettingsAreAllNamed(t *testing.T) {
	args := []string{
		"--max-clients=0", "--connection-limit=-5", "--idle-timeout=0s", "--write-timeout=-1s", "--drain-timeout=0s",
		"--status-interval=0s", "--advertise=nowhere", "extra", "--peer-connections=-1", "--peer-numbers=-2",
		"--peer-bytes=-3",
	}
	err := app.Program{}.Run(t.Context(), args, io.Discard, io.Discard)
	if err == nil {
		t.Fatal("got nil, want an error")
	}
	for _, want := range []string{
		`takes no arguments, got ["extra"]`,
		"--max-clients must be at least 1, got 0",
		"--connection-limit must be at least 1, got -5",
		"--peer-connections must be at least 0 (no bound), got -1",
		"--peer-numbers must be at least 0 (no bound), got -2",
		"--peer-bytes must be at least 0 (no bound), got -3",
		"--idle-timeout must be more than 0, got 0s",
		"--write-timeout must be more than 0, got -1s",
		"--drain-timeout must be more than 0, got 0s",
		"--status-interval must be more than 0, got 0s",
		`--advertise must be host:port, got "nowhere"`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got\n%v\nwant a line %q in it", err, want)
		}
	}
}

func TestBadUserDataIsAnError(t *testing.T) {
	for name, c := range map[string]struct{ doc, want string }{
		"not complete": {"pool: fib\n", "queues.status"},
		"unknown setting": {
			"pool: fib\ninstance_id: i\nbackend: mem://x\nqueues: {status: q}\nsettings: {max_client: 3}\n",
			"max_client is not a setting of fib-server",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(agent.EnvUserData, c.doc)
			err := app.Program{}.Run(t.Context(), []string{"--listen", "127.0.0.1:0"}, io.Discard, io.Discard)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q in it", err, c.want)
			}
		})
	}
}

// running is a program under test.
type running struct {
	address, advertised string
	stop                context.CancelFunc
	logs                *logBook
	result              chan error
}

// start runs the program and returns once it serves clients.
func start(t *testing.T, p app.Program, args ...string) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{stop: cancel, logs: newLogBook(), result: make(chan error, 1)}
	var wg sync.WaitGroup
	wg.Go(func() {
		defer r.logs.end()
		r.result <- p.Run(ctx, args, io.Discard, r.logs)
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	line := r.wantLog(t, "serving clients")
	r.address, r.advertised = line["address"].(string), line["advertised"].(string)
	return r
}

// wantLog reads the log up to the message and returns its attributes.
func (r *running) wantLog(t *testing.T, message string) map[string]any {
	t.Helper()
	var seen []string
	for text := range r.logs.read {
		var line map[string]any
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatalf("log line %q: %v", text, err)
		}
		if line["msg"] == message {
			return line
		}
		seen = append(seen, text)
	}
	t.Fatalf("the log ended without %q:\n%s", message, strings.Join(seen, "\n"))
	return nil
}

// wait returns what the program returned.
func (r *running) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-r.result:
		return err
	case <-time.After(patience):
		t.Fatal("the program did not end")
		return nil
	}
}

// logBook keeps log lines until somebody reads them. A pipe would make the program
// wait for the test.
type logBook struct {
	cond  *sync.Cond
	lines []string // guarded by cond.L
	ended bool     // guarded by cond.L
}

func newLogBook() *logBook { return &logBook{cond: sync.NewCond(new(sync.Mutex))} }

// Write adds a line; a log handler writes each in one call.
func (b *logBook) Write(p []byte) (int, error) {
	b.cond.L.Lock()
	defer b.cond.L.Unlock()
	b.lines = append(b.lines, string(p))
	b.cond.Broadcast()
	return len(p), nil
}

func (b *logBook) end() {
	b.cond.L.Lock()
	defer b.cond.L.Unlock()
	b.ended = true
	b.cond.Broadcast()
}

// read takes lines, waiting for them, until the program has ended.
func (b *logBook) read(yield func(string) bool) {
	for {
		line, ok := b.take()
		if !ok || !yield(line) {
			return
		}
	}
}

func (b *logBook) take() (string, bool) {
	b.cond.L.Lock()
	defer b.cond.L.Unlock()
	for len(b.lines) == 0 && !b.ended {
		b.cond.Wait()
	}
	if len(b.lines) == 0 {
		return "", false
	}
	line := b.lines[0]
	b.lines = b.lines[1:]
	return line, true
}

// client is one connection to the server.
type client struct {
	net.Conn
	r *bufio.Reader
}

func dial(t *testing.T, address string) *client {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &client{Conn: conn, r: bufio.NewReader(conn)}
}

func (c *client) ask(t *testing.T, want ...string) {
	t.Helper()
	for _, w := range want {
		if _, err := io.WriteString(c.Conn, "\n"); err != nil {
			t.Fatal(err)
		}
		if got, err := c.r.ReadString('\n'); err != nil || got != w+"\n" {
			t.Fatalf("got %q, %v, want %q", got, err, w)
		}
	}
}

func get(t *testing.T, address, path string) (int, string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + address + path)
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
