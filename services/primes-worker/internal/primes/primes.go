// Package primes finds the n-th prime with a segmented sieve of Eratosthenes.
//
// Numbers that 2, 3 or 5 divide are left out: one byte stands for 30 numbers, one
// bit for each of the 8 that may be prime. The sieve works through the numbers in
// segments that stay in the processor's cache, counts the primes in each, and looks for the prime itself only in the
// last. It needs memory for the segment, and a few bytes for each prime up to the square root of the result.
package primes

import (
	"context"
	"fmt"
	"math"
)

// MaxN is the largest n. It fits into an int of 32 bits, and its prime, 47 055 833 459, is small enough for the
// segments to stay in a cache.
const MaxN = 2_000_000_000

// Options of NthWith; the zero value works.
type Options struct {
	// Segment is the size of a segment in bytes. It is rounded up to a multiple of 8, and to whole blocks. 0 means
	// about four times the square root of the result.
	Segment int
	// Progress is called after each segment with the number of primes up to its end; may be nil.
	Progress func(found int)
}

// Nth returns the n-th prime, 1 ≤ n ≤ MaxN; the first is 2. When ctx ends it
// returns its cause within the time of one segment, a few milliseconds at most.
func Nth(ctx context.Context, n int) (uint64, error) {
	return NthWith(ctx, n, Options{})
}

// NthWith is Nth with options.
func NthWith(ctx context.Context, n int, opts Options) (uint64, error) {
	if n < 1 || n > MaxN {
		return 0, fmt.Errorf("prime number %d: n must be from 1 to %d", n, MaxN)
	}
	if n <= len(wheelPrimes) {
		return wheelPrimes[n-1], nil
	}
	s := newSieve(upperBound(n), opts.Segment)
	found := len(wheelPrimes)
	for {
		if ctx.Err() != nil {
			return 0, fmt.Errorf("prime number %d: %w", n, context.Cause(ctx))
		}
		s.next()
		count := s.count()
		if found+count >= n {
			return s.nth(n - found), nil
		}
		found += count
		if opts.Progress != nil {
			opts.Progress(found)
		}
	}
}

// upperBound returns a number that is at least as large as the n-th prime.
func upperBound(n int) uint64 {
	if n < 6 {
		return 11
	}
	log := math.Log(float64(n))
	loglog := math.Log(log)
	bound := log + loglog // Rosser 1941
	if n >= 688383 {
		bound += -1 + (loglog-2)/log // Dusart 2010
	}
	return uint64(math.Ceil(float64(n) * bound))
}
