package walkthrough

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"cloudmaster/integration/program"
	"cloudmaster/integration/sample"
	"cloudmaster/internal/backoff"
)

// TestBothPoolsUnderRandomLoad plays random load on both pools for two minutes. Afterwards
// everything must return to zero.
func TestBothPoolsUnderRandomLoad(t *testing.T) {
	w := begin(t, plot{defaults: map[string]string{"minimum_lifetime": "5s"}})
	w.controllerStarts()
	w.allocatorStarts()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))

	var jobs []string
	var clients []*program.Process
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); {
		switch n := random.IntN(10); {
		case n < 4:
			var some []string
			for range 1 + random.IntN(5) {
				some = append(some, fmt.Sprintf("%d|%d", len(jobs)+len(some)+1, 1+random.IntN(50_000_000)))
			}
			w.feeds(some...)
			jobs = append(jobs, some...)
		case n < 8 && len(clients) < 25:
			clients = append(clients, w.client())
		case len(clients) > 0:
			i := random.IntN(len(clients))
			w.leave(clients[i])
			clients = append(clients[:i], clients[i+1:]...)
		}
		backoff.Wait(t.Context(), time.Duration(random.IntN(1000))*time.Millisecond)
		for _, pool := range []string{"primes", "fib"} {
			sum := w.instances(pool, "startup") + w.instances(pool, "active") + w.instances(pool, "shut_down")
			if sum > 3 {
				t.Fatalf("%s has %.0f instances, more than 3", pool, sum)
			}
		}
	}
	served := 0
	for _, p := range clients {
		if len(p.Output(0)) == 0 || p.Output(0)[0] == noServers {
			continue
		}
		served++
		if !sample.Fibonacci(p.Output(0)) {
			t.Errorf("a client got %q", p.Output(0))
		}
	}
	if served == 0 {
		t.Error("no client was ever served")
	}
	w.leave(clients...)
	w.processed(jobs...)
	w.sees("no instances", w.empty("primes", "fib"))
	w.sees("no jobs", w.queued("primes", 0, 0))
}
