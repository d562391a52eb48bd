package daemon_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"cloudmaster/internal/daemon"
)

func TestOpsHandler(t *testing.T) {
	t.Parallel()
	registry := daemon.NewRegistry()
	jobs := prometheus.NewCounter(prometheus.CounterOpts{Name: "cloudmaster_jobs_total", Help: "Jobs done."})
	registry.MustRegister(jobs)
	jobs.Add(3)
	notYet := func() error { return errors.New("the broker is away") }
	cases := map[string]struct {
		ops          daemon.Ops
		method, path string
		code         int
		body         string
	}{
		"alive":                  {daemon.Ops{}, http.MethodGet, "/healthz", http.StatusOK, "ok\n"},
		"alive though not ready": {daemon.Ops{Ready: notYet}, http.MethodGet, "/healthz", http.StatusOK, "ok\n"},
		"ready": {
			daemon.Ops{Ready: func() error { return nil }}, http.MethodGet, "/readyz", http.StatusOK, "ready\n",
		},
		"always ready": {daemon.Ops{}, http.MethodGet, "/readyz", http.StatusOK, "ready\n"},
		"not ready": {
			daemon.Ops{Ready: notYet},
			http.MethodGet, "/readyz", http.StatusServiceUnavailable,
			"not ready: the broker is away\n",
		},
		"own metrics": {
			daemon.Ops{Registry: registry}, http.MethodGet, "/metrics", http.StatusOK, "\ncloudmaster_jobs_total 3\n",
		},
		"metrics of the runtime": {
			daemon.Ops{Registry: registry}, http.MethodGet, "/metrics", http.StatusOK, "\ngo_goroutines ",
		},
		"metrics of the process": {
			daemon.Ops{Registry: registry}, http.MethodGet, "/metrics", http.StatusOK, "\nprocess_open_fds ",
		},
		"no metrics":   {daemon.Ops{}, http.MethodGet, "/metrics", http.StatusNotFound, ""},
		"only reading": {daemon.Ops{}, http.MethodPost, "/healthz", http.StatusMethodNotAllowed, ""},
		"nothing else": {daemon.Ops{}, http.MethodGet, "/", http.StatusNotFound, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := httptest.NewRecorder()
			r := httptest.NewRequest(c.method, c.path, nil)
			r.RemoteAddr = "127.0.0.1:1"
			daemon.OpsHandler(c.ops).ServeHTTP(w, r)
			if w.Code != c.code || !strings.Contains(w.Body.String(), c.body) {
				t.Errorf("got %d %q, want %d with %q", w.Code, w.Body.String(), c.code, c.body)
			}
		})
	}
}

// serve runs f until stop is called, which returns its error.
func serve(t *testing.T, f func(ctx context.Context) error) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	return func() error {
		cancel()
		return <-done
	}
}

// get sends a request on a connection of its own, which it closes.
func get(t *testing.T, url string) (int, string, error) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		return 0, "", err
	}
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), errors.Join(err, resp.Body.Close())
}

func TestServeOps(t *testing.T) {
	t.Parallel()
	listening := make(chan net.Addr, 1)
	stop := serve(t, func(ctx context.Context) error {
		return daemon.ServeOps(ctx, "127.0.0.1:0", daemon.Ops{Listening: func(a net.Addr) { listening <- a }})
	})
	url := "http://" + (<-listening).String() + "/healthz"
	if code, body, err := get(t, url); err != nil || code != http.StatusOK || body != "ok\n" {
		t.Errorf("got %d %q, %v, want 200 ok", code, body, err)
	}
	if err := stop(); err != nil {
		t.Errorf("after the stop: got %v, want nil", err)
	}
	if _, _, err := get(t, url); err == nil {
		t.Error("it still answers after the stop")
	}
}

func TestServeOpsWithoutAnAddressWaits(t *testing.T) {
	t.Parallel()
	returned := make(chan struct{})
	stop := serve(t, func(ctx context.Context) error {
		defer close(returned)
		err := daemon.ServeOps(ctx, "", daemon.Ops{Listening: func(net.Addr) { t.Error("it listens") }})
		if ctx.Err() == nil {
			t.Error("it returned before the stop")
		}
		return err
	})
	if err := stop(); err != nil {
		t.Errorf("got %v, want nil", err)
	}
	<-returned
}

func TestServeOpsPortTaken(t *testing.T) {
	t.Parallel()
	l := listen(t)
	err := daemon.ServeOps(t.Context(), l.Addr().String(), daemon.Ops{
		Listening: func(net.Addr) { t.Error("it listens") },
	})
	wantError(t, err, "listen for health and metrics: listen tcp "+l.Addr().String())
	wantError(t, err, "address already in use")
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func TestServeHTTPLetsRequestsFinish(t *testing.T) {
	t.Parallel()
	l := listen(t)
	entered, leave := make(chan struct{}), make(chan struct{})
	stop := serve(t, func(ctx context.Context) error {
		return daemon.ServeHTTP(ctx, l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			close(entered)
			<-leave
			if err := r.Context().Err(); err != nil {
				t.Errorf("the request was ended: %v", err)
			}
			_, _ = io.WriteString(w, "whole answer")
		}), nil)
	})
	type answer struct {
		body string
		err  error
	}
	answers := make(chan answer, 1)
	go func() {
		_, body, err := get(t, "http://"+l.Addr().String())
		answers <- answer{body, err}
	}()
	<-entered
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	untilRefused(t, l.Addr().String()) // the stop has begun
	select {
	case err := <-stopped:
		t.Fatalf("it returned %v with a request under way", err)
	default:
	}
	close(leave)
	if got := <-answers; got.err != nil || got.body != "whole answer" {
		t.Errorf("got %q, %v, want the whole answer", got.body, got.err)
	}
	if err := <-stopped; err != nil {
		t.Errorf("got %v, want nil", err)
	}
}

// untilRefused dials until nobody listens any more.
func untilRefused(t *testing.T, addr string) {
	t.Helper()
	for t.Context().Err() == nil {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return
		}
		_ = c.Close()
	}
}

// Requests that do not end are cut off. That is logged, but the program does not fail.
func TestServeHTTPCutsOffWhatDoesNotFinish(t *testing.T) {
	t.Parallel()
	l := listen(t)
	entered := make(chan struct{})
	var log bytes.Buffer
	stop := serve(t, func(ctx context.Context) error {
		return daemon.ServeHTTP(ctx, l, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			close(entered)
			<-r.Context().Done() // until the connection is closed
		}), slog.New(slog.NewTextHandler(&log, nil)))
	})
	answers := make(chan error, 1)
	go func() {
		_, _, err := get(t, "http://"+l.Addr().String())
		answers <- err
	}()
	<-entered
	if err := stop(); err != nil {
		t.Errorf("got %v, want nil", err)
	}
	if err := <-answers; err == nil {
		t.Error("the client got an answer, want its connection closed")
	}
	if !strings.Contains(log.String(), "connections cut off") {
		t.Errorf("got log %q, want it said", log.String())
	}
}

func TestServeHTTPStoppedBeforeItBegins(t *testing.T) {
	t.Parallel()
	l := listen(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := daemon.ServeHTTP(ctx, l, http.NotFoundHandler(), nil); err != nil {
		t.Errorf("got %v, want nil", err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener: got %v, want it closed", err)
	}
}

func TestServeHTTPReportsABrokenListener(t *testing.T) {
	t.Parallel()
	l := listen(t)
	_ = l.Close()
	wantError(t, daemon.ServeHTTP(t.Context(), l, http.NotFoundHandler(), nil), "serve "+l.Addr().String())
}

// TestStrangersLearnOnlyTheState: why a program is not ready may name hosts and queues. The log has it, once.
func TestStrangersLearnOnlyTheState(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	handler := daemon.OpsHandler(daemon.Ops{
		Ready: func() error { return errors.New("the broker is away") },
		Log:   slog.New(slog.NewTextHandler(&log, nil)),
	})
	const full, short = "not ready: the broker is away\n", "not ready\n"
	for _, c := range []struct{ from, header, want string }{
		{"127.0.0.1:1", "", full},
		{"[::1]:1", "", full},
		{"[::ffff:127.0.0.1]:1", "", full},
		{"192.0.2.1:1", "", short},
		{"[2001:db8::1]:1", "", short},
		{"127.0.0.1:1", "X-Forwarded-For", short},
		{"127.0.0.1:1", "Forwarded", short},
		{"127.0.0.1:1", "Via", short},
		{"@", "", short},
	} {
		r := httptest.NewRequest(http.MethodGet, "/readyz", nil)
		r.RemoteAddr = c.from
		if c.header != "" {
			r.Header.Set(c.header, "somebody")
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if got := w.Body.String(); w.Code != http.StatusServiceUnavailable || got != c.want {
			t.Errorf("from %s %s: got %d %q, want 503 %q", c.from, c.header, w.Code, got, c.want)
		}
	}
	if got := strings.Count(log.String(), "the broker is away"); got != 1 {
		t.Errorf("got %d lines in the log, want 1:\n%s", got, &log)
	}
}
