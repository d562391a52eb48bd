//go:build race

package primes_test

// underRace: the race detector makes the sieve some fifty times slower and has nothing to find in it.
const underRace = true
