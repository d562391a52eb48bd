package allocate_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"cloudmaster/internal/activeset"
	"cloudmaster/internal/pool"
	"cloudmaster/services/allocator/internal/allocate"
)

// taught is how many own clients teach assigns, and teachTime the time between the two reports of each instance, of
// which the first one is a second older than the first set.
const (
	taught    = 40
	teachTime = 31 * time.Second
)

// teach gives p the set s, lets it assign clients, and then gives it the set that comes of so many allocators which all
// choose the same, and of clients that leave. It returns the time of that set.
func teach(t testing.TB, p *allocate.Pool, s activeset.Set, allocators int, stay time.Duration) time.Time {
	t.Helper()
	sent := map[pool.InstanceID]float64{}
	now := noon
	p.Update(s, now)
	now = now.Add(teachTime - time.Second)
	for range taught {
		a, err := p.Allocate(now.Add(-time.Millisecond))
		if err != nil {
			t.Fatal(err)
		}
		sent[a.ID]++
	}
	left := 1.0
	if stay > 0 {
		left = math.Exp(-teachTime.Seconds() / stay.Seconds())
	}
	next := activeset.Set{Pool: s.Pool, Version: s.Version + 1, WrittenAt: now}
	for _, in := range s.Instances {
		in.Load = in.Load*left + sent[in.ID]*float64(allocators)*allocate.DefaultClientLoad
		in.ReportedAt = in.ReportedAt.Add(teachTime)
		next.Instances = append(next.Instances, in)
	}
	p.Update(next, now)
	return now
}

func TestLearn(t *testing.T) {
	t.Parallel()
	half := activeset.Set{Pool: "fib", Version: 1, WrittenAt: noon}
	for i := range 20 {
		half.Instances = append(half.Instances, instance(fmt.Sprintf("i-%02d", i), float64(2+5*(i%2))/10))
	}
	cases := map[string]struct {
		allocators int
		stay       time.Duration
		want       float64
	}{
		"alone":                      {1, 0, 1},
		"clients that never arrive":  {0, 0, 1},
		"four":                       {4, 0, 4},
		"more than can be believed":  {200, 0, 64},
		"alone, clients leave":       {1, 5 * time.Minute, 1},
		"three, and clients leave":   {3, 5 * time.Minute, 3},
		"eight, clients leave early": {8, time.Minute, 8},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPool(t, allocate.Options{})
			teach(t, p, half, c.allocators, c.stay)
			got, leaving := p.Learnt()
			if math.Abs(got-c.want) > c.want/20 {
				t.Errorf("allocators: got %.3f, want %v", got, c.want)
			}
			want := 0.0
			if c.stay > 0 { // the first interval takes them for leaving evenly; more of them make it exact
				want = -math.Expm1(-teachTime.Seconds()/c.stay.Seconds()) / teachTime.Seconds()
			}
			if math.Abs(leaving-want) > 1e-6 {
				t.Errorf("leaving: got %.5f in a second, want %.5f", leaving, want)
			}
		})
	}
}

// Too few clients say nothing: servers that fill without them are no sign of other allocators yet.
func TestFewClientsTeachNothing(t *testing.T) {
	t.Parallel()
	p := newPool(t, allocate.Options{})
	p.Update(set(1, instance("a", 0)), noon)
	take(t, p, noon, 9)
	p.Update(activeset.Set{Pool: "fib", Version: 2, WrittenAt: at(time.Minute), Instances: []activeset.Instance{
		{ID: "a", Address: "a:1", Load: 9, ReportedAt: at(time.Minute)},
	}}, at(time.Minute))
	if got, leaving := p.Learnt(); got != 1 || leaving != 0 {
		t.Errorf("got %v allocators and %v leaving in a second, want 1 and 0", got, leaving)
	}
}

// What no server can have is not learnt from, however large it is.
func TestAbsurdLoadsTeachNothing(t *testing.T) {
	t.Parallel()
	p := newPool(t, allocate.Options{})
	s := bigSet(20)
	now := teach(t, p, s, 4, time.Minute)
	want, wantLeaving := p.Learnt()
	for i, load := range []float64{1e6, 0, math.MaxFloat64, 0} {
		now = now.Add(teachTime)
		s.Version = 3 + i
		s.Instances = []activeset.Instance{{ID: "i-00000", Address: "a:1", Load: load, ReportedAt: now}}
		p.Update(s, now)
		if got, leaving := p.Learnt(); got != want || leaving != wantLeaving {
			t.Fatalf("load %v: got %v allocators and %v leaving, want %v and %v", load, got, leaving, want, wantLeaving)
		}
	}
}

// An instance that appears full may have become so by others; it gets clients only when all are.
func TestFullServersComeLast(t *testing.T) {
	t.Parallel()
	p, err := allocate.New("fib", allocate.Options{Rand: rand.New(rand.NewPCG(1, 2)).Uint64})
	if err != nil {
		t.Fatal(err)
	}
	s := set(1)
	for i := range 100 {
		s.Instances = append(s.Instances, instance(fmt.Sprintf("full-%02d", i), 1))
	}
	s.Instances = append(s.Instances, instance("room", 0))
	now := teach(t, p, s, 4, 0)
	for i := range s.Instances {
		s.Instances[i].ReportedAt = at(time.Hour)
	}
	s.Version, s.WrittenAt = 3, at(time.Hour)
	p.Update(s, now)
	if got, want := take(t, p, now, 3), "room room room"; got != want {
		t.Errorf("got %q, want %q: 4 allocators have filled it with 3 clients of each", got, want)
	}
	if got := take(t, p, now, 1); got == "room" {
		t.Errorf("got %q, want one of the others, which seem less full by now", got)
	}
}

// Clients that have probably left make room, at the same rate everywhere.
func TestLoadFades(t *testing.T) {
	t.Parallel()
	p := newPool(t, allocate.Options{})
	now := teach(t, p, bigSet(20), 1, time.Minute)
	early, late := p.View(now).Instances, p.View(now.Add(time.Minute)).Instances
	_, leaving := p.Learnt()
	for i := range early {
		want := early[i].Estimate * math.Exp(-60*leaving)
		if got := late[i].Estimate; math.Abs(got-want) > 1e-6 {
			t.Errorf("%s after a minute: got %v, want %v of %v", early[i].ID, got, want, early[i].Estimate)
		}
	}
}

// A client that no report has confirmed has had more time to leave when the next set comes.
func TestUnconfirmedClientsFade(t *testing.T) {
	t.Parallel()
	p := newPool(t, allocate.Options{})
	s := bigSet(20)
	now := teach(t, p, s, 1, time.Minute)
	for i := range s.Instances {
		s.Instances[i].Load, s.Instances[i].ReportedAt = 0, now
	}
	s.Version = 3
	p.Update(s, now)
	a, err := p.Allocate(now)
	if err != nil {
		t.Fatal(err)
	}
	s.Version = 4 // written because another instance has come or gone
	p.Update(s, now.Add(time.Minute))
	_, leaving := p.Learnt()
	want := allocate.DefaultClientLoad * math.Exp(-60*leaving)
	for _, in := range p.View(now.Add(time.Minute)).Instances {
		if in.ID == a.ID && math.Abs(in.Estimate-want) > 1e-6 {
			t.Errorf("got %v, want %v", in.Estimate, want)
		}
	}
}
