package refresh_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"cloudmaster/internal/activeset"
	"cloudmaster/internal/blob"
	"cloudmaster/services/allocator/internal/allocate"
	"cloudmaster/services/allocator/internal/refresh"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeStore holds one object. It can fail, or hang until the caller gives up.
type fakeStore struct {
	mu     sync.Mutex
	object blob.Object // guarded by mu; no version: not found
	err    error       // guarded by mu
	hang   bool        // guarded by mu
	reads  []time.Time // guarded by mu
	writes int         // guarded by mu
}

func (s *fakeStore) Get(ctx context.Context, key string, have blob.Version) (blob.Object, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads = append(s.reads, time.Now())
	switch {
	case key != "active-set/fib-instances":
		return blob.Object{}, fmt.Errorf("%w: %s", blob.ErrInvalidKey, key)
	case s.hang:
		<-ctx.Done()
		return blob.Object{}, ctx.Err()
	case s.err != nil:
		return blob.Object{}, s.err
	case s.object.Version == "":
		return blob.Object{}, blob.ErrNotFound
	case s.object.Version == have:
		return blob.Object{}, blob.ErrNotModified
	}
	return s.object, nil
}

func (s *fakeStore) put(doc string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	s.err, s.hang = nil, false
	s.object = blob.Object{Data: []byte(doc), Version: blob.Version(fmt.Sprint("v", s.writes))}
}

func (s *fakeStore) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *fakeStore) answer() { s.fail(nil) }

func (s *fakeStore) remove() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err, s.object = nil, blob.Object{}
}

func (s *fakeStore) readTimes() []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]time.Time(nil), s.reads...)
}

// doc is a set with one instance, written at a time that grows with its version.
func doc(version int) string {
	data, err := activeset.Encode(activeset.Set{
		Pool: "fib", Version: version, WrittenAt: time.Unix(int64(version), 0),
		Instances: []activeset.Instance{{ID: "a", Address: "a:1"}},
	})
	if err != nil {
		panic(err) // the document is a constant
	}
	return string(data)
}

// rig is a refresher that runs in a bubble of fake time.
type rig struct {
	store fakeStore
	pool  *allocate.Pool
	mu    sync.Mutex
	log   bytes.Buffer            // guarded by mu
	seen  map[refresh.Outcome]int // guarded by mu
}

// Write takes the log.
func (r *rig) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.Write(p)
}

func (r *rig) logged(text string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Count(r.log.String(), text)
}

func (r *rig) outcomes(out refresh.Outcome) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen[out]
}

// start runs a refresher with an interval of one second until the test ends.
func start(t *testing.T, prepare func(r *rig)) *rig {
	t.Helper()
	p, err := allocate.New("fib", allocate.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{pool: p, seen: map[refresh.Outcome]int{}}
	prepare(r)
	ref, err := refresh.New(&r.store, p, refresh.Options{
		Interval: time.Second, Timeout: 3 * time.Second, Log: slog.New(slog.NewTextHandler(r, nil)),
		Observe: func(out refresh.Outcome) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.seen[out]++
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := ref.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	synctest.Wait()
	return r
}

// pass lets time go by: long enough for at least one read.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (r *rig) wantVersion(t *testing.T, want int) {
	t.Helper()
	if got := r.pool.Summary(time.Now()); got.Version != want {
		t.Errorf("version in use: got %d, want %d", got.Version, want)
	}
}

func (r *rig) wantAllocation(t *testing.T, want error) {
	t.Helper()
	if _, err := r.pool.Allocate(time.Now()); !errors.Is(err, want) {
		t.Errorf("allocate: got %v, want %v", err, want)
	}
}

func TestFollowsTheStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, func(r *rig) { r.store.put(doc(1)) })
		r.wantVersion(t, 1) // read at once, not after an interval
		r.store.put(doc(2))
		pass(1200 * time.Millisecond)
		r.wantVersion(t, 2)
		pass(time.Minute)
		if got := r.outcomes(refresh.Updated); got != 2 {
			t.Errorf("got %d updates, want 2: an unchanged document is not read again", got)
		}
		if got := r.pool.Summary(time.Now()).Age; got > 1200*time.Millisecond {
			t.Errorf("unchanged for a minute: got age %v, want it confirmed each interval", got)
		}
	})
}

func TestTheIntervalIsJittered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, func(r *rig) { r.store.put(doc(1)) })
		pass(time.Minute)
		reads := r.store.readTimes()
		gaps := map[time.Duration]bool{}
		for i := range reads[1:] {
			gap := reads[i+1].Sub(reads[i])
			gaps[gap] = true
			if gap < 800*time.Millisecond || gap > 1200*time.Millisecond {
				t.Errorf("got a gap of %v, want 0.8s to 1.2s", gap)
			}
		}
		if len(reads) < 50 || len(gaps) < len(reads)/2 {
			t.Errorf("got %d reads in a minute with %d different gaps", len(reads), len(gaps))
		}
	})
}

func TestStoreAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, func(r *rig) { r.store.put(doc(1)) })
		r.store.fail(errors.New("no route to host"))
		pass(10 * time.Minute)
		r.wantVersion(t, 1)
		r.wantAllocation(t, nil)
		if got := r.pool.Summary(time.Now()).Age; got < 9*time.Minute {
			t.Errorf("got age %v, want about 10m", got)
		}
		if got := r.logged("cannot be read"); got != 1 {
			t.Errorf("got %d log lines about the failure, want 1", got)
		}
		if got := r.outcomes(refresh.Failed); got > 200 {
			t.Errorf("got %d attempts in 10 minutes, want them to back off", got)
		}
		r.store.answer()
		pass(5 * time.Second) // four intervals and the jitter
		if got := r.pool.Summary(time.Now()).Age; got > 1200*time.Millisecond {
			t.Errorf("got age %v, want it confirmed", got)
		}
		if got := r.logged("can be read again"); got != 1 {
			t.Errorf("got %d log lines about the recovery, want 1", got)
		}
	})
}

func TestStoreAwayFromTheStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, func(r *rig) { r.store.fail(blob.ErrThrottled) })
		pass(time.Minute)
		r.wantAllocation(t, allocate.ErrUnread) // unknown is not empty
		r.store.put(doc(1))
		pass(10 * time.Second)
		r.wantAllocation(t, nil)
	})
}

func TestAHangingStoreIsAFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, func(r *rig) { r.store.hang = true })
		pass(5 * time.Second)
		if got := r.outcomes(refresh.Failed); got < 1 {
			t.Errorf("got %d failures after 5s with a timeout of 3s, want one at least", got)
		}
	})
}

func TestMissingDocument(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, func(*rig) {})
		pass(time.Minute)
		r.wantAllocation(t, allocate.ErrNoServers)
		r.store.put(doc(5))
		pass(1200 * time.Millisecond)
		r.wantAllocation(t, nil)
		r.store.remove()
		pass(1200 * time.Millisecond)
		r.wantAllocation(t, allocate.ErrNoServers)
		r.store.put(doc(1)) // a controller that has begun anew
		pass(1200 * time.Millisecond)
		r.wantVersion(t, 1)
		if got := r.logged("there is no active set"); got != 2 {
			t.Errorf("got %d log lines, want one each time it went missing", got)
		}
	})
}

func TestUnusableDocuments(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		doc  string
		out  refresh.Outcome
		line string
	}{
		"not JSON": {"garbage", refresh.Damaged, "active set is damaged"},
		"another pool": {
			`{"pool":"primes","version":9,"instances":[]}`, refresh.Damaged, "the document is of pool primes",
		},
		"older": {doc(2), refresh.Older, "older active set"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := start(t, func(r *rig) { r.store.put(doc(3)) })
				r.store.put(c.doc)
				pass(time.Minute)
				r.wantVersion(t, 3)
				r.wantAllocation(t, nil)
				if got := r.logged(c.line); got != 1 {
					t.Errorf("got %d log lines with %q, want 1:\n%s", got, c.line, r.log.String())
				}
				if r.outcomes(c.out) < 2 {
					t.Errorf("got outcomes %v, want every read counted as %s", r.seen, c.out)
				}
				if got := r.pool.Summary(time.Now()).Age; got < 58*time.Second {
					t.Errorf("got age %v: the document in use was confirmed, want it to age", got)
				}
				r.store.put(doc(4))
				pass(1200 * time.Millisecond)
				r.wantVersion(t, 4)
			})
		})
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	p, err := allocate.New("fib", allocate.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, opts := range []refresh.Options{{Interval: -1}, {Timeout: -1}} {
		if _, err := refresh.New(&fakeStore{}, p, opts); err == nil || !strings.Contains(err.Error(), "pool fib") {
			t.Errorf("%+v: got %v, want an error that names the pool", opts, err)
		}
	}
}
