package awsbackend_test

import (
	"crypto/rand"
	"errors"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cloudmaster/internal/backend"
	"cloudmaster/internal/backend/awsbackend"
	"cloudmaster/internal/backend/awsqueues"
	"cloudmaster/internal/queue"
)

var openers = backend.Openers{"aws": awsbackend.Open}

func address(t *testing.T) string {
	t.Helper()
	endpoint := os.Getenv("LOCALSTACK_ENDPOINT")
	if endpoint == "" {
		t.Skip("LOCALSTACK_ENDPOINT names no LocalStack to test against")
	}
	return "aws://eu-west-1?" + url.Values{"endpoint": {endpoint}}.Encode()
}

// account makes the test's credentials those of an account of its own.
func account(t *testing.T) {
	t.Helper()
	digits := []byte("3000000000000")[:12]
	for i, b := range []byte(rand.Text()[:11]) {
		digits[i+1] = '0' + b%10
	}
	t.Setenv("AWS_ACCESS_KEY_ID", string(digits))
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
}

func TestQueuesAndBlobs(t *testing.T) {
	where := address(t)
	account(t)
	var calls atomic.Int64
	b, err := backend.Open(t.Context(), where, openers, backend.Options{
		Deployment: "demo", Client: "controller", Count: func(string, string, error) { calls.Add(1) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Queue(t.Context(), "jobs"); !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("queue before ensure: got %v, want %v", err, queue.ErrNotFound)
	}
	q, err := b.Ensure(t.Context(), "jobs", queue.Limits{Visibility: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Send(t.Context(), []byte("job")); err != nil {
		t.Fatal(err)
	}
	again, err := b.Queue(t.Context(), "jobs")
	if err != nil {
		t.Fatal(err)
	}
	if msgs, err := again.Receive(t.Context(), 1, 5*time.Second); err != nil || len(msgs) != 1 || again.Visibility() != time.Minute {
		t.Errorf("got %d messages, visibility %s, error %v, want one and 1m", len(msgs), again.Visibility(), err)
	}
	for range 2 { // the first creates the bucket, the second finds it
		store, err := b.Blobs(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := store.Put(t.Context(), "k", []byte("v"), "*"); err != nil {
			t.Error(err)
		}
	}
	if n := calls.Load(); n < 10 {
		t.Errorf("got %d calls counted, want each", n)
	}
	if err := errors.Join(b.Close(), b.Close()); err != nil {
		t.Error(err)
	}
	if _, err := b.Queue(t.Context(), "jobs"); !errors.Is(err, queue.ErrClosed) {
		t.Errorf("after close: got %v, want %v", err, queue.ErrClosed)
	}
}

func TestBadAddress(t *testing.T) {
	t.Parallel()
	for where, want := range map[string]string{
		"aws://moon":                             `"moon" is not an AWS region`,
		"aws://eu-west-1?buket=x":                `unknown option "buket"`,
		"aws://eu-west-1?bucket=X":               "not a bucket name",
		"aws://eu-west-1?endpoint=localhost:456": "is not a URL",
		"aws://eu-west-1/path":                   "more than a region",
	} {
		if _, err := backend.Open(t.Context(), where, openers, backend.Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q in it", where, err, want)
		}
	}
}

func TestQueuesAloneHaveNoStore(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	b, err := backend.Open(t.Context(), "aws://eu-west-1", backend.Openers{"aws": awsqueues.Open}, backend.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Blobs(t.Context()); !errors.Is(err, awsqueues.ErrNoStore) {
		t.Errorf("got %v, want %v", err, awsqueues.ErrNoStore)
	}
}
