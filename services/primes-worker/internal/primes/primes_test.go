package primes_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"cloudmaster/services/primes-worker/internal/primes"
)

func TestNthKnown(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]uint64{
		1: 2, 2: 3, 3: 5, 4: 7, 5: 11, 6: 13, 10: 29, 100: 541, 1000: 7919, 6573: 65809,
		10_000: 104729, 100_000: 1299709, 1_000_000: 15485863, 10_000_000: 179424673,
	} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			if n > 1_000_000 && underRace {
				t.Skip("takes long with the race detector")
			}
			got, err := primes.Nth(t.Context(), n)
			if err != nil || got != want {
				t.Errorf("Nth(%d): got %d, %v, want %d", n, got, err, want)
			}
		})
	}
}

func TestNthHundredMillion(t *testing.T) {
	t.Parallel()
	if testing.Short() || underRace {
		t.Skip("takes a second, minutes with the race detector")
	}
	const n, want = 100_000_000, 2038074743
	got, err := primes.Nth(t.Context(), n)
	if err != nil || got != want {
		t.Errorf("Nth(%d): got %d, %v, want %d", n, got, err, want)
	}
}

// naive returns the first n primes by trial division.
func naive(n int) []uint64 {
	out := make([]uint64, 0, n)
next:
	for number := uint64(2); len(out) < n; number++ {
		for _, p := range out {
			if p*p > number {
				break
			}
			if number%p == 0 {
				continue next
			}
		}
		out = append(out, number)
	}
	return out
}

func TestNthIsTheNaiveOne(t *testing.T) {
	t.Parallel()
	step := 1
	if testing.Short() || underRace {
		step = 97
	}
	want := naive(20_000)
	for n := 1; n <= len(want); n += step {
		got, err := primes.NthWith(t.Context(), n, primes.Options{Segment: 4 << 10})
		if err != nil || got != want[n-1] {
			t.Fatalf("Nth(%d): got %d, %v, want %d", n, got, err, want[n-1])
		}
	}
}

// TestSegmentsDoNotMatter moves the borders of the segments over the numbers: each
// prime near a border must be found by its number all the same.
func TestSegmentsDoNotMatter(t *testing.T) {
	t.Parallel()
	const most = 60_000
	want, rounds := naive(most), 100
	if underRace {
		rounds = 4
	}
	for _, segment := range []int{1, 8, 9, 64, 100, 1000, 1024, 2047, 2048, 2056, 5000, 32 << 10, 64 << 10, 1 << 20} {
		t.Run(fmt.Sprint(segment), func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(1, uint64(segment)))
			for range rounds {
				n := 1 + random.IntN(most)
				got, err := primes.NthWith(t.Context(), n, primes.Options{Segment: segment})
				if err != nil || got != want[n-1] {
					t.Fatalf("Nth(%d) in segments of %d bytes: got %d, %v, want %d", n, segment, got, err, want[n-1])
				}
			}
		})
	}
}

// TestSegmentsDoNotMatterToLargePrimes does the same with primes that are longer than a segment, and with primes that
// cross out in whole segments and not in blocks.
func TestSegmentsDoNotMatterToLargePrimes(t *testing.T) {
	t.Parallel()
	if underRace {
		t.Skip("takes long with the race detector")
	}
	known := map[int]uint64{5_000_000: 86028121, 5_761_455: 99999989, 10_000_000: 179424673}
	for _, segment := range []int{1000, 13 << 10, 32 << 10, 33 << 10, 96 << 10, 8 << 20} {
		for n, want := range known {
			t.Run(fmt.Sprintf("%d/%d", segment, n), func(t *testing.T) {
				t.Parallel()
				got, err := primes.NthWith(t.Context(), n, primes.Options{Segment: segment})
				if err != nil || got != want {
					t.Errorf("Nth(%d) in segments of %d bytes: got %d, %v, want %d", n, segment, got, err, want)
				}
			})
		}
	}
}

// TestNthIsPrimesieves compares with the program, where it is installed.
func TestNthIsPrimesieves(t *testing.T) {
	t.Parallel()
	peer, err := exec.LookPath("primesieve")
	if err != nil {
		t.Skip("primesieve is not installed")
	}
	random := rand.New(rand.NewPCG(1, 2))
	for bits := range 21 {
		n := 1<<bits + random.IntN(1<<bits)
		out, err := exec.CommandContext(t.Context(), peer, fmt.Sprint(n), "--nth-prime", "--quiet").Output()
		if err != nil {
			t.Fatalf("primesieve: %v: %s", err, out)
		}
		got, err := primes.Nth(t.Context(), n)
		if want := strings.TrimSpace(string(out)); err != nil || fmt.Sprint(got) != want {
			t.Errorf("Nth(%d): got %d, %v, want %s", n, got, err, want)
		}
	}
}

// TestProgressCounts checks the count at the end of every segment, not only at the end.
func TestProgressCounts(t *testing.T) {
	t.Parallel()
	const n, segment = 20_000, 504 // whole words, so it is not rounded up
	want, passed, told := naive(n), 0, 0
	end := uint64(0)
	_, err := primes.NthWith(t.Context(), n, primes.Options{Segment: segment, Progress: func(found int) {
		told++
		end += 30 * segment
		for want[passed] < end {
			passed++
		}
		if found != passed {
			t.Errorf("primes below %d: got %d, want %d", end, found, passed)
		}
	}})
	if wantTold := int(want[n-1] / (30 * segment)); err != nil || told != wantTold {
		t.Errorf("got %d reports of progress, %v, want %d", told, err, wantTold)
	}
}

func TestNthRefuses(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, -1, -1 << 31, primes.MaxN + 1} {
		got, err := primes.Nth(t.Context(), n)
		if err == nil || !strings.Contains(err.Error(), fmt.Sprint(n)) {
			t.Errorf("Nth(%d): got %d, %v, want an error that names the number", n, got, err)
		}
	}
}

func TestNthStopsWithContext(t *testing.T) {
	t.Parallel()
	stop := errors.New("that will do")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	segments := 0
	_, err := primes.NthWith(ctx, primes.MaxN, primes.Options{Progress: func(int) {
		if segments++; segments == 3 {
			cancel(stop)
		}
	}})
	if !errors.Is(err, stop) || segments != 3 {
		t.Errorf("got %v after %d segments, want %v after 3", err, segments, stop)
	}
}

// TestMemoryIsFlat compares what two runs allocate in all: a hundred times as many
// primes may take ten times the memory (the root), and so much only of
// what grows at all.
func TestMemoryIsFlat(t *testing.T) { //nolint:paralleltest // reads the allocations of the whole process
	large := 100_000_000
	if testing.Short() || underRace {
		large = 5_000_000
	}
	small, big := allocated(t, 1_000_000), allocated(t, large)
	const most = 1 << 20
	if big > 10*small || big > most {
		t.Errorf("got %d bytes allocated for n = 1e6 and %d for n = %d, want at most 10 times as much and %d",
			small, big, large, most)
	}
}

func allocated(t *testing.T, n int) uint64 {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := primes.Nth(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	t.Logf("n = %d: %d bytes", n, after.TotalAlloc-before.TotalAlloc)
	return after.TotalAlloc - before.TotalAlloc
}
