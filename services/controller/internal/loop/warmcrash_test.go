package loop_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cloudmaster/internal/cloud/memcloud"
	"cloudmaster/internal/pool"
)

// TestDeathAtEveryStepOfAWarmPool: the controller dies at each call while the warm pool is filled, used, and filled
// again. The end is the same: nothing runs, one is warm, and no job was done twice.
func TestDeathAtEveryStepOfAWarmPool(t *testing.T) {
	t.Parallel()
	cfg := warmPool(1)
	cfg.Maximum, cfg.BootDeadline = 1, 5*time.Minute
	s := scenario{
		cfg: cfg,
		story: func(b *bench) {
			b.live(2 * time.Minute)
			b.send(4)
			b.live(7 * time.Minute)
			if got := b.asleep(); strings.Count(got, ":warm") != 1 || strings.Contains(got, " ") {
				b.t.Errorf("in the end %q are stopped, want one that is warm", got)
			}
		},
		launched: 1,
	}
	calls := s.run(t, 0, false)
	step := 1
	if testing.Short() {
		step = 7
	}
	for n := 1; n <= calls && !t.Failed(); n += step {
		for _, after := range []bool{false, true} {
			s.run(t, n, after)
		}
	}
	t.Logf("the controller died before and after one call in %d, of %d", step, calls)
}

// TestWarmSimulation runs pools that keep instances warm through random load, faults and restarts.
func TestWarmSimulation(t *testing.T) {
	t.Parallel()
	for _, seed := range seedsOfTests() {
		for _, policy := range []string{"job", "resource"} {
			t.Run(fmt.Sprintf("%s/%d", policy, seed), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { simulateWarm(t, seed, policy) })
			})
		}
	}
}

func simulateWarm(t *testing.T, seed uint64, policy string) {
	t.Helper()
	simulateWith(t, seed, policy, func(rng *rand.Rand, cfg *poolConfig, o *memcloud.Options) {
		if cfg != nil {
			cfg.Warm = 1 + rng.IntN(2)
			return
		}
		o.HaltDelay = time.Duration(rng.IntN(40)) * time.Second
	})
}

// warmOnes are the instances in the warm pool that are stopped.
func (b *bench) warmOnes() int { return strings.Count(b.asleep(), ":"+pool.Warm.String()) }
