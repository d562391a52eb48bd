package natsblob_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"cloudmaster/internal/blob"
	"cloudmaster/internal/blob/blobtest"
	"cloudmaster/internal/blob/natsblob"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func startBroker(t *testing.T) jetstream.JetStream {
	t.Helper()
	srv, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true, JetStream: true, StoreDir: t.TempDir(),
	})
	if err != nil {
		t.Fatalf("new broker: %v", err)
	}
	srv.Start()
	t.Cleanup(func() {
		srv.Shutdown()
		srv.WaitForShutdown()
	})
	if !srv.ReadyForConnections(10 * time.Second) {
		t.Fatal("the broker does not start")
	}
	nc, err := nats.Connect(srv.ClientURL())
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func open(t *testing.T, js jetstream.JetStream, bucket string) *natsblob.Store {
	t.Helper()
	s, err := natsblob.Open(t.Context(), js, bucket, natsblob.Options{})
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return s
}

func TestConformance(t *testing.T) {
	js := startBroker(t)
	var made atomic.Int32
	blobtest.Run(t, blobtest.Harness{Make: func(t *testing.T) blob.Store {
		return open(t, js, fmt.Sprintf("bucket_%d", made.Add(1)))
	}})
}

func TestOpenTwice(t *testing.T) {
	t.Parallel()
	js := startBroker(t)
	v, err := open(t, js, "b").Put(t.Context(), "k", []byte("kept"), "")
	if err != nil {
		t.Fatalf("put: %v", err)
	}
	if _, err := open(t, js, "b").Get(t.Context(), "k", v); !errors.Is(err, blob.ErrNotModified) {
		t.Errorf("got %v, want %v: a version is valid for every handle of the store", err, blob.ErrNotModified)
	}
}

func TestBadBucket(t *testing.T) {
	t.Parallel()
	js := startBroker(t)
	for _, name := range []string{"", "a.b", "a b", "a*"} {
		if _, err := natsblob.Open(t.Context(), js, name, natsblob.Options{}); err == nil {
			t.Errorf("bucket %q: got no error, want one", name)
		}
	}
}

// TestAnotherBucketOfTheName: a bucket is deleted and created again under the same name. The same
// revision in the new bucket must be another version.
func TestAnotherBucketOfTheName(t *testing.T) {
	t.Parallel()
	js := startBroker(t)
	old, err := open(t, js, "b").Put(t.Context(), "k", []byte("old"), "")
	if err != nil {
		t.Fatalf("put: %v", err)
	}
	if err := js.DeleteKeyValue(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	s := open(t, js, "b")
	if _, err := s.Put(t.Context(), "k", []byte("new"), ""); err != nil {
		t.Fatalf("put: %v", err)
	}
	if o, err := s.Get(t.Context(), "k", old); err != nil || string(o.Data) != "new" {
		t.Errorf("got %q, error %v, want new", o.Data, err)
	}
}

func TestDeletedBucket(t *testing.T) {
	t.Parallel()
	js := startBroker(t)
	s := open(t, js, "b")
	v, err := s.Put(t.Context(), "k", []byte("x"), "")
	if err != nil {
		t.Fatalf("put: %v", err)
	}
	if err := js.DeleteKeyValue(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for _, have := range []blob.Version{"", v} {
		if _, err := s.Get(ctx, "k", have); !errors.Is(err, blob.ErrNotFound) {
			t.Errorf("get: got %v, want %v", err, blob.ErrNotFound)
		}
	}
	if _, err := s.Put(ctx, "k", []byte("x"), blob.Any); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("put: got %v, want %v", err, blob.ErrNotFound)
	}
}

// TestUnchangedIsNotTransferred checks, by the bytes that the client reads, that an unchanged value
// is not transferred.
func TestUnchangedIsNotTransferred(t *testing.T) {
	t.Parallel()
	js := startBroker(t)
	s := open(t, js, "b")
	v, err := s.Put(t.Context(), "k", make([]byte, 100_000), "")
	if err != nil {
		t.Fatalf("put: %v", err)
	}
	before := js.Conn().Stats().InBytes
	if _, err := s.Get(t.Context(), "k", v); !errors.Is(err, blob.ErrNotModified) {
		t.Fatalf("got %v, want %v", err, blob.ErrNotModified)
	}
	if got := js.Conn().Stats().InBytes - before; got > 5000 {
		t.Errorf("read %d bytes, want only an answer", got)
	}
}
