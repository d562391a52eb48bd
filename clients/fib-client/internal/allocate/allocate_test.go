package allocate_test

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"cloudmaster/clients/fib-client/internal/allocate"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// answer is what a fake allocator says.
type answer struct {
	code        int
	contentType string
	retryAfter  string
	body        string
}

// fake starts an allocator and returns a client of it and the requests that it got.
func fake(t *testing.T, a answer) (client *allocate.Client, got *[]string) {
	t.Helper()
	got = new([]string)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*got = append(*got, r.Method+" "+r.URL.Path)
		w.Header().Set("Content-Type", a.contentType)
		if a.retryAfter != "" {
			w.Header().Set("Retry-After", a.retryAfter)
		}
		w.WriteHeader(a.code)
		_, _ = w.Write([]byte(a.body))
	}))
	t.Cleanup(srv.Close)
	client, err := allocate.New(srv.URL, allocate.Options{Transport: &http.Transport{DisableKeepAlives: true}})
	if err != nil {
		t.Fatal(err)
	}
	return client, got
}

func TestAskReturnsTheServer(t *testing.T) {
	t.Parallel()
	client, requests := fake(t,
		answer{201, "application/json", "", `{"id":"i-1","address":"10.0.0.7:20808","load_estimate":0.3,"more":1}`})
	got, err := client.Ask(t.Context(), "fib")
	want := allocate.Server{ID: "i-1", Address: "10.0.0.7:20808", Load: 0.3}
	if err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if diff := cmp.Diff([]string{"POST /v1/pools/fib/allocations"}, *requests); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

func TestNoServers(t *testing.T) {
	t.Parallel()
	const sentence = "no servers are running, try again in a minute"
	for name, c := range map[string]struct {
		in   answer
		want allocate.NoServersError
	}{
		"as documented": {
			answer{503, "application/problem+json", "60", `{"detail":"` + sentence + `"}`},
			allocate.NoServersError{Detail: sentence, RetryAfter: time.Minute},
		},
		"with a charset and no time": {
			answer{503, "application/problem+json; charset=utf-8", "", `{"detail":"` + sentence + `"}`},
			allocate.NoServersError{Detail: sentence},
		},
		"nonsense of a time": {
			answer{503, "application/problem+json", "soon", `{"detail":"later"}`},
			allocate.NoServersError{Detail: "later"},
		},
		"negative time": {
			answer{503, "application/problem+json", "-5", `{"detail":"later"}`},
			allocate.NoServersError{Detail: "later"},
		},
		"a date long gone": {
			answer{503, "application/problem+json", "Sun, 06 Nov 1994 08:49:37 GMT", `{"detail":"later"}`},
			allocate.NoServersError{Detail: "later"},
		},
		"control characters stay off the terminal": {
			answer{503, "application/problem+json", "1", `{"detail":"no\u001b[31m\nservers"}`},
			allocate.NoServersError{Detail: "no [31m servers", RetryAfter: time.Second},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, _ := fake(t, c.in)
			_, err := client.Ask(t.Context(), "fib")
			got, ok := errors.AsType[*allocate.NoServersError](err)
			if !ok || *got != c.want {
				t.Errorf("got %v, want %+v", err, c.want)
			}
		})
	}
}

func TestOtherAnswersAreErrorsThatNameTheAllocator(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		in   answer
		want string
	}{
		"unknown pool": {
			answer{404, "application/problem+json", "", `{"detail":"no pool named fob"}`},
			"404 Not Found: no pool named fob",
		},
		"503 of somebody else": {
			answer{503, "text/html", "60", "<h1>Bad gateway</h1>"}, "bad answer: 503 Service Unavailable",
		},
		"503 without a sentence": {answer{503, "application/problem+json", "60", "{}"}, "bad answer: 503"},
		"problem is not JSON":    {answer{503, "application/problem+json", "60", `{"detail":"x`}, "bad answer: 503"},
		"some other success":     {answer{200, "application/json", "", `{"address":"h:1"}`}, "bad answer: 200 OK"},
		"not JSON":               {answer{201, "application/json", "", "hello"}, "bad answer: invalid character"},
		"no address":             {answer{201, "application/json", "", "{}"}, `address must be host:port, not ""`},
		"address without a port": {
			answer{201, "application/json", "", `{"address":"host"}`}, `address must be host:port, not "host"`,
		},
		"address of another type": {answer{201, "application/json", "", `{"address":7}`}, "bad answer: json"},
		"endless":                 {answer{201, "application/json", "", strings.Repeat("[", 1<<20)}, "bad answer"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, _ := fake(t, c.in)
			_, err := client.Ask(t.Context(), "fib")
			if err == nil || !strings.Contains(err.Error(), c.want) ||
				!strings.HasPrefix(err.Error(), "ask allocator http://127.0.0.1:") {
				t.Errorf("got %v, want the allocator's address and %q", err, c.want)
			}
		})
	}
}

func TestAnAllocatorThatIsNotThere(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	url := "http://" + l.Addr().String()
	client, err := allocate.New(url, allocate.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.Ask(t.Context(), "fib")
	for _, want := range []string{
		"ask allocator " + url, "connection refused", "is it running there? --allocator names another",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
}

func TestNewRefusesWhatIsNoAddress(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "127.0.0.1:20809", "ftp://host", "http://", "http://a b"} {
		if _, err := allocate.New(bad, allocate.Options{}); err == nil {
			t.Errorf("%q: got nil, want an error", bad)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add(201, "application/json", `{"id":"i","address":"h:1","load_estimate":0}`)
	f.Add(503, "application/problem+json", `{"detail":"no servers"}`)
	f.Add(200, "", "")
	f.Fuzz(func(t *testing.T, code int, contentType, body string) {
		client, err := allocate.New("http://allocator", allocate.Options{Transport: reply{code, contentType, body}})
		if err != nil {
			t.Fatal(err)
		}
		server, err := client.Ask(t.Context(), "fib")
		if _, _, split := net.SplitHostPort(server.Address); err == nil && split != nil {
			t.Errorf("got address %q and no error", server.Address)
		}
		if err != nil && strings.ContainsAny(err.Error(), "\x1b\x00") {
			t.Errorf("got control characters in %q", err)
		}
	})
}

// reply is a transport that always gets the same answer.
type reply struct {
	code              int
	contentType, body string
}

// RoundTrip answers.
func (r reply) RoundTrip(*http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	w.Code = r.code
	w.Header().Set("Content-Type", r.contentType)
	_, _ = w.WriteString(r.body)
	resp := w.Result()
	resp.StatusCode = r.code
	return resp, nil
}
