package lease_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"cloudmaster/internal/blob"
	"cloudmaster/internal/blob/memblob"
	"cloudmaster/services/controller/internal/driver"
	"cloudmaster/services/controller/internal/lease"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// renewal is how often a lease is renewed by default.
const renewal = lease.DefaultTTL / 3

var quiet = slog.New(slog.DiscardHandler)

// run keeps a lease until ctx ends or it is lost.
func run(ctx context.Context, l *lease.Lease) error {
	d := driver.New(ctx)
	d.Start(l.Task()) //nolint:contextcheck // a task runs in its driver's context
	return d.Wait()
}

// held writes a lease of another controller into a store.
func held(t *testing.T, h lease.Holder) *memblob.Store {
	t.Helper()
	store := memblob.New()
	data, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Put(t.Context(), lease.Key, data, blob.Any); err != nil {
		t.Fatal(err)
	}
	return store
}

func holder(t *testing.T, store *memblob.Store) lease.Holder {
	t.Helper()
	o, err := store.Get(t.Context(), lease.Key, "")
	if err != nil {
		t.Fatal(err)
	}
	var h lease.Holder
	if err := json.Unmarshal(o.Data, &h); err != nil {
		t.Fatal(err)
	}
	return h
}

// deadPID returns the id of a process that this test has started and that has ended.
func deadPID(t *testing.T) int {
	t.Helper()
	cmd := exec.Command("/bin/true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}

// zombiePID returns the id of a process that this test has started and that has ended, but whose exit status
// nobody has collected.
func zombiePID(t *testing.T) int {
	t.Helper()
	cmd := exec.Command("/bin/cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(out); err != nil { // its output is closed when it ends
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
		if err == nil && strings.Contains(string(stat), ") Z ") {
			t.Cleanup(func() { _ = cmd.Wait() })
			return cmd.Process.Pid
		}
	}
	t.Fatal("the process does not end")
	return 0
}

func TestAcquire(t *testing.T) {
	t.Parallel()
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	ours := memblob.New()
	if _, err := lease.Acquire(t.Context(), ours, quiet, lease.Options{}); err != nil {
		t.Fatal(err)
	}
	here := holder(t, ours).Namespace // identifies this boot of this machine
	_, pidNamespace, found := strings.Cut(here, " ")
	if !found {
		t.Fatalf("got namespace %q, want that of the boot and that of process ids", here)
	}
	now := time.Now()
	cases := map[string]struct {
		holder lease.Holder
		free   bool
	}{
		"another host": {lease.Holder{Host: "elsewhere", PID: 7, RenewedAt: now.Add(-time.Second)}, false},
		"another host, run out": {
			lease.Holder{Host: "elsewhere", PID: 7, RenewedAt: now.Add(-lease.DefaultTTL - time.Second)}, true,
		},
		"longer than ours": {
			lease.Holder{Host: "elsewhere", PID: 7, RenewedAt: now.Add(-2 * time.Minute), TTLSeconds: 180}, false,
		},
		"longer than ours, run out": {
			lease.Holder{Host: "elsewhere", PID: 7, RenewedAt: now.Add(-4 * time.Minute), TTLSeconds: 180}, true,
		},
		"of a time that is absurd": {
			lease.Holder{Host: "elsewhere", PID: 7, RenewedAt: now.Add(-time.Minute), TTLSeconds: 1e300}, true,
		},
		"given back":            {lease.Holder{Host: "elsewhere", PID: 7}, true},
		"this host, alive":      {lease.Holder{Host: host, PID: os.Getppid(), Namespace: here, RenewedAt: now}, false},
		"this host, dead":       {lease.Holder{Host: host, PID: deadPID(t), Namespace: here, RenewedAt: now}, true},
		"this host, a zombie":   {lease.Holder{Host: host, PID: zombiePID(t), Namespace: here, RenewedAt: now}, true},
		"this host, our own id": {lease.Holder{Host: host, PID: os.Getpid(), Namespace: here, RenewedAt: now}, true},
		"another machine of our name": {
			lease.Holder{Host: host, PID: deadPID(t), Namespace: "another-boot " + pidNamespace, RenewedAt: now}, false,
		},
		"another container, dead?": {
			lease.Holder{Host: host, PID: deadPID(t), Namespace: "pid:[1]", RenewedAt: now}, false,
		},
		"another container, our id": {lease.Holder{Host: host, PID: os.Getpid(), RenewedAt: now}, false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := held(t, c.holder)
			looked, err := acquire(t, store, now)
			if errors.Is(looked, lease.ErrHeld) == c.free {
				t.Errorf("look at it: got %v, want free: %v", looked, c.free)
			}
			if got := err == nil; got != c.free {
				t.Fatalf("got %v, want free: %v", err, c.free)
			}
			if c.free {
				if h := holder(t, store); h.PID != os.Getpid() || h.Host != host {
					t.Errorf("got holder %+v, want us", h)
				}
				return
			}
			if !errors.Is(err, lease.ErrHeld) || !strings.Contains(err.Error(), c.holder.Host) {
				t.Errorf("got %v, want ErrHeld that names the host", err)
			}
		})
	}
}

// acquire looks at the lease and tries to take it, in simulated time that begins now: one that looks as if it had run
// out is watched.
func acquire(t *testing.T, store *memblob.Store, now time.Time) (looked, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		clock := func() time.Time { return now.Add(time.Since(start)) }
		looked = lease.Free(t.Context(), store, clock)
		now, start = clock(), time.Now()
		_, err = lease.Acquire(t.Context(), store, quiet, lease.Options{Now: clock})
	})
	return looked, err
}

func TestAcquireFirstAndDamaged(t *testing.T) {
	t.Parallel()
	store := memblob.New()
	if _, err := lease.Acquire(t.Context(), store, quiet, lease.Options{}); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Put(t.Context(), lease.Key, []byte("{"), blob.Any); err != nil {
		t.Fatal(err)
	}
	if _, err := lease.Acquire(t.Context(), store, quiet, lease.Options{}); err != nil {
		t.Errorf("damaged lease: %v", err)
	}
}

func TestRenewAndRelease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memblob.New()
		l, err := lease.Acquire(t.Context(), store, quiet, lease.Options{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- run(ctx, l) }()
		time.Sleep(10 * lease.DefaultTTL)
		if age := time.Since(holder(t, store).RenewedAt); age > renewal {
			t.Errorf("got a lease of age %s, want it renewed every %s", age, renewal)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if h := holder(t, store); !h.RenewedAt.IsZero() {
			t.Errorf("got %+v, want it given back", h)
		}
	})
}

func TestLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memblob.New()
		l, err := lease.Acquire(t.Context(), store, quiet, lease.Options{})
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- run(t.Context(), l) }()
		time.Sleep(time.Second)
		thief, err := json.Marshal(lease.Holder{Host: "thief", PID: 1, RenewedAt: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := store.Put(t.Context(), lease.Key, thief, blob.Any); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; !errors.Is(err, lease.ErrHeld) || !strings.Contains(err.Error(), "thief") {
			t.Errorf("got %v, want ErrHeld that names the thief", err)
		}
	})
}

// TestStoreAway checks that a controller keeps the lease when an answer of the store is lost, or when the
// store cannot be reached for a while.
func TestStoreAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memblob.New()
		l, err := lease.Acquire(t.Context(), store, quiet, lease.Options{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- run(ctx, l) }()
		store.NextLost(memblob.OpPut, errors.New("answer lost"))
		time.Sleep(3*renewal + time.Second) // not at the moment of a renewal
		store.FailAfter(memblob.OpPut, 0, errors.New("away"))
		time.Sleep(renewal)
		if err := l.Check(time.Now()); err != nil {
			t.Errorf("after one failure: got %v, want that we rule", err)
		}
		time.Sleep(lease.DefaultTTL - renewal)
		if err := l.Check(time.Now()); !errors.Is(err, lease.ErrExpired) {
			t.Errorf("when the lease is over: got %v, want %v", err, lease.ErrExpired)
		}
		time.Sleep(10 * lease.DefaultTTL)
		if err := store.Delete(t.Context(), lease.Key); err != nil {
			t.Error(err)
		}
		store.Heal()
		time.Sleep(2 * renewal)
		if err := l.Check(time.Now()); err != nil {
			t.Errorf("after the store came back: got %v, want that we rule", err)
		}
		if age := time.Since(holder(t, store).RenewedAt); age > renewal {
			t.Errorf("got a lease of age %s after the store came back", age)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// twice sends each write a second time, as the AWS SDK does when the answer is lost.
type twice struct{ *memblob.Store }

func (s twice) Put(ctx context.Context, key string, data []byte, last blob.Version) (blob.Version, error) {
	if _, err := s.Store.Put(ctx, key, data, last); err != nil {
		return "", err
	}
	return s.Store.Put(ctx, key, data, last)
}

func TestAcquireWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	s := twice{memblob.New()}
	held, err := lease.Acquire(t.Context(), s, quiet, lease.Options{})
	if err != nil || held == nil || held.Check(time.Now()) != nil {
		t.Fatalf("got %v, want the lease, which is in the store, in force", err)
	}
	s.FailAfter(memblob.OpGet, 1, errors.New("away")) // the first read finds a lease, the second is after the conflict
	if held, err = lease.Acquire(t.Context(), s, quiet, lease.Options{}); err == nil || held != nil {
		t.Errorf("got a lease and %v, want an error while nobody knows whose it is", err)
	}
}

// TestRenewalsAreFew checks that a lease of 3 minutes is renewed once a minute, and sooner after a failure.
func TestRenewalsAreFew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &countedStore{Store: memblob.New()}
		l, err := lease.Acquire(t.Context(), store, quiet, lease.Options{TTL: 3 * time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		if h := holder(t, store.Store); h.TTLSeconds != 180 {
			t.Errorf("got %+v, want it to hold 180 seconds", h)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- run(ctx, l) }()
		before := store.puts.Load()
		time.Sleep(time.Hour + time.Second)
		if got := store.puts.Load() - before; got != 60 {
			t.Errorf("got %d renewals in an hour, want 60", got)
		}
		store.FailAfter(memblob.OpPut, 0, errors.New("away"))
		time.Sleep(time.Minute + time.Second)
		store.Heal()
		time.Sleep(10 * time.Second)
		if age := time.Since(holder(t, store.Store).RenewedAt); age > 10*time.Second {
			t.Errorf("got a lease of age %s after a failure, want it renewed within seconds", age)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestAcquireRefusesAbsurdTimes(t *testing.T) {
	t.Parallel()
	for _, ttl := range []time.Duration{-1, 2 * time.Hour} {
		if _, err := lease.Acquire(t.Context(), memblob.New(), quiet, lease.Options{TTL: ttl}); err == nil ||
			!strings.Contains(err.Error(), ttl.String()) {
			t.Errorf("%s: got %v, want it refused", ttl, err)
		}
	}
}

// countedStore counts what is written.
type countedStore struct {
	*memblob.Store
	puts atomic.Int64
}

// Put implements blob.Store.
func (s *countedStore) Put(ctx context.Context, key string, data []byte, last blob.Version) (blob.Version, error) {
	s.puts.Add(1)
	return s.Store.Put(ctx, key, data, last)
}

// TestLeaseFromTheFutureHoldsNoLonger than any other: its holder, whose clock was ahead, has died on another host.
func TestLeaseFromTheFutureHoldsNoLonger(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		day := time.Now().Add(24 * time.Hour)
		store := held(t, lease.Holder{Host: "elsewhere", PID: 1, RenewedAt: day, TTLSeconds: 15})
		start := time.Now()
		for time.Since(start) < time.Minute {
			if l, err := lease.Acquire(t.Context(), store, quiet, lease.Options{}); err == nil {
				if h := holder(t, store); l.Check(time.Now()) != nil || !h.Since.Equal(time.Now()) {
					t.Errorf("got %+v, want it to hold from now on", h)
				}
				return
			}
			time.Sleep(time.Second)
		}
		t.Errorf("got no lease within %s, want it when that of the dead one has run out", time.Since(start))
	})
}

// TestLeaseOfAnotherClockIsHonouredWhileItIsRenewed: its holder lives, whatever its clock shows.
func TestLeaseOfAnotherClockIsHonouredWhileItIsRenewed(t *testing.T) {
	t.Parallel()
	for name, off := range map[string]time.Duration{
		"ahead": time.Hour, "behind": -time.Hour,
		"a little behind": -time.Minute,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				other := lease.Holder{Host: "elsewhere", PID: 1, RenewedAt: time.Now().Add(off)}
				store := held(t, other)
				time.AfterFunc(renewal, func() {
					other.RenewedAt = other.RenewedAt.Add(renewal)
					if doc, err := json.Marshal(other); err == nil {
						_, _ = store.Put(t.Context(), lease.Key, doc, blob.Any)
					}
				})
				_, err := lease.Acquire(t.Context(), store, quiet, lease.Options{})
				if !errors.Is(err, lease.ErrHeld) || !strings.Contains(err.Error(), "process 1 on elsewhere") ||
					!strings.Contains(err.Error(), "Stop it first") {
					t.Errorf("got %v, want %v that names the holder and what helps", err, lease.ErrHeld)
				}
			})
		})
	}
}

// TestLeaseThatIsGivenBackWhileItIsWatched is free at once.
func TestLeaseThatIsGivenBackWhileItIsWatched(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := held(t, lease.Holder{Host: "elsewhere", PID: 1, RenewedAt: time.Now().Add(-time.Hour)})
		time.AfterFunc(renewal, func() {
			_, _ = store.Put(t.Context(), lease.Key, []byte(`{"host":"elsewhere","pid":1}`), blob.Any)
		})
		if _, err := lease.Acquire(t.Context(), store, quiet, lease.Options{}); err != nil {
			t.Errorf("got %v, want the lease", err)
		}
	})
}
