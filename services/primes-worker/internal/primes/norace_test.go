//go:build !race

package primes_test

const underRace = false
