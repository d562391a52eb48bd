package allocate_test

import (
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
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
	before := p.View(now)
	next.Version++ // written because of another instance: reports are the same
	p.Update(next, now)
	for i, in := range p.View(now).Instances {
		if math.Abs(in.Estimate-before.Instances[i].Estimate) > 1e-6 {
			t.Errorf("the same reports again: got %v, want %v", in, before.Instances[i])
		}
	}
	next = talk(t, p, next, now) // it cannot hear them now
	p.Update(next, next.WrittenAt)
	now = next.WrittenAt
	if got, _ := p.Learnt(); math.Abs(got-4) > 0.2 {
		t.Errorf("deaf for a set: learnt %.2f allocators, want 4", got)
	}
	p.SetHearing(true)
	if got := added(); math.Abs(got-0.1) > 0.004 {
		t.Errorf("hearing again: a client counts for a load of %.3f, want 0.1", got)
	}
}

// Clients of others that no report has confirmed have had more time to leave when the next set comes.
func TestHeardClientsFade(t *testing.T) {
	t.Parallel()
	p := hearing(t, allocate.Options{})
	s := bigSet(20)
	now := teach(t, p, s, 1, time.Minute)
	for i := range s.Instances {
		s.Instances[i].Load, s.Instances[i].ReportedAt = 0, now
	}
	s.Version = 3
	p.Update(s, now)
	p.Hear(news{s.Instances[0].ID: 1}, now)
	s.Version = 4
	p.Update(s, now.Add(time.Minute))
	_, leaving := p.Learnt()
	want := allocate.DefaultClientLoad * math.Exp(-60*leaving)
	if got := p.View(now.Add(time.Minute)).Instances[0].Estimate; leaving == 0 || math.Abs(got-want) > 1e-6 {
		t.Errorf("got %v, want %v", got, want)
	}
}

// With little on the way, each client goes to the lowest estimate, whatever was heard and assigned in between.
func TestTheOrderIsKept(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 4))
	p := hearing(t, allocate.Options{Rand: random.Uint64, Forget: time.Hour})
	s := bigSet(50)
	p.Update(s, noon)
	load := map[pool.InstanceID]float64{}
	for _, in := range s.Instances {
		load[in.ID] = in.Load
	}
	for i := range 1000 { // ten in a second: the order is made anew each second only
		now := at(100 * time.Millisecond * time.Duration(i))
		id := s.Instances[random.IntN(len(s.Instances))].ID
		p.Hear(news{id: 1}, now)
		load[id] += allocate.DefaultClientLoad
		a, err := p.Allocate(now)
		if err != nil {
			t.Fatal(err)
		}
		if load[a.ID] > slices.Min(slices.Collect(maps.Values(load)))+1e-6 {
			t.Fatalf("client %d: got %s with %v, but another has less", i, a.ID, load[a.ID])
		}
		load[a.ID] += allocate.DefaultClientLoad
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
	for i := range s.Instances {
		s.Instances[i].Load = 0.5
	}
	s.Instances[0].Load = 0
	p.Update(s, noon)
	for i := 1; i < 1000; i++ { // 500 a second
		p.Hear(news{s.Instances[i].ID: 1}, at(2*time.Millisecond*time.Duration(i)))
	}
	low := string(s.Instances[0].ID) // each other has a load of 0.5 at least: it would get the first four, of all of us
	got := take(t, p, at(2*time.Second), 4)
	if n := strings.Count(got, low); n > 1 {
		t.Errorf("%d of the first 4 clients went to the least loaded server, want 1 at most: %s", n, got)
	}
	s.Version = 2
	for i := range s.Instances {
		s.Instances[i].ReportedAt = at(time.Minute)
		s.Instances[i].Load = max(0.1, s.Instances[i].Load)
	}
	s.Instances[500].Load = 0.05
	p.Update(s, at(time.Minute))
	want := string(s.Instances[500].ID)
	if got = take(t, p, at(time.Minute), 1); got != want {
		t.Errorf("a minute later, when others are silent: got %s, want the least loaded, %s", got, want)
	}
}
