package app_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"cloudmaster/internal/agent"
	"cloudmaster/internal/backend"
	"cloudmaster/internal/backend/membackend"
	"cloudmaster/internal/daemon"
	"cloudmaster/internal/queue"
	"cloudmaster/services/primes-worker/internal/app"
)

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

func TestAJobGoesThrough(t *testing.T) {
	s := setup(t)
	s.createQueues(t)
	s.start(t)
	s.send(t, "1|6573")
	for _, text := range []string{"Processing: 1 6573", "Processed: 1 6573 primes (65809) in 0", "idle"} {
		s.wantHeard(t, text)
	}
	s.stop(t)
	s.wantBacklog(t, 0)
}

func TestGarbageStopsNothing(t *testing.T) {
	s := setup(t)
	s.createQueues(t)
	s.start(t)
	s.send(t, "\xff\xfe", strings.Repeat("\x00|", 100_000), "5|10")
	s.wantHeard(t, `Refused: "\xff\xfe": job is not UTF-8 text`)
	s.wantHeard(t, "Processed: 5 10 primes (29) in 0")
	s.stop(t)
	s.wantBacklog(t, 0)
}

func TestUserDataSetsTheCeiling(t *testing.T) {
	s := setup(t)
	s.me.Settings = map[string]any{"max_n": 10}
	s.createQueues(t)
	s.start(t)
	s.send(t, "1|11", "2|10")
	s.wantHeard(t, `Refused: "1|11": job's N is "11", more than the ceiling of 10`)
	s.wantHeard(t, "Processed: 2 10 primes (29) in 0")
	s.stop(t)
}

func TestWaitsForItsQueues(t *testing.T) {
	s := setup(t)
	s.start(t, "--ops-listen", "127.0.0.1:0")
	s.log.want(t, "waiting for a queue; the controller creates it")
	ops := s.log.field(t, "serving health and metrics", "address")
	code, body := get(t, ops, "/readyz")
	if code != http.StatusServiceUnavailable || !strings.Contains(body, "waiting for the broker or its queues") {
		t.Errorf("ready without queues: got %d %q, want 503", code, body)
	}
	s.createQueues(t)
	s.send(t, "1|2")
	s.wantHeard(t, "Processed: 1 2 primes (3) in 0")
	s.wantHeard(t, "idle") // the job is counted when its message has been deleted, before that
	for path, want := range map[string]string{
		"/healthz": "ok", "/readyz": "ready", "/metrics": `cloudmaster_primes_jobs_total{outcome="processed"} 1`,
	} {
		if code, body := get(t, ops, path); code != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: got %d, want 200 with %q in %.200s", path, code, want, body)
		}
	}
	s.stop(t)
}

func TestStopWhileWaiting(t *testing.T) {
	t.Run("for queues", func(t *testing.T) {
		s := setup(t)
		s.start(t)
		s.log.want(t, "waiting for a queue")
		s.stop(t)
	})
	t.Run("for the broker", func(t *testing.T) {
		s := setup(t)
		s.open = func(ctx context.Context) error {
			<-ctx.Done()
			return fmt.Errorf("wait for the broker: %w", context.Cause(ctx))
		}
		s.start(t)
		s.log.want(t, "starting")
		s.stop(t)
	})
}

// TestAnIdleWorkerSaysThatItEnds although it ends at once.
func TestAnIdleWorkerSaysThatItEnds(t *testing.T) {
	s := setup(t)
	s.createQueues(t)
	s.start(t)
	s.wantHeard(t, "active")
	s.stop(t)
	s.wantHeard(t, "draining")
}

func TestStopHandsTheJobBack(t *testing.T) {
	s := setup(t)
	s.createQueues(t)
	s.start(t, "--stop-timeout", "0", "--max-n", "2000000000")
	s.send(t, "1|2000000000") // seconds
	s.wantHeard(t, "Processing: 1 2000000000")
	s.stop(t)
	s.wantHeard(t, "Handed back: 1 2000000000")
	s.wantBacklog(t, 1)
}

func TestByHand(t *testing.T) {
	s := setup(t)
	s.byHand = true
	s.createQueues(t)
	s.start(t, "--backend", "mem://x", "--work-queue", "w", "--status-queue", "s", "--instance-id", "me")
	s.send(t, "1|10")
	s.wantHeard(t, "Processed: 1 10 primes (29) in 0")
	s.stop(t)
}

func TestRefusesToStart(t *testing.T) {
	t.Run("denied", func(t *testing.T) {
		s := setup(t)
		s.open = func(context.Context) error { return queue.ErrDenied }
		s.start(t)
		if err := <-s.ended; !errors.Is(err, queue.ErrDenied) {
			t.Errorf("got %v, want %v", err, queue.ErrDenied)
		}
	})
	t.Run("port taken", func(t *testing.T) {
		s := setup(t)
		s.createQueues(t)
		s.start(t, "--ops-listen", "127.0.0.1:0")
		taken := s.log.field(t, "serving health and metrics", "address")
		other := setup(t)
		other.createQueues(t)
		other.start(t, "--ops-listen", taken)
		if err := <-other.ended; err == nil || !strings.Contains(err.Error(), taken) {
			t.Errorf("got %v, want an error about %s", err, taken)
		}
		s.stop(t)
	})
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// service is a worker at a backend in memory.
type service struct {
	me      agent.UserData
	byHand  bool // without user data in the environment
	backend *membackend.Backend
	open    func(ctx context.Context) error // before the backend is there; may be nil
	log     *logs
	cancel  context.CancelFunc
	ended   chan error

	metadata agent.Metadata // of the machine; nil where there is no cloud
}

func setup(t *testing.T) *service {
	t.Helper()
	return &service{
		me: agent.UserData{
			Deployment: "test", Pool: "primes", InstanceID: "p-1", Backend: "mem://x",
			Queues: agent.Queues{Work: "w", Status: "s"},
		},
		backend: membackend.New(), log: newLogs(),
	}
}

func (s *service) start(t *testing.T, args ...string) {
	t.Helper()
	if !s.byHand {
		doc, err := s.me.Encode()
		if err != nil {
			t.Fatal(err)
		}
		t.Setenv(agent.EnvUserData, string(doc))
	}
	open := func(ctx context.Context, _ *url.URL, _ backend.Options) (backend.Backend, error) {
		if s.open != nil {
			if err := s.open(ctx); err != nil {
				return nil, err
			}
		}
		return kept{s.backend}, nil
	}
	program := app.Program{Metadata: s.metadata, Openers: backend.Openers{"mem": open}}
	ctx, cancel := context.WithCancel(t.Context())
	s.cancel, s.ended = cancel, make(chan error, 1)
	t.Cleanup(cancel)
	go func() { s.ended <- program.Run(ctx, args, io.Discard, s.log) }()
}

// kept stays open, for the test's own questions after the end.
type kept struct{ *membackend.Backend }

func (kept) Close() error { return nil }

func (s *service) stop(t *testing.T) {
	t.Helper()
	s.cancel()
	s.wantEnded(t)
}

// wantEnded waits for the end, which must be a good one.
func (s *service) wantEnded(t *testing.T) {
	t.Helper()
	select {
	case err := <-s.ended:
		if err != nil && !errors.Is(err, daemon.ErrDone) {
			t.Errorf("Run: got %v, want nil", err)
		}
	case <-time.After(patience):
		t.Fatal("Run did not end")
	}
}

func (s *service) createQueues(t *testing.T) {
	t.Helper()
	for _, name := range []string{"w", "s"} {
		if _, err := s.backend.Ensure(t.Context(), name, queue.Limits{Visibility: time.Hour}); err != nil {
			t.Fatal(err)
		}
	}
}

func (s *service) queue(t *testing.T, name string) queue.Queue {
	t.Helper()
	q, err := s.backend.Queue(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func (s *service) send(t *testing.T, bodies ...string) {
	t.Helper()
	for _, body := range bodies {
		if err := s.queue(t, "w").Send(t.Context(), []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
}

func (s *service) wantBacklog(t *testing.T, visible int) {
	t.Helper()
	got, err := s.queue(t, "w").Backlog(t.Context())
	if err != nil || got.Visible != visible || got.InFlight != 0 {
		t.Errorf("backlog: got %+v, %v, want %d visible", got, err, visible)
	}
}

// wantHeard takes status messages until one says the text or has it as its status. A text that ends with a space is
// the beginning of what is said.
func (s *service) wantHeard(t *testing.T, text string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		got, err := s.queue(t, "s").Receive(t.Context(), 1, time.Until(deadline))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range got {
			var heard struct{ Message, Status, State string }
			if err := json.Unmarshal(m.Body, &heard); err != nil {
				t.Fatalf("status message %s: %v", m.Body, err)
			}
			begins := strings.HasSuffix(text, " ") && strings.HasPrefix(heard.Message, text)
			if heard.Message == text || heard.Status == text || heard.State == text || begins {
				return
			}
		}
	}
	t.Fatalf("%q was not heard", text)
}

func get(t *testing.T, address, path string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
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

// logs is the operator's log, which can be waited for.
type logs struct {
	mu      sync.Mutex
	buf     bytes.Buffer  // guarded by mu
	changed chan struct{} // closed and renewed at each line; guarded by mu
}

func newLogs() *logs { return &logs{changed: make(chan struct{})} }

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.changed)
	l.changed = make(chan struct{})
	return l.buf.Write(p)
}

// want waits for a line with the text and returns it.
func (l *logs) want(t *testing.T, text string) string {
	t.Helper()
	timeout := time.After(patience)
	for {
		l.mu.Lock()
		all, changed := l.buf.String(), l.changed
		l.mu.Unlock()
		for line := range strings.Lines(all) {
			if strings.Contains(line, text) {
				return line
			}
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("%q was not logged, but:\n%s", text, all)
		}
	}
}

// field waits for a line and returns the value of one of its keys.
func (l *logs) field(t *testing.T, text, key string) string {
	t.Helper()
	var fields map[string]any
	if err := json.Unmarshal([]byte(l.want(t, text)), &fields); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(fields[key])
}
