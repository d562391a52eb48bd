package web_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"cloudmaster/internal/activeset"
	"cloudmaster/internal/pool"
	"cloudmaster/services/allocator/internal/allocate"
	"cloudmaster/services/allocator/internal/request"
	"cloudmaster/services/allocator/internal/web"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeRequests answers what it is told to and remembers who asked.
type fakeRequests struct {
	mu      sync.Mutex
	out     request.Outcome // guarded by mu
	err     error           // guarded by mu
	clients []string        // guarded by mu
}

func (f *fakeRequests) Request(_ context.Context, client string) (request.Outcome, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.clients = append(f.clients, client)
	return f.out, f.err
}

// front is a handler that serves the pools fib and primes; only fib has been read.
type front struct {
	*web.Handler
	fib      *allocate.Pool
	requests *fakeRequests
	log      *bytes.Buffer
}

var written = time.Date(2026, 11, 22, 10, 0, 5, 0, time.UTC)

func newSet(t testing.TB, name pool.Name) *allocate.Pool {
	t.Helper()
	p, err := allocate.New(name, allocate.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func newFront(t *testing.T, opts web.Options) *front {
	t.Helper()
	f := &front{fib: newSet(t, "fib"), requests: &fakeRequests{out: request.Queued}, log: &bytes.Buffer{}}
	opts.Log = slog.New(slog.NewTextHandler(f.log, nil))
	h, err := web.New([]web.Pool{
		{Set: newSet(t, "primes"), Requests: f.requests, Queue: "primes-work"},
		{Set: f.fib, Requests: f.requests, Queue: "fib-work-demo"},
	}, opts)
	if err != nil {
		t.Fatal(err)
	}
	f.Handler = h
	return f
}

func (f *front) update(instances ...activeset.Instance) {
	f.fib.Update(activeset.Set{Pool: "fib", Version: 42, WrittenAt: written, Instances: instances}, time.Now())
}

func (f *front) do(method, path string, body io.Reader) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	f.side(path).ServeHTTP(w, httptest.NewRequest(method, path, body))
	return w
}

// side returns what answers at a path: only allocations, and paths where nothing is, are for clients.
func (f *front) side(path string) http.Handler {
	if strings.HasSuffix(path, "/allocations") || path == "/v2" {
		return f.Handler
	}
	return f.Ops()
}

// wantJSON checks status and body; want is compared as JSON.
func wantJSON(t *testing.T, r *httptest.ResponseRecorder, status int, contentType, want string) {
	t.Helper()
	data := r.Body.Bytes()
	if r.Code != status {
		t.Errorf("got status %d, want %d", r.Code, status)
	}
	if got := r.Header().Get("Content-Type"); got != contentType {
		t.Errorf("got content type %q, want %q", got, contentType)
	}
	var got, wanted any
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatalf("body %q: %v", data, err)
	}
	if err := json.Unmarshal([]byte(want), &wanted); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(wanted, got); diff != "" {
		t.Errorf("body (-want +got):\n%s", diff)
	}
}

func wantHeader(t *testing.T, r *httptest.ResponseRecorder, name, want string) {
	t.Helper()
	if got := r.Header().Get(name); got != want {
		t.Errorf("got %s: %q, want %q", name, got, want)
	}
}

const (
	plain       = "application/json"
	problemType = "application/problem+json"
)

func TestAllocation(t *testing.T) {
	t.Parallel()
	f := newFront(t, web.Options{})
	f.update(activeset.Instance{ID: "i-0abc", Address: "10.0.0.7:20808", Load: 0.2})
	r := f.do(http.MethodPost, "/v1/pools/fib/allocations", nil)
	wantJSON(t, r, http.StatusCreated, plain, `{"id":"i-0abc","address":"10.0.0.7:20808","load_estimate":0.2}`)
	r = f.do(http.MethodPost, "/v1/pools/fib/allocations", strings.NewReader("whatever"))
	wantJSON(t, r, http.StatusCreated, plain, `{"id":"i-0abc","address":"10.0.0.7:20808","load_estimate":0.3}`)
	if len(f.requests.clients) != 0 {
		t.Errorf("a server was requested for %v, although there is one", f.requests.clients)
	}
}

func TestNoServers(t *testing.T) {
	t.Parallel()
	const base = `"type":"urn:cloudmaster:problem:no-servers","title":"No servers","status":503,
		"detail":"no servers are running, try again in a minute","instance":"/v1/pools/fib/allocations","pool":"fib"`
	cases := map[string]struct {
		out  request.Outcome
		err  error
		want string
	}{
		"queued":          {request.Queued, nil, `{` + base + `,"request":"queued"}`},
		"recently queued": {request.Recent, nil, `{` + base + `,"request":"recently_queued"}`},
		"not queued": {request.Failed, errors.New("secret reason"), `{` + base + `,"request":"failed",
			"request_detail":"the request for a server could not be put on the pool's work queue; ` +
			`your next call tries again"}`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFront(t, web.Options{})
			f.update()
			f.requests.out, f.requests.err = c.out, c.err
			r := f.do(http.MethodPost, "/v1/pools/fib/allocations", nil)
			wantJSON(t, r, http.StatusServiceUnavailable, problemType, c.want)
			wantHeader(t, r, "Retry-After", "60")
			wantHeader(t, r, "Cache-Control", "no-store")
		})
	}
}

func TestAQueueAwayIsLoggedOnce(t *testing.T) {
	t.Parallel()
	f := newFront(t, web.Options{})
	f.update()
	f.requests.out, f.requests.err = request.Failed, errors.New("no route")
	for range 3 {
		f.do(http.MethodPost, "/v1/pools/fib/allocations", nil)
	}
	f.requests.out, f.requests.err = request.Queued, nil
	for range 3 {
		f.do(http.MethodPost, "/v1/pools/fib/allocations", nil)
	}
	if got := strings.Count(f.log.String(), "\n"); got != 2 {
		t.Errorf("got %d log lines, want one for the failure and one for its end:\n%s", got, f.log)
	}
}

// Not knowing the servers is not having none: nothing is requested.
func TestUnread(t *testing.T) {
	t.Parallel()
	f := newFront(t, web.Options{})
	r := f.do(http.MethodPost, "/v1/pools/primes/allocations", nil)
	wantJSON(t, r, http.StatusServiceUnavailable, problemType, `{"type":"urn:cloudmaster:problem:servers-not-known-yet",
		"title":"Servers not known yet","status":503,"instance":"/v1/pools/primes/allocations","pool":"primes",
		"detail":"the active set of pool primes has not been read yet, try again in a few seconds"}`)
	wantHeader(t, r, "Retry-After", "5")
	if len(f.requests.clients) != 0 {
		t.Errorf("a server was requested for %v", f.requests.clients)
	}
}

func TestProblems(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("x", 64<<10+1)
	cases := map[string]struct {
		method, path, body string
		status             int
		want, allow        string
	}{
		"unknown pool": {"POST", "/v1/pools/fab/allocations", "", 404, `{"type":"urn:cloudmaster:problem:unknown-pool",
			"title":"Unknown pool","status":404,"instance":"/v1/pools/fab/allocations",
			"detail":"there is no pool \"fab\" here"}`, ""},
		"unknown pool's set": {"GET", "/v1/pools/f%20b", "", 404, `{"type":"urn:cloudmaster:problem:unknown-pool",
			"title":"Unknown pool","status":404,"instance":"/v1/pools/f%20b","pools":["fib","primes"],
			"detail":"there is no pool \"f b\" here; the pools are fib, primes"}`, ""},
		"GET of allocations": {
			"GET", "/v1/pools/fib/allocations", "", 405,
			`{"type":"urn:cloudmaster:problem:method-not-allowed",
			"title":"Method not allowed","status":405,"instance":"/v1/pools/fib/allocations",
			"detail":"GET is not possible here, only POST"}`, "POST",
		},
		"DELETE of a set": {"DELETE", "/v1/pools/fib", "", 405, `{"type":"urn:cloudmaster:problem:method-not-allowed",
			"title":"Method not allowed","status":405,"instance":"/v1/pools/fib",
			"detail":"DELETE is not possible here, only GET, HEAD"}`, "GET, HEAD"},
		"no such path": {"GET", "/v2", "", 404, `{"type":"urn:cloudmaster:problem:not-found",
			"title":"Not found","status":404,"instance":"/v2",
			"detail":"there is nothing here; clients POST to /v1/pools/{pool}/allocations"}`, ""},
		"large body": {"POST", "/v1/pools/fib/allocations", large, 413, `{
			"type":"urn:cloudmaster:problem:request-too-large",
			"title":"Request too large","status":413,"instance":"/v1/pools/fib/allocations",
			"detail":"the request has more than 65536 bytes; it needs none"}`, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFront(t, web.Options{})
			r := f.do(c.method, c.path, strings.NewReader(c.body))
			wantJSON(t, r, c.status, problemType, c.want)
			wantHeader(t, r, "Allow", c.allow)
		})
	}
}

type brokenBody struct{}

func (brokenBody) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestBrokenBody(t *testing.T) {
	t.Parallel()
	f := newFront(t, web.Options{})
	r := f.do(http.MethodPost, "/v1/pools/fib/allocations", brokenBody{})
	if r.Code != http.StatusBadRequest {
		t.Errorf("got status %d, want 400", r.Code)
	}
}

func TestView(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // so that ages are exact
		f := newFront(t, web.Options{})
		wantJSON(t, f.do(http.MethodGet, "/v1/pools/fib", nil), 200, plain,
			`{"pool":"fib","set":"unread","version":0,"age_seconds":0,"instances":[]}`)
		f.fib.Clear(time.Now())
		time.Sleep(time.Second)
		wantJSON(t, f.do(http.MethodGet, "/v1/pools/fib", nil), 200, plain,
			`{"pool":"fib","set":"missing","version":0,"age_seconds":1,"instances":[]}`)
		f.update(activeset.Instance{ID: "a", Address: "a:1", Load: 0.5, ReportedAt: written})
		f.do(http.MethodPost, "/v1/pools/fib/allocations", nil)
		time.Sleep(2500 * time.Millisecond)
		r := f.do(http.MethodGet, "/v1/pools/fib", nil)
		wantJSON(t, r, 200, plain,
			`{"pool":"fib","set":"present","version":42,"written_at":"2026-11-22T10:00:05Z","age_seconds":2.5,
			"instances":[{"id":"a","address":"a:1","load_estimate":0.6,"reported_load":0.5,"assigned":1,"heard":0,
				"reported_at":"2026-11-22T10:00:05Z"}]}`)
		wantHeader(t, r, "Cache-Control", "no-store")
	})
}

func TestReady(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fib := newSet(t, "fib")
		h, err := web.New([]web.Pool{{Set: fib}}, web.Options{MaxSetAge: 10 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		f := &front{Handler: h, fib: fib}
		f.wantText(t, "/healthz", 200, "ok\n")
		f.wantText(t, "/readyz", 503, "not ready: the active set has not been read yet of pool fib\n")
		fib.Clear(time.Now())
		f.wantText(t, "/readyz", 200, "ready\n")
		time.Sleep(11 * time.Second)
		f.wantText(t, "/readyz", 200,
			"ready\npool fib: the active set was last confirmed 11s ago; the last one known is in use\n")
		fib.Confirm(time.Now())
		f.wantText(t, "/readyz", 200, "ready\n")
	})
}

func (f *front) wantText(t *testing.T, path string, status int, want string) {
	t.Helper()
	here := httptest.NewRequest(http.MethodGet, path, nil)
	here.RemoteAddr = "127.0.0.1:1"
	r := httptest.NewRecorder()
	f.Ops().ServeHTTP(r, here)
	if got := r.Body.String(); r.Code != status || got != want {
		t.Errorf("%s: got %d %q, want %d %q", path, r.Code, got, status, want)
	}
	first, _, _ := strings.Cut(strings.TrimSuffix(want, "\n"), "\n")
	state, _, _ := strings.Cut(first, ":") // strangers learn nothing else
	stranger := f.do(http.MethodGet, path, nil)
	if got := stranger.Body.String(); path == "/readyz" && (stranger.Code != status || got != state+"\n") {
		t.Errorf("%s from elsewhere: got %d %q, want %d %q", path, stranger.Code, got, status, state)
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	f := newFront(t, web.Options{Registry: prometheus.NewRegistry()})
	f.update()
	f.do(http.MethodPost, "/v1/pools/fib/allocations", nil)
	f.update(activeset.Instance{ID: "a", Address: "a:1"}, activeset.Instance{ID: "b"})
	f.do(http.MethodPost, "/v1/pools/fib/allocations", nil)
	f.do(http.MethodPost, "/v1/pools/fib/allocations", nil)
	f.do(http.MethodPost, "/v1/pools/primes/allocations", nil)
	body := f.do(http.MethodGet, "/metrics", nil).Body.String()
	for _, want := range []string{
		`cloudmaster_allocator_allocations_total{outcome="allocated",pool="fib"} 2`,
		`cloudmaster_allocator_allocations_total{outcome="no_servers",pool="fib"} 1`,
		`cloudmaster_allocator_allocations_total{outcome="unread",pool="primes"} 1`,
		`cloudmaster_allocator_allocation_duration_seconds_count{pool="fib"} 3`,
		`cloudmaster_allocator_requests_total{outcome="queued",pool="fib"} 1`,
		`cloudmaster_allocator_requests_total{outcome="failed",pool="fib"} 0`,
		`cloudmaster_allocator_set_version{pool="fib"} 42`,
		`cloudmaster_allocator_set_instances{pool="fib"} 2`,
		`cloudmaster_allocator_set_age_seconds{pool="fib"} `,
		`cloudmaster_allocator_set_written_timestamp_seconds{pool="fib"} 1.795341605e+09`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("got no line %q in:\n%s", want, body)
		}
	}
	if strings.Contains(body, `set_age_seconds{pool="primes"}`) {
		t.Error("got the age of a set that was never read")
	}
}

func TestClientAddress(t *testing.T) {
	t.Parallel()
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	cases := map[string]struct {
		proxies   []netip.Prefix
		remote    string
		forwarded []string
		want      string
	}{
		"plain":                     {nil, "192.0.2.1:4711", nil, "192.0.2.1"},
		"IPv4 in IPv6":              {nil, "[::ffff:192.0.2.1]:4711", nil, "192.0.2.1"},
		"IPv6 with a zone":          {nil, "[fe80::1%eth0]:4711", nil, "fe80::1"},
		"not TCP":                   {nil, "@", nil, "@"},
		"header without a proxy":    {nil, "192.0.2.1:4711", []string{"198.51.100.9"}, "192.0.2.1"},
		"header of a stranger":      {trusted, "192.0.2.1:4711", []string{"198.51.100.9"}, "192.0.2.1"},
		"behind a proxy":            {trusted, "10.0.0.1:4711", []string{"198.51.100.9"}, "198.51.100.9"},
		"behind two":                {trusted, "10.0.0.1:4711", []string{"198.51.100.9, 10.0.0.2"}, "198.51.100.9"},
		"two headers":               {trusted, "10.0.0.1:4711", []string{"198.51.100.9", "fd00::2"}, "198.51.100.9"},
		"the client has lied":       {trusted, "10.0.0.1:4711", []string{"203.0.113.5, 198.51.100.9"}, "198.51.100.9"},
		"the proxy says nothing":    {trusted, "10.0.0.1:4711", nil, "10.0.0.1"},
		"the proxy says no address": {trusted, "10.0.0.1:4711", []string{"198.51.100.9, unknown"}, "10.0.0.1"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFront(t, web.Options{TrustedProxies: c.proxies})
			f.update()
			r := httptest.NewRequest(http.MethodPost, "/v1/pools/fib/allocations", nil)
			r.RemoteAddr = c.remote
			r.Header["X-Forwarded-For"] = c.forwarded
			f.ServeHTTP(httptest.NewRecorder(), r)
			if diff := cmp.Diff([]string{c.want}, f.requests.clients); diff != "" {
				t.Errorf("requested for (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNewRefusesAPoolGivenTwice(t *testing.T) {
	t.Parallel()
	p := web.Pool{Set: newSet(t, "fib")}
	_, err := web.New([]web.Pool{p, p}, web.Options{})
	if err == nil || !strings.Contains(err.Error(), "pool fib is given twice") {
		t.Errorf("got %v", err)
	}
}
