package inventory_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/pool"
	"cloudmaster/services/controller/internal/driver"
	"cloudmaster/services/controller/internal/inventory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const interval = 10 * time.Second

var errCloud = errors.New("cloud is away")

// fakeCloud lists the instances that the test gives it.
type fakeCloud struct {
	mu    sync.Mutex
	list  []cloud.Instance
	err   error
	hang  bool
	late  time.Duration // before answers
	calls int
}

func (f *fakeCloud) answersLate(by time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.late = by
}

func (f *fakeCloud) set(err error, list ...cloud.Instance) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list, f.err = list, err
}

func (f *fakeCloud) hangs() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hang = true
}

func (f *fakeCloud) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

// List implements the inventory's lister.
func (f *fakeCloud) List(ctx context.Context) ([]cloud.Instance, error) {
	f.mu.Lock()
	f.calls++
	hang, list, err, late := f.hang, f.list, f.err, f.late
	f.mu.Unlock()
	time.Sleep(late)
	if hang {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	return list, err
}

// bench is an inventory that runs on a fake cloud.
type bench struct {
	*inventory.Inventory

	t     *testing.T
	cloud *fakeCloud
	log   *bytes.Buffer
	woken int
	start time.Time
}

// run runs f and an inventory in a synctest bubble.
func run(t *testing.T, f func(b *bench)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &bench{t: t, cloud: &fakeCloud{}, log: &bytes.Buffer{}, start: time.Now()}
		b.Inventory = inventory.New("mem", inventory.Options{
			Interval: interval, Wake: driver.NewWake(), Now: time.Now, Log: slog.New(slog.NewTextHandler(b.log, nil)),
		})
		b.Subscribe(func() { b.woken++ })
		d := driver.New(t.Context())
		defer d.Start(b.Task(b.cloud))()
		f(b)
	})
}

// pass lets simulated time pass.
func (b *bench) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (b *bench) want(what string, got, want int) {
	b.t.Helper()
	if got != want {
		b.t.Errorf("%s at %s: got %d, want %d", what, time.Since(b.start), got, want)
	}
}

func instance(id pool.InstanceID, name string) cloud.Instance {
	return cloud.Instance{ID: id, Phase: cloud.Running, Tags: map[string]string{cloud.TagPool: name}}
}

func TestListsByPool(t *testing.T) {
	run(t, func(b *bench) {
		if l := b.Latest(); !l.At.IsZero() || l.Instances != nil || l.Err != nil {
			t.Errorf("before the first list: got %+v", l)
		}
		b.cloud.set(nil, instance("i-2", "fib"), instance("i-1", "fib"), instance("i-3", "primes"), instance("i-4", ""))
		b.pass(0)
		l := b.Latest()
		if l.At != b.start || l.Err != nil {
			t.Errorf("got a list of %s with error %v, want one of %s", l.At, l.Err, b.start)
		}
		fib := l.Instances["fib"]
		if len(fib) != 2 || fib[0].ID != "i-1" || fib[1].ID != "i-2" || len(l.Instances["primes"]) != 1 {
			t.Errorf("got %+v", l.Instances)
		}
	})
}

func TestWakesOnChangesOnly(t *testing.T) {
	run(t, func(b *bench) {
		a, z := instance("i-1", "fib"), instance("i-2", "fib")
		b.pass(time.Second)
		b.want("wakes by the first list, which is empty", b.woken, 1)
		for _, step := range []struct {
			what string
			err  error
			list []cloud.Instance
			wake bool
		}{
			{"still empty", nil, nil, false},
			{"new instances", nil, []cloud.Instance{a, z}, true},
			{"another order", nil, []cloud.Instance{z, a}, false},
			{"failing", errCloud, nil, true},
			{"still failing", errCloud, nil, false},
			{"again", nil, []cloud.Instance{a, z}, true},
			{"one gone", nil, []cloud.Instance{z}, true},
			{"another phase", nil, []cloud.Instance{{ID: "i-2", Phase: cloud.Terminating, Tags: z.Tags}}, true},
		} {
			before := b.woken
			b.cloud.set(step.err, step.list...)
			b.pass(interval)
			if got := b.woken > before; got != step.wake {
				t.Errorf("%s: got woken %v, want %v", step.what, got, step.wake)
			}
		}
	})
}

func TestOneListPerInterval(t *testing.T) {
	run(t, func(b *bench) {
		b.pass(time.Hour + time.Second)
		b.want("lists", b.cloud.count(), 361)
	})
}

func TestRefresh(t *testing.T) {
	run(t, func(b *bench) {
		b.pass(time.Second)
		b.want("lists", b.cloud.count(), 1)
		b.Refresh()
		b.pass(0)
		b.want("lists after a refresh", b.cloud.count(), 2)
		for range 100 {
			b.Refresh()
			b.pass(10 * time.Millisecond)
		}
		b.want("lists after a second of refreshes", b.cloud.count(), 7)
		b.pass(interval)
		b.pass(interval)
		b.want("lists two intervals later", b.cloud.count(), 9)
	})
}

func TestFailuresKeepTheLastList(t *testing.T) {
	run(t, func(b *bench) {
		b.cloud.set(nil, instance("i-1", "fib"))
		b.pass(time.Second)
		at := b.Latest().At
		b.cloud.set(errCloud)
		b.pass(time.Minute)
		l := b.Latest()
		if l.At != at || len(l.Instances["fib"]) != 1 || !errors.Is(l.Err, errCloud) {
			t.Errorf("got %+v, want the list of %s and the error", l, at)
		}
		b.cloud.set(nil)
		b.pass(interval)
		if l := b.Latest(); l.Err != nil || !l.At.After(at) || len(l.Instances) != 0 {
			t.Errorf("after the fault: got %+v, want a new list", l)
		}
		for text, want := range map[string]int{"cannot be listed": 1, "listed again": 1} {
			b.want("lines with "+text, strings.Count(b.log.String(), text), want)
		}
	})
}

func TestRetriesSoonerThanTheInterval(t *testing.T) {
	run(t, func(b *bench) {
		b.cloud.set(errCloud)
		b.pass(0)
		for _, step := range []struct {
			after time.Duration
			calls int
		}{
			{time.Second, 2},
			{2 * time.Second, 3},
			{4 * time.Second, 4},
			{8 * time.Second, 5},
			{interval, 6},
			{interval, 7},
		} {
			b.pass(step.after)
			b.want("lists", b.cloud.count(), step.calls)
		}
	})
}

func TestAListThatHangsIsAFailure(t *testing.T) {
	run(t, func(b *bench) {
		b.cloud.hangs()
		b.pass(29 * time.Second)
		if err := b.Latest().Err; err != nil {
			t.Errorf("after 29 s: got %v", err)
		}
		b.pass(2 * time.Second)
		if err := b.Latest().Err; err == nil || !strings.Contains(err.Error(), "no answer within 30s") {
			t.Errorf("after 31 s: got %v, want no answer within 30s", err)
		}
	})
}

// TestAListIsOfWhenItWasAskedFor, because what happened since then may be missing in it.
func TestAListIsOfWhenItWasAskedFor(t *testing.T) {
	run(t, func(b *bench) {
		b.pass(interval - time.Second)
		b.cloud.answersLate(5 * time.Second)
		b.pass(7 * time.Second)
		if got, want := b.Latest().At, b.start.Add(interval); !got.Equal(want) {
			t.Errorf("got a list of %s, want one of %s", got, want)
		}
	})
}

// TestSubscriptionsEndOneByOne: who has cancelled is not woken, and everybody else is.
func TestSubscriptionsEndOneByOne(t *testing.T) {
	run(t, func(b *bench) {
		other := 0
		cancel := b.Subscribe(func() { other++ })
		b.pass(time.Second)
		cancel()
		cancel()
		b.cloud.set(nil, instance("i-1", "fib"))
		b.pass(interval)
		b.want("wakes of the one that stayed", b.woken, 2)
		b.want("wakes of the one that has cancelled", other, 1)
	})
}

// TestEachOutageIsRetriedSoon, not only the first.
func TestEachOutageIsRetriedSoon(t *testing.T) {
	run(t, func(b *bench) {
		for range 2 {
			b.cloud.set(errCloud)
			b.pass(time.Minute)
			b.cloud.set(nil)
			b.pass(time.Minute)
		}
		b.cloud.set(errCloud)
		b.pass(interval)
		before := b.cloud.count()
		b.pass(3 * time.Second)
		if got := b.cloud.count() - before; got < 1 {
			t.Errorf("got %d lists within 3 s of a failure, want one at least", got)
		}
		for line, want := range map[string]int{"cannot be listed": 3, "listed again": 2, "error=": 3} {
			b.want("lines with "+line, strings.Count(b.log.String(), line), want)
		}
	})
}
