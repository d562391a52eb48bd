// Package blobtest checks that an implementation of blob.Store keeps the contract of that package.
// The tests of each implementation call Run.
package blobtest

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cloudmaster/internal/blob"
)

// Harness makes stores.
type Harness struct {
	// Make opens an empty store, which is removed when the test ends.
	Make func(t *testing.T) blob.Store
	// ByContent says that versions derive from the data, so that writing the same data again keeps the version.
	ByContent bool
	// Writers is how many writers race in tests of compare-and-set; 0 means 16.
	Writers int
}

// Run runs the suite.
func Run(t *testing.T, h Harness) {
	if h.Writers == 0 {
		h.Writers = 16
	}
	for name, test := range map[string]func(*testing.T, Harness){
		"what is put is got":              testRoundTrip,
		"a read is conditional":           testConditionalRead,
		"a write is conditional":          testConditionalWrite,
		"a deleted object is not there":   testDelete,
		"keys are told apart":             testKeys,
		"bad keys are refused":            testBadKeys,
		"values up to the limit":          testSizes,
		"one of many creators wins":       testCreateRace,
		"no update is lost":               testUpdateRace,
		"readers see what was confirmed":  testReadAfterWrite,
		"cancelled calls":                 testCancelled,
		"the caller's bytes are not kept": testOwnership,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, h)
		})
	}
}

func put(t *testing.T, s blob.Store, key, data string, last blob.Version) blob.Version {
	t.Helper()
	v, err := s.Put(t.Context(), key, []byte(data), last)
	if err != nil {
		t.Fatalf("put %s: %v", key, err)
	}
	if v == "" || v == blob.Any {
		t.Fatalf("put %s: got version %q, want a name", key, v)
	}
	return v
}

// holds fails the test unless the object has this data and version. A version of "" is not compared.
func holds(t *testing.T, s blob.Store, key, data string, version blob.Version) {
	t.Helper()
	o, err := s.Get(t.Context(), key, "")
	if err != nil {
		t.Fatalf("get %s: %v", key, err)
	}
	if o.Key != key || string(o.Data) != data || version != "" && o.Version != version {
		t.Errorf("got %q with %.100q at %q, want %q with %.100q at %q", o.Key, o.Data, o.Version, key, data, version)
	}
}

// refused fails the test unless err is want.
func refused(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got %v, want %v", what, err, want)
	}
}

func testRoundTrip(t *testing.T, h Harness) {
	s := h.Make(t)
	v1 := put(t, s, "a/b", "one", "")
	holds(t, s, "a/b", "one", v1)
	v2 := put(t, s, "a/b", "two", blob.Any)
	holds(t, s, "a/b", "two", v2)
	v3 := put(t, s, "a/b", "two", v2)
	if v1 == v2 || v2 == v3 && !h.ByContent {
		t.Errorf("got versions %q, %q, %q, want three", v1, v2, v3)
	}
	put(t, s, "fresh", "any creates, too", blob.Any)
	holds(t, s, "fresh", "any creates, too", "")
	put(t, s, "empty", "", "")
	holds(t, s, "empty", "", "")
	binary := string([]byte{0, 1, 0xff, 0xfe, '\r', '\n'})
	put(t, s, "binary", binary, "")
	holds(t, s, "binary", binary, "")
}

func testConditionalRead(t *testing.T, h Harness) {
	s := h.Make(t)
	_, err := s.Get(t.Context(), "missing", "")
	refused(t, "get a missing object", err, blob.ErrNotFound)
	v1 := put(t, s, "k", "one", "")
	put(t, s, "other", "later than k", "")
	_, err = s.Get(t.Context(), "k", v1)
	refused(t, "get what we have", err, blob.ErrNotModified)
	v2 := put(t, s, "k", "two", v1)
	o, err := s.Get(t.Context(), "k", v1)
	if err != nil || string(o.Data) != "two" || o.Version != v2 {
		t.Errorf("got %q at %q, error %v, want two at %q", o.Data, o.Version, err, v2)
	}
	o, err = s.Get(t.Context(), "k", "a version of another store")
	if err != nil || string(o.Data) != "two" {
		t.Errorf("got %q, error %v, want two", o.Data, err)
	}
	if err := s.Delete(t.Context(), "k"); err != nil {
		t.Fatalf("delete: %v", err)
	}
	_, err = s.Get(t.Context(), "k", v2)
	refused(t, "get what was deleted", err, blob.ErrNotFound)
}

func testConditionalWrite(t *testing.T, h Harness) {
	s := h.Make(t)
	ctx := t.Context()
	v1 := put(t, s, "k", "one", "")
	_, err := s.Put(ctx, "k", []byte("x"), "")
	refused(t, "create what exists", err, blob.ErrConflict)
	v2 := put(t, s, "k", "two", v1)
	_, err = s.Put(ctx, "k", []byte("x"), v1)
	refused(t, "update an old version", err, blob.ErrConflict)
	_, err = s.Put(ctx, "missing", []byte("x"), v2)
	refused(t, "update what does not exist", err, blob.ErrConflict)
	_, err = s.Put(ctx, "k", []byte("x"), "a version of another store")
	refused(t, "update a foreign version", err, blob.ErrConflict)
	holds(t, s, "k", "two", v2)
	_, err = s.Get(ctx, "missing", "")
	refused(t, "get what a refused write named", err, blob.ErrNotFound)
}

func testDelete(t *testing.T, h Harness) {
	s := h.Make(t)
	v1 := put(t, s, "k", "one", "")
	for range 2 {
		if err := s.Delete(t.Context(), "k"); err != nil {
			t.Fatalf("delete: %v", err)
		}
		_, err := s.Get(t.Context(), "k", "")
		refused(t, "get what was deleted", err, blob.ErrNotFound)
	}
	if err := s.Delete(t.Context(), "never.there"); err != nil {
		t.Errorf("delete what was never there: %v", err)
	}
	_, err := s.Put(t.Context(), "k", []byte("x"), v1)
	refused(t, "update what was deleted", err, blob.ErrConflict)
	v2 := put(t, s, "k", "two", "")
	if v2 == v1 {
		t.Errorf("got version %q twice", v1)
	}
	holds(t, s, "k", "two", v2)
}

func testKeys(t *testing.T, h Harness) {
	s := h.Make(t)
	keys := []string{
		"a", "A", "a.b", "a/b", "a_b", "a-b", "a/b.c", "a/.b", "a./b", "-", "_", "-a-", "_kv", "a.b.c/d",
		"active-set/fib-instances", strings.Repeat("k", 200),
	}
	for _, key := range keys {
		put(t, s, key, "value of "+key, "")
	}
	for _, key := range keys {
		holds(t, s, key, "value of "+key, "")
	}
}

func testBadKeys(t *testing.T, h Harness) {
	s := h.Make(t)
	for _, key := range []string{
		"", ".", "/", "..", "a//b", "a..b", "/a", "a/", ".a", "a.", "a b", "a*", "a>", "ü", "a\n", "a=b", `a\b`,
	} {
		_, err := s.Get(t.Context(), key, "")
		refused(t, "get "+key, err, blob.ErrInvalidKey)
		_, err = s.Put(t.Context(), key, nil, blob.Any)
		refused(t, "put "+key, err, blob.ErrInvalidKey)
		refused(t, "delete "+key, s.Delete(t.Context(), key), blob.ErrInvalidKey)
	}
}

func testSizes(t *testing.T, h Harness) {
	s := h.Make(t)
	largest := strings.Repeat("x", blob.MaxSize)
	v := put(t, s, "large", largest, "")
	holds(t, s, "large", largest, v)
	for _, last := range []blob.Version{"", blob.Any, v} {
		_, err := s.Put(t.Context(), "large", []byte(largest+"x"), last)
		refused(t, "put more than the limit", err, blob.ErrTooLarge)
	}
	holds(t, s, "large", largest, v)
}

func testCreateRace(t *testing.T, h Harness) {
	s := h.Make(t)
	for round := range 5 {
		key := "race." + string(rune('a'+round))
		var wins atomic.Int32
		var winner atomic.Value
		race(h.Writers, func(n int) {
			data := string(rune('A' + n))
			_, err := s.Put(t.Context(), key, []byte(data), "")
			if err == nil {
				wins.Add(1)
				winner.Store(data)
				return
			}
			refused(t, "lose the race", err, blob.ErrConflict)
		})
		if wins.Load() != 1 {
			t.Fatalf("got %d winners, want 1", wins.Load())
		}
		holds(t, s, key, winner.Load().(string), "")
		if round%2 == 0 { // every other round creates the object after it existed before
			if err := s.Delete(t.Context(), key); err != nil {
				t.Fatalf("delete: %v", err)
			}
		}
	}
}

// testUpdateRace has several writers append one byte each; every writer tries until it succeeds. No
// byte may be lost.
func testUpdateRace(t *testing.T, h Harness) {
	s := h.Make(t)
	put(t, s, "log", "", "")
	race(h.Writers, func(n int) {
		for {
			o, err := s.Get(t.Context(), "log", "")
			if err != nil {
				t.Errorf("get: %v", err)
				return
			}
			_, err = s.Put(t.Context(), "log", append(o.Data, byte('A'+n)), o.Version)
			if err == nil {
				return
			}
			if !errors.Is(err, blob.ErrConflict) {
				t.Errorf("put: got %v, want %v", err, blob.ErrConflict)
				return
			}
		}
	})
	o, err := s.Get(t.Context(), "log", "")
	if err != nil {
		t.Fatalf("get: %v", err)
	}
	for n := range h.Writers {
		if c := bytes.Count(o.Data, []byte{byte('A' + n)}); c != 1 {
			t.Errorf("got writer %d's byte %d times in %q, want once", n, c, o.Data)
		}
	}
}

// race runs n functions at the same time and waits for them.
func race(n int, f func(n int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			f(i)
		})
	}
	close(start)
	wg.Wait()
}

// testReadAfterWrite reads, conditionally and unconditionally, right after each confirmed write.
func testReadAfterWrite(t *testing.T, h Harness) {
	s := h.Make(t)
	last := blob.Version("")
	for i := range 50 {
		data := strings.Repeat("x", i)
		v := put(t, s, "k", data, last)
		o, err := s.Get(t.Context(), "k", last)
		if err != nil || string(o.Data) != data || o.Version != v {
			t.Fatalf("write %d: got %q at %q, error %v, want %q at %q", i, o.Data, o.Version, err, data, v)
		}
		last = v
	}
}

func testCancelled(t *testing.T, h Harness) {
	s := h.Make(t)
	v := put(t, s, "k", "one", "")
	ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	<-ctx.Done()
	_, err := s.Get(ctx, "k", "")
	refused(t, "get", err, context.DeadlineExceeded)
	_, err = s.Get(ctx, "k", v)
	refused(t, "conditional get", err, context.DeadlineExceeded)
	for _, last := range []blob.Version{"", blob.Any, v} {
		_, err = s.Put(ctx, "k", []byte("two"), last)
		refused(t, "put", err, context.DeadlineExceeded)
	}
	refused(t, "delete", s.Delete(ctx, "k"), context.DeadlineExceeded)
	holds(t, s, "k", "one", v)
}

func testOwnership(t *testing.T, h Harness) {
	s := h.Make(t)
	data := []byte("mine")
	if _, err := s.Put(t.Context(), "k", data, ""); err != nil {
		t.Fatalf("put: %v", err)
	}
	clear(data)
	o, err := s.Get(t.Context(), "k", "")
	if err != nil {
		t.Fatalf("get: %v", err)
	}
	clear(o.Data)
	holds(t, s, "k", "mine", "")
}
