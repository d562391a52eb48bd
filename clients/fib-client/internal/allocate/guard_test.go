package allocate_test

import (
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cloudmaster/clients/fib-client/internal/allocate"
	"cloudmaster/internal/certtest"
)

const token = "0123456789abcdef"

func file(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// guarded starts an allocator with TLS that wants the token.
func guarded(t *testing.T) (url, ca string) {
	t.Helper()
	ca, key := certtest.Write(t, t.TempDir(), time.Now().Add(30*time.Minute))
	pair, err := tls.LoadX509KeyPair(ca, key)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+token {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"detail":"the token that was sent is not valid here"}`)
			return
		}
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, `{"id":"a","address":"a:1"}`)
	}))
	srv.TLS = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv.URL, ca
}

func TestTokenAndAuthority(t *testing.T) {
	t.Parallel()
	url, ca := guarded(t)
	other, _ := certtest.Write(t, t.TempDir(), time.Now().Add(30*time.Minute))
	clear := strings.Replace(url, "https", "http", 1)
	good := file(t, token+"\nanother-token-behind\n")
	for name, c := range map[string]struct{ url, token, ca, want string }{
		"as it should be":   {url, good, ca, ""},
		"another token":     {url, file(t, "0123456789abcdeX"), ca, "not valid here: --allocator-token-file names"},
		"no token":          {url, "", ca, "--allocator-token-file names the file with a valid token"},
		"system's CAs":      {url, good, "", "--allocator-ca names the file with the authority"},
		"another authority": {url, good, other, "--allocator-ca names the file with the authority"},
		"in clear":          {clear, good, "", "--allocator begins with https:// for it"},
	} {
		client, err := allocate.New(c.url, allocate.Options{TokenFile: c.token, CA: c.ca})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := client.Ask(t.Context(), "fib")
		client.Close()
		if c.want == "" && (err != nil || got.Address != "a:1") {
			t.Errorf("%s: got %+v, %v, want a server", name, got, err)
		}
		if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q in it", name, err, c.want)
		}
	}
}

func TestOptionsThatCannotBe(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]struct {
		url string
		allocate.Options
	}{
		"allocator-token-file: ":               {"http://a", allocate.Options{TokenFile: "/nowhere"}},
		"has no token":                         {"http://a", allocate.Options{TokenFile: file(t, "")}},
		"allocator-ca: open /nowhere":          {"https://a", allocate.Options{CA: "/nowhere"}},
		"has no certificate in PEM form":       {"https://a", allocate.Options{CA: file(t, "x")}},
		"is for an allocator at https://, not": {"http://a", allocate.Options{CA: file(t, "x")}},
	} {
		if _, err := allocate.New(c.url, c.Options); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// TestTheTokenGoesNowhereElse: an answer that names another address does not get the token sent there.
func TestTheTokenGoesNowhereElse(t *testing.T) {
	t.Parallel()
	heard := make(chan string, 1)
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		heard <- r.Header.Get("Authorization")
	}))
	t.Cleanup(other.Close)
	srv := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	t.Cleanup(srv.Close)
	client, err := allocate.New(srv.URL, allocate.Options{
		TokenFile: file(t, token), Transport: &http.Transport{DisableKeepAlives: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Ask(t.Context(), "fib"); err == nil || !strings.Contains(err.Error(), "307") {
		t.Errorf("got %v, want the status", err)
	}
	if len(heard) > 0 {
		t.Errorf("the other address was sent %q", <-heard)
	}
}

func TestTokenInClear(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]bool{
		"http://allocator.example:1": true, "http://192.0.2.1": true, "https://192.0.2.1": false,
		"http://127.0.0.1:20809": false, "http://localhost": false, "http://[::1]:1": false,
	} {
		client, err := allocate.New(url, allocate.Options{TokenFile: file(t, token)})
		if err != nil {
			t.Fatal(err)
		}
		if got := client.TokenInClear(); got != want {
			t.Errorf("%s: got %t, want %t", url, got, want)
		}
	}
}

func TestTooMany(t *testing.T) {
	t.Parallel()
	client, _ := fake(t, answer{429, "application/problem+json", "7", `{"detail":"your address asks too often"}`})
	_, err := client.Ask(t.Context(), "fib")
	many, ok := errors.AsType[*allocate.TooManyError](err)
	if !ok || many.RetryAfter != 7*time.Second || many.Detail != "your address asks too often" {
		t.Errorf("got %v, want when to ask again", err)
	}
}
