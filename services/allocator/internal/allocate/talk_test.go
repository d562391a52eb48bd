package allocate_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cloudmaster/internal/activeset"
	"cloudmaster/internal/pool"
	"cloudmaster/services/allocator/internal/allocate"
)

type news = map[pool.InstanceID]int

// hearing returns a pool that hears others.
func hearing(t testing.TB, opts allocate.Options) *allocate.Pool {
	t.Helper()
	p := newPool(t, opts)
	p.SetHearing(true)
	return p
}

// heard writes down what others have told that no report confirms.
func heard(p *allocate.Pool, now time.Time) news {
	out := news{}
	for _, in := range p.View(now).Instances {
		if in.Heard != 0 {
			out[in.ID] = in.Heard
		}
	}
	return out
}

// Clients of other allocators count like own ones: they keep new clients away until a report confirms them, or until
// they are forgotten.
func TestHeardClientsCount(t *testing.T) {
	t.Parallel()
	p := hearing(t, allocate.Options{Forget: time.Minute})
	p.Update(set(1, instance("a", 0), instance("b", 0)), noon)
	p.Hear(news{"a": 3, "gone": 5, "b": 0}, noon)
	if got, want := take(t, p, noon, 4), "b b b b"; got[:5] != want[:5] {
		t.Errorf("got %q, want clients on b first", got)
	}
	if diff := cmp.Diff(news{"a": 3}, heard(p, noon)); diff != "" {
		t.Errorf("heard (-want +got):\n%s", diff)
	}
	p.Hear(news{"a": 1, "b": -1}, at(10*time.Second))
	next := instance("a", 0.3)
	next.ReportedAt = at(5 * time.Second)
	p.Update(set(2, next, instance("b", 0)), at(11*time.Second))
	if diff := cmp.Diff(news{"a": 1}, heard(p, at(11*time.Second))); diff != "" {
		t.Errorf("heard after the report (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(news{}, heard(p, at(70*time.Second))); diff != "" {
		t.Errorf("heard a minute later (-want +got):\n%s", diff)
	}
}

// Each own client is told once, and only while there is somebody who hears it.
func TestUntold(t *testing.T) {
	t.Parallel()
	p := newPool(t, allocate.Options{})
	p.Update(set(1, instance("a", 0), instance("b", 0)), noon)
	take(t, p, noon, 2)
	if got := p.Untold(10); got != nil {
		t.Errorf("while deaf: got %v, want nothing", got)
	}
	p.SetHearing(true)
	take(t, p, noon, 4)
	p.Hear(news{"a": 1}, noon)
	first := p.Untold(1)
	p.Update(set(2, instance("a", 0)), noon)
	p.Update(set(3, instance("a", 0), instance("b", 0)), noon) // b is another one now, and has no client
	take(t, p, noon, 1)
	rest := p.Untold(10)
	if len(first) != 1 || first["a"]+rest["a"]+first["b"]+rest["b"] != 5 {
		t.Errorf("got %v and %v, want one instance, and five clients in all", first, rest)
	}
	if got := p.Untold(10); got != nil {
		t.Errorf("again: got %v, want nothing", got)
	}
	take(t, p, noon, 1)
	p.SetHearing(false)
	p.SetHearing(true)
	if got := p.Untold(10); got != nil {
		t.Errorf("after a time of deafness: got %v, want nothing: the others count differently since", got)
	}
	take(t, p, noon, 1)
	if got := p.Untold(10); len(got) != 1 {
		t.Errorf("one more client: got %v", got)
	}
}

func TestTheDeafHearNothing(t *testing.T) {
	t.Parallel()
	p := newPool(t, allocate.Options{})
	p.Update(set(1, instance("a", 0)), noon)
	p.Hear(news{"a": 3}, noon)
	if diff := cmp.Diff(news{}, heard(p, noon)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// talk gives p a set in which it and three others that it hears have each sent 40 clients since the last one, told or
// not, and returns the time of that set.
func talk(t *testing.T, p *allocate.Pool, s activeset.Set, now time.Time) activeset.Set {
	t.Helper()
	p.Update(s, now)
	sent := news{}
	for i := range taught {
		now = now.Add(500 * time.Millisecond)
		a, err := p.Allocate(now)
		if err != nil {
			t.Fatal(err)
		}
		sent[a.ID]++
		others := s.Instances[i%len(s.Instances)].ID
		p.Hear(news{others: 3}, now)
		sent[others] += 3
	}
	now = now.Add(time.Second)
	next := activeset.Set{Pool: s.Pool, Version: s.Version + 1, WrittenAt: now}
	for _, in := range s.Instances {
		in.Load += float64(sent[in.ID]) * allocate.DefaultClientLoad
		in.ReportedAt = now
		next.Instances = append(next.Instances, in)
	}
	return next
}

// An allocator that no longer hears the others still knows how many there are: its clients stand for theirs.
func TestTheDeafReckonWithThoseTheyHeard(t *testing.T) {
	t.Parallel()
	p := hearing(t, allocate.Options{})
	next := talk(t, p, bigSet(20), noon)
	next = talk(t, p, next, next.WrittenAt)
	p.Update(next, next.WrittenAt)
	now := next.WrittenAt
	added := func() float64 {
		before := p.View(now)
		a, err := p.Allocate(now)
		if err != nil {
			t.Fatal(err)
		}
		for i, in := range p.View(now).Instances {
			if in.ID == a.ID {
				return in.Estimate - before.Instances[i].Estimate
			}
		}
		return math.NaN()
	}
	if got := added(); math.Abs(got-0.1) > 0.001 {
		t.Errorf("hearing: a client counts for a load of %.3f, want 0.1", got)
	}
	p.SetHearing(false)
	if got := added(); math.Abs(got-0.4) > 0.004 {
		t.Errorf("deaf, four allocators: a client counts for a load of %.3f, want 0.4", got)
	}
	next = talk(t, p, next, now) // it cannot hear them now
	p.Update(next, next.WrittenAt)
	if got, _ := p.Learnt(); math.Abs(got-4) > 0.2 {
		t.Errorf("deaf for a set: learnt %.2f allocators, want 4", got)
	}
}

// With little on the way, each client goes to the lowest estimate, whatever was heard and assigned in between.
func TestTheOrderIsKept(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 4))
	p := hearing(t, allocate.Options{Rand: random.Uint64})
	p.Update(bigSet(50), noon)
	now := noon
	for i := range 300 {
		now = now.Add(time.Second)
		p.Hear(news{pool.InstanceID(fmt.Sprintf("i-%05d", random.IntN(50))): 1 + random.IntN(3)}, now)
		least := math.Inf(1)
		for _, in := range p.View(now).Instances {
			least = min(least, in.Estimate)
		}
		a, err := p.Allocate(now)
		if err != nil {
			t.Fatal(err)
		}
		if a.Load > least+1e-9 {
			t.Fatalf("client %d: got %s with %v, want an estimate of %v", i, a.ID, a.Load, least)
		}
	}
}

// If others assign many clients in the time that it takes to hear of them, they must not all choose the same server.
func TestManyOnTheWay(t *testing.T) {
	t.Parallel()
	p, err := allocate.New("fib", allocate.Options{Rand: rand.New(rand.NewPCG(5, 6)).Uint64})
	if err != nil {
		t.Fatal(err)
	}
	p.SetHearing(true)
	s := bigSet(1000)
	p.Update(s, noon)
	for i := range 1000 { // 500 a second
		p.Hear(news{s.Instances[i].ID: 1}, at(2*time.Millisecond*time.Duration(i)))
	}
	chosen := map[string]bool{}
	for range 20 {
		chosen[take(t, p, at(2*time.Second), 1)] = true
	}
	if len(chosen) < 15 {
		t.Errorf("20 clients went to %d servers, want nearly as many: %v", len(chosen), chosen)
	}
	s.Version = 2
	for i := range s.Instances {
		s.Instances[i].ReportedAt = at(time.Minute)
		s.Instances[i].Load = max(0.1, s.Instances[i].Load)
	}
	s.Instances[500].Load = 0.05
	p.Update(s, at(time.Minute))
	want := string(s.Instances[500].ID)
	if got := take(t, p, at(time.Minute), 1); got != want {
		t.Errorf("a minute later, when others are silent: got %s, want the least loaded, %s", got, want)
	}
}
