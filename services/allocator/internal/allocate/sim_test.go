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
	"cloudmaster/internal/backend"
	"cloudmaster/internal/backend/membackend"
	"cloudmaster/internal/pool"
	"cloudmaster/services/allocator/internal/allocate"
	"cloudmaster/services/allocator/internal/exchange"
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

// talkingLength bounds the simulations in TestHerds of allocators that exchange notices, which take the longest.
const talkingLength = time.Hour

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
	step   func(now time.Time) // called every exchange.Interval; nil: there is nothing to do in between
}

// overflow runs a farm for this length, whose clients stay for this time on average and ask any of the choosers. It
// returns the share of clients that were sent to a server with no place left.
func overflow(seed uint64, stay, length time.Duration, choosers ...chooser) float64 {
	f := &farm{random: rand.New(rand.NewPCG(seed, 1)), stay: stay}
	gap := time.Duration(float64(stay) / (farmUse * farmServers * farmPlaces))
	ids := make(map[pool.InstanceID]int, farmServers)
	for i := range farmServers {
		ids[serverID(i)] = i
	}
	nextSet, nextStep, version, clients, overflowed := noon, noon, 0, 0, 0
	for now := noon; now.Before(noon.Add(length)); now = now.Add(f.after(gap)) {
		for ; !nextSet.After(now); nextSet = nextSet.Add(farmRefresh) {
			f.advance(nextSet)
			version++
			set := f.publish(version, nextSet)
			for _, c := range choosers {
				c.update(set, nextSet)
			}
		}
		for ; !nextStep.After(now); nextStep = nextStep.Add(exchange.Interval) {
			for _, c := range choosers {
				if c.step != nil {
					c.step(nextStep)
				}
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

// talking returns choosers with pools that tell each other what they assign, by the code that does so in earnest.
func talking(t testing.TB, board backend.Notices, pools []*allocate.Pool) []chooser {
	t.Helper()
	all := choosers(t, pools)
	for i, p := range pools {
		x := exchange.New(board, []exchange.Pool{p}, exchange.Options{})
		now := noon
		if _, err := x.Listen(func() time.Time { return now }); err != nil {
			t.Fatal(err)
		}
		all[i].step = func(at time.Time) {
			now = at
			x.Step(at)
		}
	}
	return all
}

// herd is a case of the simulation, with the share of clients that may be sent to full servers: by allocators that tell
// each other what they assign, and by those that do not.
type herd struct {
	stay       time.Duration
	allocators int
	most, deaf float64
}

func (h herd) String() string { return fmt.Sprintf("stay=%v/allocators=%d", h.stay, h.allocators) }

// herds are the cases of issue 9. Those that tell each other must reach its goals, but for a single allocator with
// short sessions: the goal is 3.7 %, and the oracle has more. Those that do not are a little above three of the goals.
var herds = []herd{
	{stay: time.Minute, allocators: 1, most: 0.039, deaf: 0.039},
	{stay: time.Minute, allocators: 2, most: 0.046, deaf: 0.046},
	{stay: time.Minute, allocators: 4, most: 0.060, deaf: 0.060},
	{stay: time.Minute, allocators: 8, most: 0.096, deaf: 0.096},
	{stay: 5 * time.Minute, allocators: 1, most: 0.0005, deaf: 0.0005},
	{stay: 5 * time.Minute, allocators: 2, most: 0.001, deaf: 0.001},
	{stay: 5 * time.Minute, allocators: 4, most: 0.007, deaf: 0.011},
	{stay: 5 * time.Minute, allocators: 8, most: 0.019, deaf: 0.022},
}

// TestStaleSet shows what counting one's own clients is for. Measured shares are logged.
func TestStaleSet(t *testing.T) {
	t.Parallel()
	least := overflow(farmSeed, time.Minute, farmSessions*time.Minute, naive())
	chance := overflow(farmSeed, time.Minute, farmSessions*time.Minute, anywhere(rand.New(rand.NewPCG(farmSeed, 2))))
	one := overflow(farmSeed, time.Minute, farmSessions*time.Minute, choosers(t, newPools(t, 1, farmSeed))...)
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
		t.Run("deaf/"+h.String(), func(t *testing.T) {
			t.Parallel()
			pools := newPools(t, h.allocators, farmSeed)
			h.check(t, farmSessions*h.stay, pools, choosers(t, pools), h.deaf)
		})
		t.Run("talking/"+h.String(), func(t *testing.T) {
			t.Parallel()
			pools := newPools(t, h.allocators, farmSeed)
			h.check(t, min(farmSessions*h.stay, talkingLength), pools, talking(t, membackend.New(), pools), h.most)
		})
	}
}

// check runs a farm for this length, and compares what became of it with what may, and what the pools have learnt with
// the truth.
func (h herd) check(t *testing.T, length time.Duration, pools []*allocate.Pool, all []chooser, most float64) {
	t.Helper()
	got := overflow(farmSeed, h.stay, length, all...)
	if got > most {
		t.Errorf("to a full server: got %.2f%%, want at most %.2f%% (seed %d)", 100*got, 100*most, farmSeed)
	}
	allocators, stay := learnt(pools)
	t.Logf("to a full server: %.2f%%; learnt: %.2f allocators, %v", 100*got, allocators, stay)
	if want := float64(h.allocators); math.Abs(allocators-want) > want/4 {
		t.Errorf("learnt: got %.2f allocators, want %v (seed %d)", allocators, want, farmSeed)
	}
	if (stay - h.stay).Abs() > h.stay/4 {
		t.Errorf("learnt: clients stay %v, want %v (seed %d)", stay, h.stay, farmSeed)
	}
}

// When notices cease in the middle, allocators know at once how many they are, and draw.
func TestHerdsWhenNoticesCease(t *testing.T) {
	t.Parallel()
	board := membackend.New()
	all := talking(t, board, newPools(t, 8, farmSeed))
	step := all[0].step
	all[0].step = func(now time.Time) {
		if now.After(noon.Add(farmSessions * time.Minute / 2)) {
			if err := board.Close(); err != nil {
				t.Error(err)
			}
		}
		step(now)
	}
	const talking, deaf = 0.047, 0.105 // the means of ten seeds, and some
	got, most := overflow(farmSeed, time.Minute, farmSessions*time.Minute, all...), (talking+deaf)/2
	t.Logf("to a full server: %.2f%%", 100*got)
	if got > most {
		t.Errorf("to a full server: got %.2f%%, want at most %.2f%% (seed %d)", 100*got, 100*most, farmSeed)
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
	overflow(farmSeed, time.Minute, farmSessions*time.Minute, all...)
	if n, _ := pools[0].Learnt(); n > 1.1 {
		t.Errorf("an hour after the other one has gone: got %.2f allocators, want 1", n)
	}
}

// BenchmarkHerds reports the share of clients that are sent to full servers, the mean of ten seeds: by allocators that
// tell each other what they assign, by those that do not, and by the oracle.
func BenchmarkHerds(b *testing.B) {
	for _, h := range herds {
		b.Run("talking/"+h.String(), func(b *testing.B) {
			h.bench(b, func(seed uint64) []chooser {
				return talking(b, membackend.New(), newPools(b, h.allocators, seed))
			})
		})
		b.Run("deaf/"+h.String(), func(b *testing.B) {
			h.bench(b, func(seed uint64) []chooser { return choosers(b, newPools(b, h.allocators, seed)) })
		})
		if h.allocators == 1 { // it knows all assignments anyway, so that their number makes no difference
			b.Run("oracle/"+h.String(), func(b *testing.B) {
				h.bench(b, func(uint64) []chooser { return []chooser{newOracle(h.stay).chooser()} })
			})
		}
	}
}

func (h herd) bench(b *testing.B, all func(seed uint64) []chooser) {
	b.Helper()
	const seeds = 10
	for b.Loop() {
		sum := 0.0
		for seed := range uint64(seeds) {
			sum += overflow(seed, h.stay, farmSessions*h.stay, all(seed)...)
		}
		b.ReportMetric(100*sum/seeds, "%full")
	}
}
