package policy_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"cloudmaster/internal/policy"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/pool/pooltest"
)

var seed = flag.Uint64("seed", 0, "seed of the random tests; 0 takes a random one")

// forSeeds runs check once for each of so many seeds, or only with the seed of the -seed flag.
func forSeeds(t *testing.T, rounds int, check func(rng *rand.Rand) error) {
	t.Helper()
	first := *seed
	if first == 0 {
		first = rand.Uint64() >> 1
	} else {
		rounds = 1
	}
	for n := range uint64(rounds) {
		if err := check(rand.New(rand.NewPCG(first+n, 0))); err != nil {
			t.Fatalf("-seed %d: %v", first+n, err)
		}
	}
}

func fleetOf(rng *rand.Rand, most int, words string) string {
	kinds := strings.Fields(words)
	fleet := make([]string, rng.IntN(most+1))
	for i := range fleet {
		fleet[i] = kinds[rng.IntN(len(kinds))]
	}
	return strings.Join(fleet, " ")
}

// The twins below do what docs/policies.md says in the simplest way: they count in whole numbers, one
// instance after the other. Loads are counted in hundredths.

// roundDivide returns a/b rounded to the nearest whole number; halves are rounded up.
func roundDivide(a, b int) int {
	n := 0
	for (2*n+1)*b <= 2*a {
		n++
	}
	return n
}

// least returns the smallest n, from 0 up, for which enough is true.
func least(enough func(n int) bool) int {
	n := 0
	for !enough(n) {
		n++
	}
	return n
}

func TestJobTwin(t *testing.T) {
	t.Parallel()
	forSeeds(t, 4_000, func(rng *rand.Rand) error {
		set := policy.JobSettings{
			StartThreshold: 1 + rng.IntN(4), StopThreshold: rng.IntN(4), IdleThreshold: 1 + rng.IntN(3),
		}
		fleet := fleetOf(rng, 7, "starting idle idle idle/young busy 0.5 mute draining stopping")
		s := pool.Snapshot{Now: pooltest.Now, Instances: pooltest.Fleet(t, fleet)}
		s.Backlog = pool.Backlog{Known: rng.IntN(8) > 0, Visible: rng.IntN(4) * rng.IntN(4), InFlight: rng.IntN(6)}
		d := ask(t, newJob(t, set), lifetimes, &s)
		launch, stop := jobTwin(set, &s)
		if d.Launch != launch || !slices.Equal(pool.IDs(d.Stop), stop) || d.ShutDown != nil || d.Reactivate != nil {
			return fmt.Errorf("%q, %+v, %+v: got %s, want launch %d, stop %v", fleet, s.Backlog, set, &d, launch, stop)
		}
		return nil
	})
}

func jobTwin(set policy.JobSettings, s *pool.Snapshot) (launch int, stop []pool.InstanceID) {
	if !s.Backlog.Known {
		return 0, nil
	}
	counted, active, others := 0, 0, 0
	var idle, old []pool.InstanceID // all idle instances, and those of them whose lifetimes are over
	for _, i := range s.Instances {
		switch i.State {
		case pool.Startup:
			counted++
		case pool.Active:
			counted, active = counted+1, active+1
			if i.Load == 0 && !i.Busy && !i.ReportedAt.IsZero() {
				idle = append(idle, i.ID)
				if s.Now.Sub(i.Launched) >= lifetimes.MinimumLifetime &&
					s.Now.Sub(i.ActiveAt) >= lifetimes.MinimumActiveTime {
					old = append(old, i.ID) // they differ only in their ids, and the list is in that order
				}
			}
		case pool.ShutDown, pool.Stopping, pool.Unknown, pool.Warming, pool.Warm:
			others++
		}
	}
	v := s.Backlog.Visible
	if v == 0 && counted+others == 0 {
		v = s.Backlog.InFlight // no instance is left that could hold them, so they count as visible
	}
	if v >= set.StartThreshold || v > 0 && counted == 0 {
		needed := 0
		for rest := v; rest >= set.StartThreshold; rest -= set.StartThreshold {
			needed++
		}
		if launch = max(1, needed) - counted; launch > 0 {
			return launch, nil
		}
	}
	if v > set.StopThreshold {
		return 0, nil
	}
	keep := 0
	for accounted := active - len(idle); accounted < s.Backlog.InFlight; accounted++ {
		keep++
	}
	for range roundDivide(max(0, len(idle)-keep), set.IdleThreshold) {
		if s.Backlog.Visible > 0 && counted-len(stop) <= max(1, s.Backlog.Visible/set.StartThreshold) {
			break // what is left is needed for the messages that wait
		}
		if len(stop) < len(old) {
			stop = append(stop, old[len(stop)])
		}
	}
	return 0, stop
}

func TestResourceTwin(t *testing.T) {
	t.Parallel()
	forSeeds(t, 4_000, func(rng *rand.Rand) error {
		lower := 5 + rng.IntN(50)
		twin := hundredths{
			upper: lower + 1 + rng.IntN(60), lower: lower, factor: 1 + rng.IntN(10), threshold: rng.IntN(2) * 10,
		}
		set := policy.ResourceSettings{
			UpperLoad: float64(twin.upper) / 100, LowerLoad: float64(twin.lower) / 100,
			QueueLoadFactor:   float64(twin.factor),
			ShutDownThreshold: float64(twin.threshold) / 100, ShutDownInterval: 30 * time.Minute,
			ShutDownGrace: 10 * time.Second,
		}
		fleet := fleetOf(rng, 7,
			"0 0 0.1 0.2/fresh 0.3 0.75 0.8 0.9 1.2 2.5 starting draining draining/fresh draining:0.4/fresh "+
				"draining/now stopping")
		s := pool.Snapshot{
			Now: pooltest.Now, Backlog: visible(0), Requests: rng.IntN(3) * rng.IntN(20),
			Instances: pooltest.Fleet(t, fleet),
		}
		for i := range s.Instances {
			if in := &s.Instances[i]; in.State == pool.Active && rng.IntN(3) == 0 { // sometimes at the targets exactly
				in.Load = []float64{set.UpperLoad, set.LowerLoad, set.UpperLoad + set.LowerLoad}[rng.IntN(3)]
			}
		}
		got := ask(t, newResource(t, set), lifetimes, &s)
		want := twin.decide(&s)
		if acts(got) != acts(want) {
			return fmt.Errorf("%q, %d requests, %+v: got %s, want %s", fleet, s.Requests, set, &got, &want)
		}
		return nil
	})
}

// hundredths is the resource policy, computed in whole numbers.
type hundredths struct{ upper, lower, factor, threshold int }

func hundred(load float64) int { return int(load*100 + 0.5) }

func (h hundredths) decide(s *pool.Snapshot) (d pool.Decision) {
	var active, draining []pool.Instance
	starting, sum, over, below, above := 0, 0, 0, 0, 0
	for _, i := range s.Instances {
		load := hundred(i.Load)
		switch i.State {
		case pool.Startup:
			starting++
		case pool.ShutDown:
			draining = append(draining, i)
		case pool.Active:
			active = append(active, i)
			sum += load
			if load < h.upper {
				below++
			}
			if load > h.upper {
				above++
				over += load - h.upper
			}
		case pool.Stopping, pool.Unknown, pool.Warming, pool.Warm:
		}
	}
	grow := 0
	switch {
	case len(active) == 0: // r / factor ≤ n · upper
		grow = least(func(n int) bool { return s.Requests*100 <= n*h.upper*h.factor }) - starting
	case below == 0 && above > 0:
		grow = least(func(n int) bool { return over <= n*h.upper }) - starting
	default:
		needed := least(func(n int) bool { return sum <= n*h.lower })
		if needed < len(active) && needed*h.upper >= sum && s.Requests == 0 {
			d.ShutDown = ends(h.lowest(s, active, len(active)-needed)...)
		}
	}
	for ; grow > 0; grow-- {
		if next := highest(draining, d.Reactivate); next != "" {
			d.Reactivate = append(d.Reactivate, next)
		} else {
			d.Launch++
		}
	}
	for _, i := range draining {
		since := s.Now.Sub(i.StateSince)
		empty := hundred(i.Load) <= h.threshold && i.ReportedAt.After(i.StateSince)
		if since >= 10*time.Second && (empty || since >= 30*time.Minute) {
			d.Stop = append(d.Stop, ends(i.ID)...)
		}
	}
	return d
}

// lowest returns the n least loaded instances among those that have been active for long enough.
func (h hundredths) lowest(s *pool.Snapshot, active []pool.Instance, n int) (out []pool.InstanceID) {
	for range n {
		best := -1
		for at, i := range active {
			if s.Now.Sub(i.ActiveAt) < lifetimes.MinimumActiveTime || slices.Contains(out, i.ID) {
				continue
			}
			if best < 0 || i.Load < active[best].Load { // with equal loads the first id is taken
				best = at
			}
		}
		if best >= 0 {
			out = append(out, active[best].ID)
		}
	}
	return out
}

func highest(draining []pool.Instance, taken []pool.InstanceID) pool.InstanceID {
	var best pool.Instance
	for _, i := range draining {
		if !slices.Contains(taken, i.ID) && (best.ID == "" || i.Load > best.Load) {
			best = i
		}
	}
	return best.ID
}
