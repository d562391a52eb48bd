package lease_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"cloudmaster/internal/blob"
	"cloudmaster/internal/blob/memblob"
	"cloudmaster/services/controller/internal/lease"
)

// far is a store whose answers come late, after each write was sent so often.
type far struct {
	blob.Store

	late  time.Duration
	times int
}

// Put implements blob.Store.
func (s far) Put(ctx context.Context, key string, data []byte, last blob.Version) (v blob.Version, err error) {
	for range s.times {
		v, err = s.Store.Put(ctx, key, data, last)
	}
	time.Sleep(s.late)
	return v, err
}

// TestNoTwoLead checks that a lease has run out for its holder before another controller can take it, whose clock is a
// second ahead.
func TestNoTwoLead(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]far{
		"answers at once":                  {times: 1},
		"answers late":                     {times: 1, late: 4 * time.Second},
		"answers late to a repeated write": {times: 2, late: 4 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store := memblob.New()
				s.Store = store
				l, err := lease.Acquire(t.Context(), s, quiet, lease.Options{Host: "here", PID: 1})
				if err != nil {
					t.Fatal(err)
				}
				wantOutlived(t, store, l)
			})
		})
	}
}

// wantOutlived waits until another controller, whose clock is a second ahead, gets a lease that is not renewed, and
// checks that its holder has ceased to lead before.
func wantOutlived(t *testing.T, store *memblob.Store, l *lease.Lease) {
	t.Helper()
	ahead := func() time.Time { return time.Now().Add(time.Second) }
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		leads := l.Check(time.Now()) == nil
		_, err := lease.Acquire(t.Context(), store, quiet, lease.Options{Host: "elsewhere", PID: 2, Now: ahead})
		switch {
		case err == nil && leads:
			t.Error("two controllers lead")
			return
		case err == nil:
			return
		case !errors.Is(err, lease.ErrHeld):
			t.Fatal(err)
		}
	}
	t.Error("nobody gets the lease after the first")
}

// TestLostAnswersRenewNothing checks that a lease which is found written counts from when it was written, and not from
// when it was found.
func TestLostAnswersRenewNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &deafening{Store: memblob.New()}
		l, err := lease.Acquire(t.Context(), s, quiet, lease.Options{Host: "here", PID: 1})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- run(ctx, l) }()
		time.Sleep(renewal + time.Second) // it was renewed once
		s.deaf.Store(true)
		time.Sleep(2 * lease.DefaultTTL)
		if err := l.Check(time.Now()); !errors.Is(err, lease.ErrExpired) {
			t.Errorf("after %s in which nothing was written: got %v, want %v", 2*lease.DefaultTTL, err,
				lease.ErrExpired)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// deafening is a store that, while it is deaf, writes nothing and says that somebody else has written.
type deafening struct {
	*memblob.Store

	deaf atomic.Bool
}

// Put implements blob.Store.
func (s *deafening) Put(ctx context.Context, key string, data []byte, last blob.Version) (blob.Version, error) {
	if s.deaf.Load() {
		return "", blob.ErrConflict
	}
	return s.Store.Put(ctx, key, data, last)
}

// TestBothClocksCount checks that a lease has run out when it has by either clock: the monotonic one stands still while
// the machine sleeps, and the wall clock may be set back.
func TestBothClocksCount(t *testing.T) {
	t.Parallel()
	start := time.Now()
	l, err := lease.Acquire(t.Context(), memblob.New(), quiet, lease.Options{Now: func() time.Time { return start }})
	if err != nil {
		t.Fatal(err)
	}
	const long = 20 * time.Second
	for name, now := range map[string]time.Time{
		"after a sleep": onTheWall(start, long), "after the clock was set back": onTheWall(start.Add(long), -long),
	} {
		if err := l.Check(now); !errors.Is(err, lease.ErrExpired) {
			t.Errorf("%s: got %v, want %v", name, err, lease.ErrExpired)
		}
	}
	if err := l.Check(start.Add(time.Second)); err != nil {
		t.Errorf("after a second: got %v, want that it leads", err)
	}
}

// onTheWall returns a time of now whose wall clock was set by d, in whole seconds, while its monotonic clock was not.
// Package time has no way to make one: it has the seconds of the wall clock above the 30 bits of the nanoseconds.
func onTheWall(now time.Time, d time.Duration) time.Time {
	wall := (*uint64)(unsafe.Pointer(&now))
	*wall = uint64(int64(*wall) + int64(d/time.Second)<<30)
	return now
}
