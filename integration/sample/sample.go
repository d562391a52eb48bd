// Package sample understands what the sample's programs print and publish: results of primes
// workers, Fibonacci numbers, active sets.
package sample

import (
	"context"
	"encoding/json"
	"math/big"
	"regexp"

	"cloudmaster/integration/program"
)

var processed = regexp.MustCompile(`Processed: (\d+) \d+ primes \((\d+)\)`)

// Processed returns the results in a controller's report, by job.
func Processed(lines []string) map[string][]string {
	results := make(map[string][]string)
	for _, line := range lines {
		if m := processed.FindStringSubmatch(line); m != nil {
			results[m[1]] = append(results[m[1]], m[2])
		}
	}
	return results
}

var instance = regexp.MustCompile(`[iI]nstance (\S+)`)

// Instance returns the instance that a line of a controller's report is about: "Shutting down instance i-1 (low load)".
// Empty if the line names none.
func Instance(line string) string {
	m := instance.FindStringSubmatch(line)
	if m == nil {
		return ""
	}
	return m[1]
}

// Fibonacci reports whether the lines are the Fibonacci sequence from its beginning, without a gap.
func Fibonacci(lines []string) bool {
	a, b := big.NewInt(0), big.NewInt(1)
	for _, line := range lines {
		if line != b.String() {
			return false
		}
		a.Add(a, b)
		a, b = b, a
	}
	return len(lines) > 0
}

// ActiveSet returns the load of each instance in a pool's active set, by instance id, as the
// allocator sees it. It returns nil if the allocator does not answer.
func ActiveSet(ctx context.Context, allocator, pool string) map[string]float64 {
	body, err := program.Get(ctx, allocator+"/v1/pools/"+pool)
	if err != nil {
		return nil
	}
	var set struct {
		Instances []struct {
			ID   string  `json:"id"`
			Load float64 `json:"load_estimate"`
		} `json:"instances"`
	}
	if json.Unmarshal([]byte(body), &set) != nil {
		return nil
	}
	loads := make(map[string]float64)
	for _, m := range set.Instances {
		loads[m.ID] = m.Load
	}
	return loads
}
