package awsbackend_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cloudmaster/internal/awsconf"
	"cloudmaster/internal/backend"
	"cloudmaster/internal/backend/awsbackend"
	"cloudmaster/internal/backend/awsqueues"
	"cloudmaster/internal/blob"
	"cloudmaster/internal/blob/s3blob"
	"cloudmaster/internal/queue"
	"cloudmaster/internal/queue/sqsqueue"
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

// setUp makes queue and bucket, as controller setup does, until the test ends.
func setUp(t *testing.T, where string, limits queue.Limits) {
	t.Helper()
	at, err := url.Parse(where)
	if err != nil {
		t.Fatal(err)
	}
	cfg, parsed, err := awsqueues.Load(t.Context(), at, backend.Options{Client: "setup"})
	if err != nil {
		t.Fatal(err)
	}
	number, err := awsconf.Account(t.Context(), cfg, "")
	if err != nil {
		t.Fatal(err)
	}
	bucket := awsbackend.Bucket(parsed.Bucket, "demo", number, cfg.Region)
	if _, err := sqsqueue.Ensure(t.Context(), cfg, "jobs", limits, sqsqueue.Options{Deployment: "demo"}); err != nil {
		t.Fatal(err)
	}
	if err := s3blob.Create(t.Context(), cfg, bucket, "demo"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s3blob.Remove(context.WithoutCancel(t.Context()), cfg, bucket, number); err != nil {
			t.Error(err)
		}
	})
}

func TestQueuesAndBlobs(t *testing.T) {
	where := address(t)
	account(t)
	var calls atomic.Int64
	var said bytes.Buffer
	b, err := backend.Open(t.Context(), where, openers, backend.Options{
		Deployment: "demo", Client: "controller", Count: func(string, string, error) { calls.Add(1) },
		Log: slog.New(slog.NewTextHandler(&said, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Queue(t.Context(), "jobs"); !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("queue before setup: got %v, want %v", err, queue.ErrNotFound)
	}
	limits := queue.Limits{Visibility: time.Minute}
	if _, err := b.Ensure(t.Context(), "jobs", limits); !errors.Is(err, queue.ErrNotFound) ||
		!strings.Contains(err.Error(), "controller setup") {
		t.Errorf("ensured before setup: got %v, want %v that names controller setup", err, queue.ErrNotFound)
	}
	if _, err := b.Blobs(t.Context()); !errors.Is(err, blob.ErrNotFound) ||
		!strings.Contains(err.Error(), "controller setup") {
		t.Errorf("store before setup: got %v, want %v that names controller setup", err, blob.ErrNotFound)
	}
	setUp(t, where, limits)
	q, err := b.Ensure(t.Context(), "jobs", limits)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Ensure(t.Context(), "jobs", queue.Limits{Visibility: 2 * time.Minute}); err != nil ||
		!strings.Contains(said.String(), "VisibilityTimeout is 60, not 120") {
		t.Errorf("other limits: got %v and said %q, want it opened and said", err, &said)
	}
	if err := q.Send(t.Context(), []byte("job")); err != nil {
		t.Fatal(err)
	}
	again, err := b.Queue(t.Context(), "jobs")
	if err != nil {
		t.Fatal(err)
	}
	if msgs, err := again.Receive(t.Context(), 1, 5*time.Second); err != nil || len(msgs) != 1 ||
		again.Visibility() != time.Minute {
		t.Errorf("got %d messages, visibility %s, error %v, want one and 1m", len(msgs), again.Visibility(), err)
	}
	store, err := b.Blobs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Put(t.Context(), "k", []byte("v"), "*"); err != nil {
		t.Error(err)
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
		"aws://eu-west-1?account=12":             `account "12" is not the number of an AWS account`,
		"aws://eu-west-1?endpoint=localhost:456": "is not a URL",
		"aws://eu-west-1/path":                   "more than a region",
	} {
		if _, err := backend.Open(t.Context(), where, openers, backend.Options{}); err == nil ||
			!strings.Contains(err.Error(), want) {
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

// TestOnlyTheKindKnowsAges: what controllers open knows how old messages are, and what other programs open links
// nothing for that.
func TestOnlyTheKindKnowsAges(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	opened, err := awsbackend.Kind().Open(t.Context(), "aws://eu-west-1", nil, backend.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := opened.Backend.(queue.Ager); !ok {
		t.Error("the controller's backend does not know how old messages are")
	}
	plain, err := backend.Open(t.Context(), "aws://eu-west-1", openers, backend.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := plain.(queue.Ager); ok {
		t.Error("other programs' backends link CloudWatch")
	}
}
