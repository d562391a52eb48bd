package s3blob_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"cloudmaster/internal/awsconf"
	"cloudmaster/internal/blob"
	"cloudmaster/internal/blob/s3blob"
)

// answer is the fake's prepared answer to one try. With lost, the fake obeys the request and then
// closes the connection without an answer.
type answer struct {
	status int
	code   string
	lost   bool
}

// fake is one bucket with at most one object. It gives its prepared answers first; after them it
// behaves like S3.
type fake struct {
	mu      sync.Mutex
	answers []answer
	seen    []*http.Request
	data    []byte
	tag     string
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	f.seen = append(f.seen, r)
	var a answer
	if len(f.answers) > 0 {
		a, f.answers = f.answers[0], f.answers[1:]
	}
	if a.lost {
		f.do(httptest.NewRecorder(), r, body)
		panic(http.ErrAbortHandler)
	}
	if a.status != 0 {
		refuse(w, r, a.status, a.code)
		return
	}
	f.do(w, r, body)
}

func (f *fake) do(w http.ResponseWriter, r *http.Request, body []byte) {
	switch {
	case r.Method == http.MethodPut && r.Header.Get("If-None-Match") == "*" && f.tag != "",
		r.Method == http.MethodPut && r.Header.Get("If-Match") != "" && f.tag != "" &&
			r.Header.Get("If-Match") != f.tag:
		refuse(w, r, http.StatusPreconditionFailed, "PreconditionFailed")
	case r.Method == http.MethodPut && r.Header.Get("If-Match") != "" && f.tag == "",
		r.Method == http.MethodGet && f.tag == "":
		refuse(w, r, http.StatusNotFound, "NoSuchKey")
	case r.Method == http.MethodPut:
		f.data, f.tag = body, fmt.Sprintf("%q", fmt.Sprintf("tag-%s", body))
		w.Header().Set("ETag", f.tag)
	case r.Method == http.MethodGet && r.Header.Get("If-None-Match") == f.tag:
		w.WriteHeader(http.StatusNotModified)
	case r.Method == http.MethodGet:
		w.Header().Set("ETag", f.tag)
		w.Write(f.data) //nolint:errcheck // the client notices a failure
	}
}

func refuse(w http.ResponseWriter, r *http.Request, status int, code string) {
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		fmt.Fprintf(w, `<?xml version="1.0"?><Error><Code>%s</Code><Message>no</Message></Error>`, code)
	}
}

func open(t *testing.T, f *fake, opts s3blob.Options) (*s3blob.Store, error) {
	t.Helper()
	srv := httptest.NewServer(f)
	t.Cleanup(srv.Close)
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	cfg, err := awsconf.Load(t.Context(), awsconf.Options{Region: "eu-west-1", Endpoint: srv.URL, Client: "controller"})
	if err != nil {
		t.Fatal(err)
	}
	return s3blob.Open(t.Context(), cfg, "b-1", opts)
}

func mustOpen(t *testing.T, f *fake, answers ...answer) *s3blob.Store {
	t.Helper()
	s, err := open(t, f, s3blob.Options{Account: "123456789012"})
	if err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answers, f.seen = answers, nil
	return s
}

func TestOpenRefused(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		want   error
		text   string
	}{
		"missing":   {http.StatusNotFound, blob.ErrNotFound, "b-1"},
		"foreign":   {http.StatusForbidden, blob.ErrDenied, "b-1"},
		"elsewhere": {http.StatusMovedPermanently, nil, "region"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := open(t, &fake{answers: []answer{{status: c.status}}}, s3blob.Options{Account: "123456789012"})
			if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v, want %v with %q in it", err, c.want, c.text)
			}
		})
	}
}

func TestPutAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		last    blob.Version
		answers []answer
		want    error
		tries   int
	}{
		"slow down, then done": {"", []answer{{status: 503, code: "SlowDown"}}, nil, 2},
		"slow down for good": {
			"", slices.Repeat([]answer{{status: 503, code: "SlowDown"}}, 4), blob.ErrThrottled, 4,
		},
		"two at once": {
			"", []answer{{status: 409, code: "ConditionalRequestConflict"}}, blob.ErrConflict, 1,
		},
		"if-match on nothing":        {`"x"`, nil, blob.ErrConflict, 1},
		"bucket gone, unconditional": {blob.Any, []answer{{status: 404, code: "NoSuchBucket"}}, blob.ErrNotFound, 1},
		"bucket gone, conditional":   {`"x"`, []answer{{status: 404, code: "NoSuchBucket"}}, blob.ErrNotFound, 1},
		"foreign":                    {"", []answer{{status: 403, code: "AccessDenied"}}, blob.ErrDenied, 1},
		"lost answer, unconditional": {blob.Any, []answer{{lost: true}}, nil, 2},
		"lost answer, conditional":   {"", []answer{{lost: true}}, blob.ErrConflict, 2},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fake{}
			_, err := mustOpen(t, f, c.answers...).Put(t.Context(), "k", []byte("v"), c.last)
			if !errors.Is(err, c.want) || len(f.seen) != c.tries {
				t.Errorf("got %v after %d tries, want %v after %d", err, len(f.seen), c.want, c.tries)
			}
		})
	}
}

func TestDeleteInMissingBucket(t *testing.T) {
	f := &fake{}
	err := mustOpen(t, f, answer{status: 404, code: "NoSuchBucket"}).Delete(t.Context(), "k")
	if !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("got %v, want %v", err, blob.ErrNotFound)
	}
}

func TestRequests(t *testing.T) {
	f := &fake{}
	s := mustOpen(t, f)
	v, err := s.Put(t.Context(), "a/b", []byte("v"), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), "a/b", ""); err != nil {
		t.Error(err)
	}
	if _, err := s.Get(t.Context(), "a/b", v); !errors.Is(err, blob.ErrNotModified) {
		t.Errorf("got %v, want %v", err, blob.ErrNotModified)
	}
	if err := s.Delete(t.Context(), "a/b"); err != nil {
		t.Error(err)
	}
	if _, err := s.Put(t.Context(), "a/b", make([]byte, blob.MaxSize+1), ""); !errors.Is(err, blob.ErrTooLarge) {
		t.Errorf("got %v, want %v", err, blob.ErrTooLarge)
	}
	if len(f.seen) != 4 {
		t.Errorf("got %d requests, want 4: one that is too large is not sent", len(f.seen))
	}
	for _, r := range f.seen {
		owner := r.Header.Get("X-Amz-Expected-Bucket-Owner")
		if owner != "123456789012" || r.URL.Path != "/b-1/a/b" || len(r.TransferEncoding) > 0 {
			t.Errorf("got %s %s of owner %q, transfer %q", r.Method, r.URL.Path, owner, r.TransferEncoding)
		}
	}
}

func TestEndpointOfEnvironmentIsPathStyle(t *testing.T) {
	f := &fake{}
	srv := httptest.NewServer(f)
	defer srv.Close()
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	t.Setenv("AWS_ENDPOINT_URL_S3", srv.URL)
	cfg, err := awsconf.Load(t.Context(), awsconf.Options{Region: "eu-west-1"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s3blob.Open(t.Context(), cfg, "b-1", s3blob.Options{}); err != nil {
		t.Fatal(err)
	}
	if got := f.seen[0].URL.Path; got != "/b-1" {
		t.Errorf("got path %q, want /b-1", got)
	}
}

func TestCreateForeignName(t *testing.T) {
	f := &fake{answers: []answer{{status: 409, code: "BucketAlreadyExists"}}}
	srv := httptest.NewServer(f)
	defer srv.Close()
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	cfg, err := awsconf.Load(t.Context(), awsconf.Options{Region: "eu-west-1", Endpoint: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	err = s3blob.Create(t.Context(), cfg, "b-1", "demo")
	if !errors.Is(err, blob.ErrDenied) || !strings.Contains(err.Error(), "b-1") || len(f.seen) != 1 {
		t.Errorf("got %v after %d requests, want %v after one", err, len(f.seen), blob.ErrDenied)
	}
}

func TestCreateLeavesNoBucketWithoutTags(t *testing.T) {
	f := &fake{answers: []answer{{}, {status: 403, code: "AccessDenied"}}}
	srv := httptest.NewServer(f)
	defer srv.Close()
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	cfg, err := awsconf.Load(t.Context(), awsconf.Options{Region: "eu-west-1", Endpoint: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	err = s3blob.Create(t.Context(), cfg, "b-1", "demo")
	if !errors.Is(err, blob.ErrDenied) || len(f.seen) != 3 || f.seen[2].Method != http.MethodDelete {
		t.Errorf("got %v after %d requests, want %v after the bucket was removed again", err, len(f.seen),
			blob.ErrDenied)
	}
}
