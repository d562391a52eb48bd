package allocate_test

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cloudmaster/internal/activeset"
	"cloudmaster/internal/pool"
	"cloudmaster/services/allocator/internal/allocate"
)

// noon is when every test begins; instances have reported just before.
var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func at(after time.Duration) time.Time { return noon.Add(after) }

// newPool returns a pool whose unused instances are taken in the order of the set.
func newPool(t testing.TB, opts allocate.Options) *allocate.Pool {
	t.Helper()
	draws := uint64(0)
	opts.Rand = func() uint64 { draws++; return draws }
	p, err := allocate.New("fib", opts)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func instance(id string, load float64) activeset.Instance {
	return activeset.Instance{
		ID: pool.InstanceID(id), Address: id + ":20808", Load: load, ReportedAt: at(-time.Second),
	}
}

func set(version int, instances ...activeset.Instance) activeset.Set {
	return activeset.Set{Pool: "fib", Version: version, WrittenAt: noon, Instances: instances}
}

// take allocates n times and returns the ids in order, separated by spaces.
func take(t *testing.T, p *allocate.Pool, now time.Time, n int) string {
	t.Helper()
	ids := make([]string, n)
	for i := range ids {
		a, err := p.Allocate(now)
		if err != nil {
			t.Fatal(err)
		}
		ids[i] = string(a.ID)
	}
	return strings.Join(ids, " ")
}

func TestAllocate(t *testing.T) {
	t.Parallel()
	nowhere := activeset.Instance{ID: "a"}
	cases := map[string]struct {
		instances []activeset.Instance
		want      string
	}{
		"lowest load":       {[]activeset.Instance{instance("a", 0.5), instance("b", 0)}, "b b b b b"},
		"own clients count": {[]activeset.Instance{instance("a", 0.2), instance("b", 0)}, "b b a b a"},
		"equals take turns": {
			[]activeset.Instance{instance("a", 0), instance("b", 0), instance("c", 0)}, "a b c a b c",
		},
		"sums that round are equal": {[]activeset.Instance{instance("a", 0.3), instance("b", 0)}, "b b b a b a b"},
		"the last bit does not count": {
			[]activeset.Instance{instance("a", 0.30000000000000004), instance("b", 0.3)}, "a b a b",
		},
		"no address is skipped":       {[]activeset.Instance{nowhere, instance("b", 9)}, "b b"},
		"full ones are still offered": {[]activeset.Instance{instance("a", 1.5), instance("b", 1.2)}, "b b b"},
		"very large load":             {[]activeset.Instance{instance("a", math.MaxFloat64), instance("b", 7)}, "b"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPool(t, allocate.Options{})
			p.Update(set(1, c.instances...), noon)
			if got := take(t, p, noon, strings.Count(c.want, " ")+1); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestAllocateSaysWhatItGives(t *testing.T) {
	t.Parallel()
	p := newPool(t, allocate.Options{ClientLoad: 0.25})
	p.Update(set(1, instance("a", 0.5)), noon)
	take(t, p, noon, 1)
	got, err := p.Allocate(noon)
	if err != nil {
		t.Fatal(err)
	}
	want := allocate.Allocation{ID: "a", Address: "a:20808", Load: 0.75} // the load before this client
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// JSON has no infinity, so no sum may become one.
func TestAnAbsurdLoadStaysFinite(t *testing.T) {
	t.Parallel()
	p := newPool(t, allocate.Options{})
	p.Update(set(1, instance("a", math.MaxFloat64)), noon)
	got, err := p.Allocate(noon)
	if err != nil || got.Load != math.MaxFloat64 {
		t.Errorf("got %v, %v, want load %v", got, err, math.MaxFloat64)
	}
}

func TestNoServers(t *testing.T) {
	t.Parallel()
	p := newPool(t, allocate.Options{})
	steps := []struct {
		name string
		do   func()
		want error
	}{
		{"nothing read", func() {}, allocate.ErrUnread},
		{"empty set", func() { p.Update(set(1), noon) }, allocate.ErrNoServers},
		{"one without address", func() { p.Update(set(2, activeset.Instance{ID: "a"}), noon) }, allocate.ErrNoServers},
		{"one with address", func() { p.Update(set(3, instance("a", 0)), noon) }, nil},
		{"no document", func() { p.Clear(noon) }, allocate.ErrNoServers},
		{"a new document", func() { p.Update(set(1, instance("a", 0)), noon) }, nil},
	}
	for _, s := range steps {
		s.do()
		if _, err := p.Allocate(noon); !errors.Is(err, s.want) {
			t.Errorf("%s: got %v, want %v", s.name, err, s.want)
		}
	}
}

// own returns what the pool has assigned to each instance, as "a=1 b=0".
func own(p *allocate.Pool, now time.Time) string {
	var out []string
	for _, in := range p.View(now).Instances {
		out = append(out, fmt.Sprintf("%s=%d", in.ID, in.Own))
	}
	return strings.Join(out, " ")
}

func TestWhenAssignmentsStopCounting(t *testing.T) {
	t.Parallel()
	reported := func(id string, load float64, after time.Duration) activeset.Instance {
		in := instance(id, load)
		in.ReportedAt = at(after)
		return in
	}
	cases := map[string]struct {
		update *activeset.Set // at 12:00:05, after one client at 12:00:00 and one at 12:00:02
		look   time.Duration
		want   string
	}{
		"nothing new":         {nil, 5 * time.Second, "a=2"},
		"report before both":  {new(set(2, reported("a", 0, -time.Millisecond))), 5 * time.Second, "a=2"},
		"report at the first": {new(set(2, reported("a", 0, 0))), 5 * time.Second, "a=2"},
		"report between them": {new(set(2, reported("a", 0, time.Second))), 5 * time.Second, "a=1"},
		"report after both":   {new(set(2, reported("a", 0, 3*time.Second))), 5 * time.Second, "a=0"},
		"another instance joins": {
			new(set(2, instance("a", 0), instance("b", 0))), 5 * time.Second, "a=2 b=0",
		},
		"it leaves":                          {new(set(2, instance("b", 0))), 5 * time.Second, "b=0"},
		"report in a set that is old":        {new(set(0, reported("a", 0, 3*time.Second))), 5 * time.Second, "a=2"},
		"just before the first is forgotten": {nil, time.Minute - time.Millisecond, "a=2"},
		"the first is forgotten":             {nil, time.Minute, "a=1"},
		"both are forgotten":                 {nil, time.Minute + 2*time.Second, "a=0"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPool(t, allocate.Options{Forget: time.Minute})
			p.Update(set(1, instance("a", 0)), noon)
			take(t, p, noon, 1)
			take(t, p, at(2*time.Second), 1)
			if c.update != nil {
				p.Update(*c.update, at(5*time.Second))
			}
			if got := own(p, at(c.look)); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// Clients that vanished must not keep others away: the forgetting happens in
// Allocate itself, with nobody looking.
func TestForgottenClientsMakeRoom(t *testing.T) {
	t.Parallel()
	p := newPool(t, allocate.Options{Forget: time.Minute})
	p.Update(set(1, instance("a", 0), instance("b", 0.5)), noon)
	if got, want := take(t, p, noon, 7), "a a a a a b a"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := take(t, p, at(time.Minute), 3), "a a a"; got != want {
		t.Errorf("a minute later: got %q, want %q", got, want)
	}
}

func TestAnOlderReportChangesOnlyTheAddress(t *testing.T) {
	t.Parallel()
	p := newPool(t, allocate.Options{})
	p.Update(set(1, instance("a", 0.8)), noon)
	// A set of a controller that has not heard from it yet.
	p.Update(set(2, activeset.Instance{ID: "a", Address: "moved:1"}), noon)
	got, err := p.Allocate(noon)
	if err != nil {
		t.Fatal(err)
	}
	if want := (allocate.Allocation{ID: "a", Address: "moved:1", Load: 0.8}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// A clock that is ahead makes a report look newer than what follows it. Seen once
// more in a set that was written for another reason, it still confirms nothing.
func TestTheSameReportConfirmsNothing(t *testing.T) {
	t.Parallel()
	p := newPool(t, allocate.Options{})
	ahead := instance("a", 0)
	ahead.ReportedAt = at(time.Hour)
	p.Update(set(1, ahead), noon)
	take(t, p, noon, 3)
	p.Update(set(2, ahead, instance("b", 0)), noon)
	if got, want := own(p, noon), "a=3 b=0"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestVersions(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		version int
		written time.Duration
		want    bool
	}{
		"newer":                            {8, time.Second, true},
		"newer, clock went back":           {8, -time.Second, true},
		"the same again":                   {7, 0, true},
		"older":                            {6, -time.Second, false},
		"older, same time":                 {6, 0, false},
		"older number of a new controller": {1, time.Second, true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPool(t, allocate.Options{})
			p.Update(set(7, instance("a", 0)), noon)
			next := set(c.version)
			next.WrittenAt = at(c.written)
			if got := p.Update(next, noon); got != c.want {
				t.Errorf("taken: got %v, want %v", got, c.want)
			}
			want := 7
			if c.want {
				want = c.version
			}
			if got := p.Summary(noon).Version; got != want {
				t.Errorf("version in use: got %d, want %d", got, want)
			}
		})
	}
}

func TestView(t *testing.T) {
	t.Parallel()
	p := newPool(t, allocate.Options{})
	if got := p.View(noon); got.Read || got.Exists {
		t.Errorf("before the first read: got %+v, want nothing known", got)
	}
	p.Update(set(3, instance("b", 0.5), activeset.Instance{ID: "c"}, instance("a", 0)), noon)
	take(t, p, noon, 2)
	p.Confirm(at(4 * time.Second))
	want := allocate.View{
		Pool: "fib", Read: true, Exists: true, Version: 3, WrittenAt: noon, Age: 2 * time.Second, Listed: 3,
		Instances: []allocate.Assigned{
			{Instance: instance("a", 0), Own: 2, Estimate: 0.2},
			{Instance: instance("b", 0.5), Estimate: 0.5},
		},
	}
	if diff := cmp.Diff(want, p.View(at(6*time.Second))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	want.Instances = nil
	if diff := cmp.Diff(want, p.Summary(at(6*time.Second))); diff != "" {
		t.Errorf("summary (-want +got):\n%s", diff)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		opts allocate.Options
		want string
	}{
		"negative client load": {allocate.Options{ClientLoad: -0.1}, "pool fib: client load is -0.1"},
		"client load NaN":      {allocate.Options{ClientLoad: math.NaN()}, "client load is NaN"},
		"negative forget":      {allocate.Options{Forget: -time.Second}, "forgotten after -1s"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := allocate.New("fib", c.opts); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
}

// Several allocators with the same set must not all begin with the same instance.
func TestAllocatorsBeginDifferently(t *testing.T) {
	t.Parallel()
	first := map[string]bool{}
	for range 20 {
		p, err := allocate.New("fib", allocate.Options{})
		if err != nil {
			t.Fatal(err)
		}
		p.Update(set(1, instance("a", 0), instance("b", 0), instance("c", 0), instance("d", 0)), noon)
		first[take(t, p, noon, 1)] = true
	}
	if len(first) < 2 { // by chance once in 4^19
		t.Errorf("20 allocators all began with %v", first)
	}
}

// Every client is counted once while sets change and others look.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	const clients, each = 8, 500
	p := newPool(t, allocate.Options{Forget: time.Hour})
	p.Update(set(1, instance("a", 0), instance("b", 0)), noon)
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for i := range each {
				if _, err := p.Allocate(at(time.Duration(i) * time.Millisecond)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Go(func() {
		for i := range each {
			p.Update(set(i+2, instance("a", 0), instance("b", 0)), noon)
			p.View(noon)
		}
	})
	wg.Wait()
	total := 0
	for _, in := range p.View(noon).Instances {
		total += in.Own
	}
	if want := clients * each; total != want {
		t.Errorf("got %d assignments, want %d", total, want)
	}
}
