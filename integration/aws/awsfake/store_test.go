package awsfake_test

import (
	"crypto/rand"
	"errors"
	"net/http"
	"strings"
	"testing"

	"cloudmaster/integration/aws/awsfake"
	"cloudmaster/integration/aws/call"
	"cloudmaster/internal/blob"
	"cloudmaster/internal/blob/blobtest"
	"cloudmaster/internal/blob/s3blob"
)

// TestStoreConformance: S3's adapter keeps the contract of stores on the fake.
func TestStoreConformance(t *testing.T) {
	f := start(t, awsfake.Options{})
	cfg := config(t, f, region, "admin")
	blobtest.Run(t, blobtest.Harness{ByContent: true, Make: func(t *testing.T) blob.Store {
		name := "b-" + strings.ToLower(rand.Text())
		if err := s3blob.Create(t.Context(), cfg, name, "test"); err != nil {
			t.Fatal(err)
		}
		s, err := s3blob.Open(t.Context(), cfg, name, s3blob.Options{Account: f.Account()})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}})
}

// TestBucketLife: what setup and teardown do with a bucket.
func TestBucketLife(t *testing.T) {
	f := start(t, awsfake.Options{})
	cfg := config(t, f, region, "admin")
	for range 2 { // the second finds what the first has made
		if err := s3blob.Create(t.Context(), cfg, "life", "demo"); err != nil {
			t.Fatal(err)
		}
	}
	have, err := s3blob.Inspect(t.Context(), cfg, "life", f.Account())
	if err != nil || !have.Exists || have.Tags["cloudmaster:deployment"] != "demo" || len(have.Differs) != 0 {
		t.Fatalf("got %+v and error %v", have, err)
	}
	s, err := s3blob.Open(t.Context(), cfg, "life", s3blob.Options{Account: f.Account()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(t.Context(), "a/b", []byte("x"), ""); err != nil {
		t.Fatal(err)
	}
	if got := f.S3().Objects("life")["a/b"]; got != "x" {
		t.Errorf("got object %q, want x", got)
	}
	if err := s3blob.Remove(t.Context(), cfg, "life", f.Account()); err != nil {
		t.Fatal(err)
	}
	if f.S3().Objects("life") != nil {
		t.Error("the bucket is still there")
	}
}

func TestBucketOfOthers(t *testing.T) {
	f := start(t, awsfake.Options{})
	f.S3().AddForeign("taken", region, "999999999999")
	cfg := config(t, f, region, "admin")
	if err := s3blob.Create(t.Context(), cfg, "taken", "demo"); !errors.Is(err, blob.ErrDenied) {
		t.Errorf("create: got %v, want ErrDenied", err)
	}
	if _, err := s3blob.Open(t.Context(), cfg, "taken", s3blob.Options{}); !errors.Is(err, blob.ErrDenied) {
		t.Errorf("open: got %v, want ErrDenied", err)
	}
	if err := s3blob.Create(t.Context(), cfg, "ours", "demo"); err != nil {
		t.Fatal(err)
	}
	if _, err := s3blob.Open(t.Context(), cfg, "ours", s3blob.Options{Account: "111111111111"}); err == nil {
		t.Error("a bucket that is not the expected account's was opened")
	}
	if _, err := s3blob.Open(t.Context(), config(t, f, "us-east-1", "admin"), "ours", s3blob.Options{}); err == nil {
		t.Error("a bucket of another region was opened")
	}
}

// TestConcurrentWrites: two writers at once may both be told to try again.
func TestConcurrentWrites(t *testing.T) {
	f := start(t, awsfake.Options{})
	cfg := config(t, f, region, "admin")
	if err := s3blob.Create(t.Context(), cfg, "race", "demo"); err != nil {
		t.Fatal(err)
	}
	s, err := s3blob.Open(t.Context(), cfg, "race", s3blob.Options{Account: f.Account()})
	if err != nil {
		t.Fatal(err)
	}
	f.S3().Fail("PutObject", 1, call.Error{Status: http.StatusConflict, Code: "ConditionalRequestConflict"})
	if _, err := s.Put(t.Context(), "k", []byte("v"), ""); !errors.Is(err, blob.ErrConflict) {
		t.Errorf("got %v, want ErrConflict", err)
	}
	if got := f.S3().Objects("race"); len(got) != 0 {
		t.Errorf("got objects %v, want none", got)
	}
}
