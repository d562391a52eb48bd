package allocate_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"cloudmaster/internal/activeset"
	"cloudmaster/internal/pool"
	"cloudmaster/services/allocator/internal/allocate"
)

// The farm of the simulation: 20 servers with 10 places each, 80 % of them taken
// on average, and a set that is up to 30 s old.
const (
	farmServers  = 20
	farmPlaces   = 10
	farmUse      = 0.8
	farmStay     = 5 * time.Minute // mean time of a client
	farmRefresh  = 30 * time.Second
	farmDuration = 2 * time.Hour
	farmSeed     = 20808
)

// farm counts the truth: which clients are connected where.
type farm struct {
	random *rand.Rand
	leave  [farmServers][]time.Time // when each connected client leaves
}

func (f *farm) clients(server int, now time.Time) int {
	f.leave[server] = slices.DeleteFunc(f.leave[server], func(t time.Time) bool { return !t.After(now) })
	return len(f.leave[server])
}

func (f *farm) connect(server int, now time.Time) {
	stay := time.Duration(f.random.ExpFloat64() * float64(farmStay))
	f.leave[server] = append(f.leave[server], now.Add(stay))
}

func (f *farm) publish(version int, now time.Time) activeset.Set {
	set := activeset.Set{Pool: "fib", Version: version, WrittenAt: now}
	for i := range farmServers {
		set.Instances = append(set.Instances, activeset.Instance{
			ID: serverID(i), Address: "10.0.0.1:1", Load: float64(f.clients(i, now)) / farmPlaces, ReportedAt: now,
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

// overflow runs the farm and returns the share of clients that were sent to a
// server with no place left.
func overflow(c chooser) float64 {
	f := &farm{random: rand.New(rand.NewPCG(farmSeed, 1))}
	gap := float64(farmStay) / (farmUse * farmServers * farmPlaces)
	end := noon.Add(farmDuration)
	ids := make([]pool.InstanceID, farmServers)
	for i := range ids {
		ids[i] = serverID(i)
	}
	nextSet, version, clients, overflowed := noon, 0, 0, 0
	for now := noon; now.Before(end); now = now.Add(time.Duration(f.random.ExpFloat64() * gap)) {
		for !nextSet.After(now) {
			version++
			c.update(f.publish(version, nextSet), nextSet)
			nextSet = nextSet.Add(farmRefresh)
		}
		server := slices.Index(ids, c.choose(now))
		clients++
		if f.clients(server, now) >= farmPlaces {
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

// corrected spreads the clients over as many allocators as there are pools, none
// of which knows what the others assign.
func corrected(t *testing.T, pools ...*allocate.Pool) chooser {
	t.Helper()
	next := 0
	return chooser{
		update: func(s activeset.Set, now time.Time) {
			for _, p := range pools {
				p.Update(s, now)
			}
		},
		choose: func(now time.Time) pool.InstanceID {
			next++
			a, err := pools[next%len(pools)].Allocate(now)
			if err != nil {
				t.Fatal(err)
			}
			return a.ID
		},
	}
}

// TestStaleSet shows what the correction is for. Measured shares are logged.
func TestStaleSet(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(farmSeed, 2))
	seeded := func() *allocate.Pool {
		p, err := allocate.New("fib", allocate.Options{Rand: random.Uint64})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	least := overflow(naive())
	chance := overflow(anywhere(random))
	one := overflow(corrected(t, seeded()))
	four := overflow(corrected(t, seeded(), seeded(), seeded(), seeded()))
	t.Logf("clients sent to a full server: least load %.1f%%, at random %.1f%%, corrected %.1f%% (4 allocators %.1f%%)",
		100*least, 100*chance, 100*one, 100*four)
	for _, c := range []struct {
		name     string
		got      float64
		min, max float64
	}{
		{"least load", least, 0.4, 1},
		{"corrected", one, 0, 0.01},
		{"corrected, four allocators", four, 0, chance},
	} {
		if c.got < c.min || c.got > c.max {
			t.Errorf("%s: got %.3f, want %.3f to %.3f (seed %d)", c.name, c.got, c.min, c.max, farmSeed)
		}
	}
}
