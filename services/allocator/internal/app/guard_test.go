package app_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"cloudmaster/internal/activeset"
	"cloudmaster/internal/backend"
	"cloudmaster/internal/certtest"
	"cloudmaster/services/allocator/internal/app"
)

const secret = "0123456789abcdef"

func tokenFile(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// serving starts an allocator that has one server to give.
func serving(t *testing.T, s app.Settings) *running {
	t.Helper()
	b := newBroker()
	close(b.there)
	b.publish(t, 1, activeset.Instance{ID: "a", Address: "a:1"})
	r := start(t, b, s)
	r.await(t, http.MethodGet, "/v1/pools/fib", 200, `"a:1"`)
	return r
}

// TestTokenOverTLS: with both, clients with the token and the authority get a server, and others get none.
func TestTokenOverTLS(t *testing.T) {
	t.Parallel()
	s := settings()
	s.TokenFile = tokenFile(t)
	s.Certificate, s.Key = certtest.Write(t, t.TempDir(), time.Now().Add(time.Hour))
	r := serving(t, s)
	roots := x509.NewCertPool()
	doc, err := os.ReadFile(s.Certificate)
	if err != nil || !roots.AppendCertsFromPEM(doc) {
		t.Fatalf("authority: %v", err)
	}
	address := strings.TrimPrefix(r.url, "http://")
	ask := func(conf *tls.Config, token string) (int, error) {
		client := http.Client{Transport: &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true}}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+address+allocations, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", token)
		resp, err := client.Do(req)
		if err != nil {
			return 0, err
		}
		return resp.StatusCode, resp.Body.Close()
	}
	good := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
	for token, want := range map[string]int{"Bearer " + secret: 201, "Bearer 0123456789abcdeX": 401, "": 401} {
		if got, err := ask(good, token); got != want || err != nil {
			t.Errorf("token %q: got %d, %v, want %d", token, got, err, want)
		}
	}
	old := &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11, RootCAs: roots}
	if _, err := ask(old, "Bearer "+secret); err == nil {
		t.Error("TLS 1.1 is spoken, want 1.2 at least")
	}
	if status, body := r.do(t, http.MethodPost, allocations); status != 400 || strings.Contains(body, "a:1") {
		t.Errorf("in clear: got %d %q, want 400", status, body)
	}
	r.await(t, http.MethodGet, "/readyz", 200, "ready") // which needs no token
}

// TestGuardsThatCannotBe: what is wrong with the files is said before anything is served.
func TestGuardsThatCannotBe(t *testing.T) {
	t.Parallel()
	certificate, _ := certtest.Write(t, t.TempDir(), time.Now().Add(time.Hour))
	_, key := certtest.Write(t, t.TempDir(), time.Now().Add(time.Hour))
	for want, change := range map[string]func(*app.Settings){
		"token-file: ":                func(s *app.Settings) { s.TokenFile = "/nowhere" },
		"tls-certificate, tls-key: ":  func(s *app.Settings) { s.Certificate, s.Key = certificate, key },
		"private key does not match ": func(s *app.Settings) { s.Certificate, s.Key = certificate, key },
	} {
		s := settings()
		change(&s)
		if _, err := app.New(s, nil, app.Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestATokenInClearIsWarnedAbout(t *testing.T) {
	t.Parallel()
	certificate, key := certtest.Write(t, t.TempDir(), time.Now().Add(time.Hour))
	file := tokenFile(t)
	for name, c := range map[string]struct {
		listen, tokens, certificate string
		want                        bool
	}{
		"open": {":0", file, "", true}, "one address": {"192.0.2.1:0", file, "", true},
		"loopback": {"127.0.0.1:0", file, "", false}, "IPv6 loopback": {"[::1]:0", file, "", false},
		"TLS": {":0", file, certificate, false}, "no token": {":0", "", "", false},
	} {
		s, log := settings(), &syncBuffer{}
		s.Listen, s.TokenFile, s.Certificate, s.Key = c.listen, c.tokens, c.certificate, key
		opts := app.Options{Log: slog.New(slog.NewTextHandler(log, nil))}
		if _, err := app.New(s, backend.Openers{}, opts); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(log.String(), "in clear"); got != c.want {
			t.Errorf("%s: warned: got %t, want %t", name, got, c.want)
		}
	}
}

// TestAFloodKeepsNobodyOut: one address has all the connections that it may have, says nothing on some and asks without
// end on others; a client with another address gets its answer at once.
func TestAFloodKeepsNobodyOut(t *testing.T) {
	t.Parallel()
	s := settings()
	s.Listen, s.PeerConnections, s.PeerRequests = "0.0.0.0:0", 20, 50
	r := serving(t, s)
	_, port, err := net.SplitHostPort(strings.TrimPrefix(r.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var flood sync.WaitGroup
	t.Cleanup(func() { stop(); flood.Wait() })
	for n := range 100 {
		flood.Go(func() { floods(ctx, "127.0.0.2", "127.0.0.1:"+port, n%2 == 0) })
	}
	metric := func(reason string) {
		t.Helper()
		deadline := time.Now().Add(patience)
		for tick := time.Tick(10 * time.Millisecond); ; <-tick {
			_, body := r.do(t, http.MethodGet, "/metrics")
			if !strings.Contains(body, `refused_total{reason="`+reason+`"} 0`) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("nothing was refused for %s:\n%s", reason, body)
			}
		}
	}
	metric("requests")
	metric("connections")
	for n := range 20 { // from 127.0.0.1, while the flood goes on
		start := time.Now()
		status, body := r.do(t, http.MethodPost, allocations)
		if took := time.Since(start); status != 201 || took > 5*time.Second {
			t.Errorf("question %d: got %d %s after %v, want an answer soon", n+1, status, body, took)
		}
	}
}

// floods opens connections from an address until ctx ends. On each it asks again and again, or says nothing.
func floods(ctx context.Context, from, to string, asks bool) {
	dialer := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(from + ":0"))}
	for ctx.Err() == nil {
		c, err := dialer.DialContext(ctx, "tcp", to)
		if err != nil {
			continue
		}
		end := context.AfterFunc(ctx, func() { _ = c.Close() })
		in := bufio.NewReader(c)
		for err == nil {
			if asks {
				_, err = io.WriteString(c, "POST "+allocations+" HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
			}
			if err == nil {
				err = answered(in)
			}
		}
		end()
		_ = c.Close()
	}
}

func answered(in *bufio.Reader) error {
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return errors.Join(err, resp.Body.Close())
}
