package publisher_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"cloudmaster/internal/activeset"
	"cloudmaster/internal/blob"
	"cloudmaster/internal/blob/memblob"
	"cloudmaster/services/controller/internal/publisher"
)

var (
	errAway = errors.New("the store is away")
	t0      = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
)

func at(seconds float64) time.Time { return t0.Add(time.Duration(seconds * float64(time.Second))) }

// member returns the member i-1 at an address, with a load that was reported at the given second.
func member(address string, load, seconds float64) activeset.Instance {
	return activeset.Instance{ID: "i-1", Address: address + ":81", Load: load, ReportedAt: at(seconds)}
}

// open returns a publisher that has looked for the set in the store. It writes loads every 10 s.
func open(t *testing.T, store publisher.Store) *publisher.Publisher {
	t.Helper()
	p := publisher.New("fib", store, 10*time.Second)
	if _, _, err := p.Load(t.Context()); err != nil || !p.Known() {
		t.Fatalf("got error %v and known %v", err, p.Known())
	}
	return p
}

// publish publishes at the given second, and checks whether that was written.
func publish(t *testing.T, p *publisher.Publisher, seconds float64, writes bool, members ...activeset.Instance) {
	t.Helper()
	wrote, err := p.Publish(t.Context(), members, at(seconds))
	if err != nil || wrote != writes {
		t.Errorf("at second %v: got written %v and error %v, want written %v", seconds, wrote, err, writes)
	}
}

// stored returns the set in the store.
func stored(t *testing.T, store *memblob.Store) activeset.Set {
	t.Helper()
	o, err := store.Get(t.Context(), activeset.Key("fib"), "")
	if err != nil {
		t.Fatal(err)
	}
	set, err := activeset.Decode(o.Data)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// TestMembersAtOnceLoadsAtIntervals is what a publisher is for.
func TestMembersAtOnceLoadsAtIntervals(t *testing.T) {
	t.Parallel()
	store := memblob.New()
	p := open(t, store)
	publish(t, p, 0, true) // an empty set is a set
	publish(t, p, 1, false)
	publish(t, p, 2, true, member("a", 0.1, 2))
	publish(t, p, 3, false, member("a", 0.1, 2))
	if !p.Next().IsZero() {
		t.Errorf("nothing has changed: got that loads are due at %s", p.Next())
	}
	for what, changed := range map[string]activeset.Instance{"load": member("a", 0.2, 2), "time": member("a", 0.1, 3)} {
		publish(t, p, 11.9, false, changed)
		if p.Next() != at(12) {
			t.Errorf("the %s has changed: got that it is due at %s, want second 12", what, p.Next())
		}
	}
	publish(t, p, 11.9, true, member("b", 0.2, 3)) // another address
	other := member("b", 0.2, 3)
	other.ID = "i-2"
	publish(t, p, 11.9, true, other)
	publish(t, p, 11.9, true, member("b", 0.2, 3))
	publish(t, p, 21.9, true, member("b", 0.3, 4))
	if got := stored(t, store); len(got.Instances) != 1 || got.Instances[0] != member("b", 0.3, 4) ||
		got.WrittenAt != at(21.9) || got.Pool != "fib" {
		t.Errorf("got %+v", got)
	}
	if !p.Next().IsZero() {
		t.Errorf("all is written: got that loads are due at %s", p.Next())
	}
	p.SetInterval(time.Second)
	publish(t, p, 22.9, true, member("b", 0.4, 5))
	publish(t, p, 23, true)
}

// TestVersionsOnlyGrow, whoever writes.
func TestVersionsOnlyGrow(t *testing.T) {
	t.Parallel()
	store := memblob.New()
	p, other := open(t, store), open(t, store)
	last := 0
	for n, who := range []*publisher.Publisher{p, p, other, other, p} {
		publish(t, who, float64(n), true, member(string(rune('a'+n)), 0, 0))
		if got := stored(t, store).Version; got <= last {
			t.Errorf("write %d: got version %d after %d", n, got, last)
		} else {
			last = got
		}
	}
	if _, err := store.Put(t.Context(), activeset.Key("fib"), []byte("{"), blob.Any); err != nil {
		t.Fatal(err)
	}
	publish(t, p, 9, true)
	if got := stored(t, store).Version; got <= last {
		t.Errorf("after damage: got version %d after %d", got, last)
	}
}

// TestTakesOverWhatIsThere: what another controller has written is right until a member changes.
func TestTakesOverWhatIsThere(t *testing.T) {
	t.Parallel()
	store := memblob.New()
	publish(t, open(t, store), 0, true, member("a", 0.1, 0))
	p := publisher.New("fib", store, 10*time.Second)
	set, found, err := p.Load(t.Context())
	if err != nil || !found || len(set.Instances) != 1 || set.Version != 1 {
		t.Errorf("got %+v, found %v and error %v, want the set", set, found, err)
	}
	publish(t, p, 1, false, member("a", 0.1, 0))
	publish(t, p, 2, true, member("a", 0.2, 1)) // it does not know when the other one wrote
}

func TestDamagedOrMissingSetIsReplaced(t *testing.T) {
	t.Parallel()
	for name, store := range map[string]*memblob.Store{"damaged": memblob.New(), "missing": memblob.New()} {
		if name == "damaged" {
			if _, err := store.Put(t.Context(), activeset.Key("fib"), []byte("{"), ""); err != nil {
				t.Fatal(err)
			}
		}
		p := publisher.New("fib", store, 10*time.Second)
		if _, found, err := p.Load(t.Context()); found || err != nil || !p.Known() {
			t.Errorf("%s: got found %v, error %v, known %v", name, found, err, p.Known())
		}
		publish(t, p, 0, true)
		if got := stored(t, store); len(got.Instances) != 0 {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}

// TestFailedWriteIsRepeated, although the members do not change: it may or may not have taken effect.
func TestFailedWriteIsRepeated(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(*memblob.Store){
		"failed":      func(s *memblob.Store) { s.NextError(memblob.OpPut, errAway) },
		"answer lost": func(s *memblob.Store) { s.NextLost(memblob.OpPut, errAway) },
	} {
		store := memblob.New()
		p := open(t, store)
		publish(t, p, 0, true)
		fail(store)
		if wrote, err := p.Publish(t.Context(), []activeset.Instance{member("a", 0, 0)}, at(1)); !wrote ||
			!errors.Is(err, errAway) {
			t.Errorf("%s: got written %v and error %v, want %v", name, wrote, err, errAway)
		}
		if wrote, err := p.Publish(t.Context(), []activeset.Instance{}, at(2)); !wrote || err != nil {
			t.Errorf("%s, then as before: got written %v and error %v, want it written", name, wrote, err)
		}
		if got := stored(t, store); len(got.Instances) != 0 {
			t.Errorf("%s: got %+v, want no member", name, got)
		}
	}
}

// TestNothingIsPublishedBlindly: neither before the set was looked for, nor when it cannot be read after a conflict.
func TestNothingIsPublishedBlindly(t *testing.T) {
	t.Parallel()
	store := memblob.New()
	p := publisher.New("fib", store, 10*time.Second)
	store.NextError(memblob.OpGet, errAway)
	if _, found, err := p.Load(t.Context()); found || !errors.Is(err, errAway) || p.Known() {
		t.Errorf("got found %v, error %v, known %v", found, err, p.Known())
	}
	if wrote, err := p.Publish(t.Context(), nil, t0); wrote || err == nil {
		t.Errorf("got written %v and error %v, want an error", wrote, err)
	}
	p = open(t, store)
	publish(t, open(t, store), 0, true)
	store.NextError(memblob.OpGet, errAway)
	if wrote, err := p.Publish(t.Context(), nil, at(1)); !wrote || !errors.Is(err, errAway) {
		t.Errorf("after a conflict: got written %v and error %v, want %v", wrote, err, errAway)
	}
}

// TestWithoutAStoreNothingIsPublished: the pool has no active set.
func TestWithoutAStoreNothingIsPublished(t *testing.T) {
	t.Parallel()
	p := publisher.New("fib", nil, 0)
	if _, found, err := p.Load(t.Context()); found || err != nil || !p.Known() {
		t.Errorf("got found %v, error %v, known %v", found, err, p.Known())
	}
	publish(t, p, 0, false, member("a", 0, 0))
}

// TestAHangingStoreHoldsUpNoPass for longer than a few seconds.
func TestAHangingStoreHoldsUpNoPass(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, start := publisher.New("fib", hanging{}, 0), time.Now()
		if _, _, err := p.Load(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
		}
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

// hanging is a store that never answers.
type hanging struct{ publisher.Store }

// Get implements publisher.Store.
func (hanging) Get(ctx context.Context, _ string, _ blob.Version) (blob.Object, error) {
	<-ctx.Done()
	return blob.Object{}, ctx.Err()
}

// TestSetThatWasDeletedIsWrittenAgain with the next change of members.
func TestSetThatWasDeletedIsWrittenAgain(t *testing.T) {
	t.Parallel()
	store := memblob.New()
	p := open(t, store)
	publish(t, p, 0, true)
	if err := store.Delete(t.Context(), activeset.Key("fib")); err != nil {
		t.Fatal(err)
	}
	publish(t, p, 1, true, member("a", 0, 0))
	if got := stored(t, store); len(got.Instances) != 1 || got.Version != 2 {
		t.Errorf("got %+v, want the member and version 2", got)
	}
}

// TestOlderSetDoesNotMakeVersionsSmaller: an operator has put an earlier one back.
func TestOlderSetDoesNotMakeVersionsSmaller(t *testing.T) {
	t.Parallel()
	store := memblob.New()
	p := open(t, store)
	publish(t, p, 0, true)
	old, err := store.Get(t.Context(), activeset.Key("fib"), "")
	if err != nil {
		t.Fatal(err)
	}
	publish(t, p, 1, true, member("a", 0, 0))
	if _, err := store.Put(t.Context(), activeset.Key("fib"), old.Data, blob.Any); err != nil {
		t.Fatal(err)
	}
	publish(t, p, 2, true, member("b", 0, 0))
	if got := stored(t, store).Version; got != 3 {
		t.Errorf("got version %d, want 3", got)
	}
}

// TestSetThatReadersWouldRefuseIsNotWritten.
func TestSetThatReadersWouldRefuseIsNotWritten(t *testing.T) {
	t.Parallel()
	store := memblob.New()
	p := open(t, store)
	publish(t, p, 0, true)
	if _, err := p.Publish(t.Context(), []activeset.Instance{{}}, at(1)); err == nil {
		t.Error("got no error")
	}
	if got := stored(t, store); len(got.Instances) != 0 || got.Version != 1 {
		t.Errorf("got %+v, want the set as it was", got)
	}
}
