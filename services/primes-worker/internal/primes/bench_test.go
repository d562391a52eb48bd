package primes_test

import (
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"testing"
	"time"

	"cloudmaster/services/primes-worker/internal/primes"
)

// BenchmarkNth measures beside primesieve (the Debian package), on one thread, if
// it is there: x-primesieve is our best time divided by its best, both taken
// in turn in the same run, and "ratio" the inverse. primesieve times itself, so its
// start is not counted.
func BenchmarkNth(b *testing.B) {
	for _, n := range []int{1_000_000, 10_000_000, 100_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			peer, err := exec.LookPath("primesieve")
			ours, theirs := time.Hour, time.Hour
			for b.Loop() {
				start := time.Now()
				if _, err := primes.Nth(b.Context(), n); err != nil {
					b.Fatal(err)
				}
				ours = min(ours, time.Since(start))
				if err == nil {
					b.StopTimer()
					theirs = min(theirs, primesieve(b, peer, n))
					b.StartTimer()
				}
			}
			b.ReportMetric(float64(n)/ours.Seconds(), "primes/s")
			if err == nil {
				b.ReportMetric(ours.Seconds()/theirs.Seconds(), "x-primesieve")
				b.ReportMetric(theirs.Seconds()/ours.Seconds(), "ratio")
			}
		})
	}
}

var seconds = regexp.MustCompile(`Seconds: ([0-9.]+)`)

func primesieve(b *testing.B, path string, n int) time.Duration {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), path, fmt.Sprint(n), "--nth-prime", "--threads=1", "--time")
	out, err := cmd.CombinedOutput()
	if err != nil {
		b.Fatalf("primesieve: %v: %s", err, out)
	}
	found := seconds.FindSubmatch(out)
	if found == nil {
		b.Fatalf("primesieve: no time in %q", out)
	}
	s, err := strconv.ParseFloat(string(found[1]), 64)
	if err != nil || s <= 0 {
		b.Fatalf("primesieve: its time is %q, %v", found[1], err)
	}
	return time.Duration(s * float64(time.Second))
}

func BenchmarkSegment(b *testing.B) {
	for _, n := range []int{10_000_000, 100_000_000} {
		for _, kib := range []int{32, 64, 128, 256, 512, 1024} {
			b.Run(fmt.Sprintf("n=%d/KiB=%d", n, kib), func(b *testing.B) {
				for b.Loop() {
					if _, err := primes.NthWith(b.Context(), n, primes.Options{Segment: kib << 10}); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
