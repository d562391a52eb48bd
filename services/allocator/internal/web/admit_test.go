package web_test

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"cloudmaster/internal/activeset"
	"cloudmaster/services/allocator/internal/web"
)

// TestClientsLearnNothingElse: on the clients' side there are no metrics, no states and no view of a pool.
func TestClientsLearnNothingElse(t *testing.T) {
	t.Parallel()
	f := newFront(t, web.Options{Registry: prometheus.NewRegistry()})
	f.update(activeset.Instance{ID: "a", Address: "a:1"}, activeset.Instance{ID: "b", Address: "b:1"})
	for _, path := range []string{"/metrics", "/healthz", "/readyz", "/v1/pools", "/v1/pools/fib", "/v1/pools/fab"} {
		w := httptest.NewRecorder()
		f.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if got := w.Body.String(); w.Code != http.StatusNotFound || strings.Contains(got, "primes") ||
			strings.Contains(got, "a:1") {
			t.Errorf("%s: got %d %q, want 404 and no names", path, w.Code, got)
		}
	}
	w := httptest.NewRecorder()
	f.Ops().ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/v1/pools/fib/allocations", nil))
	if w.Code != http.StatusNotFound {
		t.Errorf("allocations on the other side: got %d, want 404", w.Code)
	}
}

// asks has a client ask for a server.
func (f *front) asks(from string, header ...string) *httptest.ResponseRecorder {
	r, w := httptest.NewRequest(http.MethodPost, "/v1/pools/fib/allocations", nil), httptest.NewRecorder()
	r.RemoteAddr = from
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	f.ServeHTTP(w, r)
	return w
}

func TestTooManyRequests(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFront(t, web.Options{
			PeerRequests: 20, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
		})
		f.update(activeset.Instance{ID: "a", Address: "a:1"})
		for n := range 20 {
			if r := f.asks("[2001:db8::1]:5"); r.Code != http.StatusCreated {
				t.Fatalf("request %d: got %d, want 201", n+1, r.Code)
			}
		}
		r := f.asks("[2001:db8::ffff]:6") // of the same /64
		wantJSON(t, r, http.StatusTooManyRequests, problemType, `{
			"type":"urn:cloudmaster:problem:too-many-requests","title":"Too many requests","status":429,
			"instance":"/v1/pools/fib/allocations",
			"detail":"your address has made more than 20 requests in a minute, try again later"}`)
		wantHeader(t, r, "Retry-After", "3")
		proxied := []string{"X-Forwarded-For", "2001:db8::1"}
		for from, want := range map[string]int{"[2001:db8:0:1::1]:5": 201, "192.0.2.1:5": 201} {
			if r := f.asks(from); r.Code != want {
				t.Errorf("%s: got %d, want %d", from, r.Code, want)
			}
		}
		if r := f.asks("10.0.0.1:5", proxied...); r.Code != http.StatusTooManyRequests {
			t.Errorf("behind a proxy: got %d, want 429", r.Code)
		}
		time.Sleep(3 * time.Second) // what Retry-After says
		if r := f.asks("10.0.0.1:5", proxied...); r.Code != http.StatusCreated {
			t.Errorf("after Retry-After: got %d, want 201", r.Code)
		}
	})
}

type oneToken string

// Valid knows one token.
func (o oneToken) Valid(token string) bool { return token == string(o) }

func TestTokens(t *testing.T) {
	t.Parallel()
	const plainly, wrongly = `Bearer realm="allocator"`, `Bearer realm="allocator", error="invalid_token"`
	for header, want := range map[string]string{
		"": plainly, "Basic Z29vZA==": plainly, "Bearer ": plainly, "good": plainly, "Bearer bad": wrongly,
		"Bearer good": "", "bearer  good": "",
	} {
		f := newFront(t, web.Options{Tokens: oneToken("good")})
		f.update(activeset.Instance{ID: "a", Address: "a:1"})
		r := f.asks("192.0.2.1:5", "Authorization", header)
		if want == "" && r.Code == http.StatusCreated {
			continue
		}
		if got := r.Header().Get("Content-Type"); r.Code != http.StatusUnauthorized || got != problemType ||
			!strings.Contains(r.Body.String(), "urn:cloudmaster:problem:token-needed") {
			t.Errorf("%q: got %d %s %s, want 401 and a problem", header, r.Code, got, r.Body)
		}
		wantHeader(t, r, "WWW-Authenticate", want)
	}
}

// TestTokensCannotBeTriedFast: also those that are refused for their token count against the bound.
func TestTokensCannotBeTriedFast(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // so that nothing comes back meanwhile
		registry := prometheus.NewRegistry()
		f := newFront(t, web.Options{Tokens: oneToken("good"), PeerRequests: 2, Registry: registry})
		for _, want := range []int{401, 401, 429} {
			if r := f.asks("192.0.2.1:5", "Authorization", "Bearer guess"); r.Code != want {
				t.Errorf("got %d, want %d", r.Code, want)
			}
		}
		body := f.do(http.MethodGet, "/metrics", nil).Body.String()
		for _, want := range []string{`refused_total{reason="token"} 2`, `refused_total{reason="requests"} 1`} {
			if !strings.Contains(body, want) {
				t.Errorf("got no %s in:\n%s", want, body)
			}
		}
	})
}
