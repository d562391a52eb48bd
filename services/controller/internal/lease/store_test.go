package lease_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cloudmaster/internal/blob"
	"cloudmaster/internal/blob/memblob"
	"cloudmaster/services/controller/internal/lease"
)

var errAway = errors.New("the store is away")

// TestAcquireNeedsTheStore checks that nobody leads who could not read the lease, or not write it.
func TestAcquireNeedsTheStore(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(*memblob.Store){
		"not read":    func(s *memblob.Store) { s.NextError(memblob.OpGet, errAway) },
		"not written": func(s *memblob.Store) { s.NextError(memblob.OpPut, errAway) },
	} {
		store := memblob.New()
		fail(store)
		if _, err := lease.Acquire(t.Context(), store, quiet, lease.Options{}); !errors.Is(err, errAway) {
			t.Errorf("%s: got %v, want %v", name, err, errAway)
		}
		if _, err := store.Get(t.Context(), lease.Key, ""); !errors.Is(err, blob.ErrNotFound) {
			t.Errorf("%s: got %v, want no lease in the store", name, err)
		}
	}
}

func TestFree(t *testing.T) {
	t.Parallel()
	store := memblob.New()
	if err := lease.Free(t.Context(), store, time.Now); err != nil {
		t.Errorf("never held: got %v", err)
	}
	store.NextError(memblob.OpGet, errAway)
	if err := lease.Free(t.Context(), store, time.Now); !errors.Is(err, errAway) {
		t.Errorf("store away: got %v, want %v", err, errAway)
	}
}

func TestAcquireAcceptsTheLongestTime(t *testing.T) {
	t.Parallel()
	if _, err := lease.Acquire(t.Context(), memblob.New(), quiet, lease.Options{TTL: time.Hour}); err != nil {
		t.Errorf("an hour: got %v", err)
	}
	// A time that is absurd is not believed.
	for ttl, free := range map[time.Duration]bool{time.Hour: false, 2 * time.Hour: true} {
		store := held(t, lease.Holder{
			Host: "elsewhere", PID: 1, RenewedAt: time.Now().Add(-time.Minute), TTLSeconds: ttl.Seconds(),
		})
		if err := lease.Free(t.Context(), store, time.Now); (err == nil) != free {
			t.Errorf("a lease of %s: got %v, want free: %v", ttl, err, free)
		}
	}
}

// TestUnknownNamespaceProvesNothing checks that no holder counts as dead by its process id if it is not known where
// that id is valid.
func TestUnknownNamespaceProvesNothing(t *testing.T) {
	t.Parallel()
	store := held(t, lease.Holder{Host: "here", PID: deadPID(t), RenewedAt: time.Now()})
	us := lease.Options{Host: "here", PID: os.Getpid()} // no namespace belongs to a holder that is named
	if _, err := lease.Acquire(t.Context(), store, quiet, us); !errors.Is(err, lease.ErrHeld) {
		t.Errorf("got %v, want %v", err, lease.ErrHeld)
	}
}

// TestNobodyWaitsForALeaseOfTheFutureAfterTheStop checks that a controller that is stopped meanwhile takes nothing.
func TestNobodyWaitsForALeaseOfTheFutureAfterTheStop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		future := time.Now().Add(time.Hour)
		store := held(t, lease.Holder{Host: "elsewhere", PID: 1, RenewedAt: future})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := lease.Acquire(ctx, store, quiet, lease.Options{}); err == nil {
			t.Error("got the lease, want an error")
		}
		if h := holder(t, store); !h.RenewedAt.Equal(future) {
			t.Errorf("got %+v, want the lease as it was", h)
		}
	})
}

// keep runs f while a lease is renewed, and checks that it was not lost when f returns.
func keep(t *testing.T, store blob.Store, log *slog.Logger, ttl time.Duration, f func(l *lease.Lease)) {
	t.Helper()
	l, err := lease.Acquire(t.Context(), store, log, lease.Options{TTL: ttl})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, l) }()
	f(l)
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("got %v, want the lease kept", err)
	}
}

// TestLeaseThatCannotBeReadIsNotLost checks that a conflict which cannot be looked into, as after a lost answer, ends
// nothing: the holder may well be this controller.
func TestLeaseThatCannotBeReadIsNotLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memblob.New()
		keep(t, store, quiet, 0, func(l *lease.Lease) {
			store.NextLost(memblob.OpPut, errAway)
			time.Sleep(renewal + time.Second)
			store.NextError(memblob.OpGet, errAway)
			time.Sleep(2 * renewal)
			if err := l.Check(time.Now()); err != nil {
				t.Errorf("got %v, want that it leads", err)
			}
		})
	})
}

// TestLostAnswerIsMadeUpForAtOnce checks that the first renewal after a lost answer counts.
func TestLostAnswerIsMadeUpForAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memblob.New()
		keep(t, store, quiet, 0, func(*lease.Lease) {
			store.NextLost(memblob.OpPut, errAway)
			time.Sleep(2*renewal + time.Second)
			if age := time.Since(holder(t, store).RenewedAt); age > renewal {
				t.Errorf("got a lease of age %s, want it renewed a second ago", age)
			}
		})
	})
}

// TestRepeatedWritesCountAsRenewals checks that a store's client which sends each write twice makes no renewal fail.
func TestRepeatedWritesCountAsRenewals(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, log := &countedStore{Store: memblob.New()}, &bytes.Buffer{}
		keep(t, far{store, 0, 2}, slog.New(slog.NewTextHandler(log, nil)), 3*time.Minute, func(*lease.Lease) {
			before := store.puts.Load()
			time.Sleep(time.Hour + time.Second)
			if got := store.puts.Load() - before; got > 4*60 {
				t.Errorf("got %d writes in an hour, want 60 times at most two that are sent twice", got)
			}
		})
		if strings.Contains(log.String(), "could not be renewed") {
			t.Errorf("got log %q, want no failure", log)
		}
	})
}

// TestAnOutageIsLoggedOnce checks that people are told of an outage when it begins and when it ends.
func TestAnOutageIsLoggedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, log := memblob.New(), &bytes.Buffer{}
		keep(t, store, slog.New(slog.NewTextHandler(log, nil)), 0, func(*lease.Lease) {
			for range 2 {
				store.FailAfter(memblob.OpPut, 0, errAway)
				time.Sleep(time.Minute)
				store.Heal()
				time.Sleep(time.Minute)
			}
		})
		for line, want := range map[string]int{
			"could not be renewed": 2, "renewed again": 2, "the store is away": 2, "given back": 0,
		} {
			if got := strings.Count(log.String(), line); got != want {
				t.Errorf("%s: got %d lines, want %d:\n%s", line, got, want, log)
			}
		}
	})
}
