package main

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/perf/benchmath"
)

// row is one path, with what was measured.
type row struct {
	path, pkg string
	bench     string // its benchmark, without the word Benchmark
	benchtime string
	peer      *peer   // nil: its growth is measured
	rounds    []round // empty: it has not been measured
}

// round is what one round has measured of a path: its figure (times or a ratio) at one or two sizes.
type round struct {
	sizes   []int
	seconds []float64 // of processor time per operation, by size
	ratio   float64   // of a path with a peer
}

// add enters what the benchmarks said in one round.
func (r *row) add(got sample) error {
	if r.peer != nil {
		ratio, ok := got[r.bench]["ratio"]
		if !ok {
			return fmt.Errorf("benchmark %s reports no ratio", r.bench)
		}
		r.rounds = append(r.rounds, round{ratio: ratio})
		return nil
	}
	var in round
	times := make(map[int]float64)
	for name, values := range got {
		size, found := strings.CutPrefix(name, r.bench+"/n=")
		if n, err := strconv.Atoi(size); found && err == nil {
			if times[n] = values["cpu-ns/op"] / 1e9; !(times[n] > 0) {
				return fmt.Errorf("benchmark %s does not say its cpu-ns/op: use benchtest.CPU", name)
			}
		}
	}
	in.sizes = slices.Sorted(maps.Keys(times))
	for _, n := range in.sizes {
		in.seconds = append(in.seconds, times[n])
	}
	if len(in.sizes) != 2 || in.sizes[1] != 10*in.sizes[0] {
		return fmt.Errorf("benchmark %s has the sizes %v, want n and 10n", r.bench, in.sizes)
	}
	r.rounds = append(r.rounds, in)
	return nil
}

// median returns the median of what f says of each round.
func (r *row) median(f func(*round) float64) float64 {
	values := make([]float64, len(r.rounds))
	for i := range r.rounds {
		values[i] = f(&r.rounds[i])
	}
	all := benchmath.NewSample(values, &benchmath.DefaultThresholds)
	return benchmath.AssumeNothing.Summary(all, 0.95).Center
}

// factor returns how many times as long ten times as many take. Each round is judged for itself, because what disturbs
// a round disturbs both sizes. The fastest rounds are judged too, because what disturbs only adds time. The lower of
// both counts: a loop within a loop shows in both.
func (r *row) factor() float64 {
	paired := r.median(func(in *round) float64 { return in.seconds[1] / in.seconds[0] })
	return min(paired, r.fastest(1)/r.fastest(0))
}

// fastest returns the shortest time of an operation at the smaller size (0) or at the larger one (1).
func (r *row) fastest(i int) float64 {
	least := math.Inf(1)
	for n := range r.rounds {
		least = min(least, r.rounds[n].seconds[i])
	}
	return least
}

// ratio returns the path's speed divided by the peer's.
func (r *row) ratio() float64 { return r.median(func(in *round) float64 { return in.ratio }) }

// at returns the size and the time of an operation there: of the smaller size (0) or of the larger one (1).
func (r *row) at(i int) (n int, seconds float64) {
	return r.rounds[0].sizes[i], r.median(func(in *round) float64 { return in.seconds[i] })
}

// verdict returns what is wrong with the path: that it is too slow, or that it was not measured.
func (r *row) verdict() error {
	switch {
	case len(r.rounds) == 0:
		return fmt.Errorf("%s was not measured", r.path)
	case r.peer != nil && r.ratio() < r.peer.least:
		return fmt.Errorf("%s: %.2f of the speed of %s, and the least is %.2f: see %s in %s",
			r.path, r.ratio(), r.peer.beside, r.peer.least, r.peer.bench, r.pkg)
	case r.peer == nil && r.factor() > mostGrowth:
		small, fast := r.at(0)
		large, slow := r.at(1)
		return fmt.Errorf("%s: %s at n=%d and %s at n=%d, %.1f times as long, and the most is %.0f: "+
			"something in it grows faster than its input; see Benchmark%s in %s",
			r.path, duration(fast), small, duration(slow), large, r.factor(), mostGrowth, r.bench, r.pkg)
	}
	return nil
}

// duration writes a time for people.
func duration(seconds float64) string {
	for _, unit := range []struct {
		name string
		size float64
	}{{"s", 1}, {"ms", 1e-3}, {"µs", 1e-6}} {
		if seconds >= unit.size {
			return fmt.Sprintf("%.3g %s", seconds/unit.size, unit.name)
		}
	}
	return fmt.Sprintf("%.3g ns", cmp.Or(seconds, 0)/1e-9)
}
