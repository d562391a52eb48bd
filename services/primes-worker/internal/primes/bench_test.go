package primes_test

import (
	"fmt"
	"os/exec"
	"testing"
	"time"

	"cloudmaster/internal/benchtest"
	"cloudmaster/services/primes-worker/internal/primes"
)

// BenchmarkNth measures beside primesieve (the Debian package), on one thread, if it is there. x-primesieve is our best
// time divided by its best, and "ratio" the inverse. Both do the same work: they count all primes up to the n-th by
// sieving, a segment at a time.
//
// The times are processor times, taken in turn, so that other programs on the machine matter little. primesieve would
// tell its time in whole milliseconds, and the 10,000,000th prime takes 9 of them. So the processor time of the program
// is taken, less what it takes for the first prime, which is its start.
func BenchmarkNth(b *testing.B) {
	peer, err := exec.LookPath("primesieve")
	for _, n := range []int{1_000_000, 10_000_000, 100_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			ours, theirs, start := time.Hour, time.Hour, time.Hour
			for b.Loop() {
				before := benchtest.Spent(b)
				if _, err := primes.Nth(b.Context(), n); err != nil {
					b.Fatal(err)
				}
				ours = min(ours, benchtest.Spent(b)-before)
				if err == nil {
					b.StopTimer()
					start = min(start, primesieve(b, peer, 1))
					theirs = min(theirs, primesieve(b, peer, n))
					b.StartTimer()
				}
			}
			b.ReportMetric(float64(n)/ours.Seconds(), "primes/s")
			if err == nil {
				b.ReportMetric(ours.Seconds()/(theirs-start).Seconds(), "x-primesieve")
				b.ReportMetric((theirs-start).Seconds()/ours.Seconds(), "ratio")
			}
		})
	}
}

// primesieve returns the processor time in which the program finds the n-th prime.
func primesieve(b *testing.B, path string, n int) time.Duration {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), path, fmt.Sprint(n), "--nth-prime", "--threads=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("primesieve: %v: %s", err, out)
	}
	return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
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
