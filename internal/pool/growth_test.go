package pool_test

import (
	"fmt"
	"testing"

	"cloudmaster/internal/benchtest"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/pool/pooltest"
)

// BenchmarkGrowth is judged by integration/growth. The limits get a decision that names every instance.
func BenchmarkGrowth(b *testing.B) {
	for _, n := range []int{300, 3_000} {
		b.Run(fmt.Sprintf("limits/n=%d", n), func(b *testing.B) {
			fleet := pooltest.Fleet(b, "idle 0.5 draining busy starting")
			s := pool.Snapshot{Now: pooltest.Now, Instances: make([]pool.Instance, n)}
			var d pool.Decision
			for i := range s.Instances {
				in := &s.Instances[i]
				*in = fleet[i%len(fleet)]
				in.ID = pool.InstanceID(fmt.Sprintf("i-%017d", i))
				switch {
				case in.State == pool.ShutDown:
					d.Reactivate = append(d.Reactivate, in.ID)
				case in.Idle():
					d.Stop = append(d.Stop, in.EndIdle(s.Now, pool.IdleSurplus))
				default:
					d.ShutDown = append(d.ShutDown, in.EndIdle(s.Now, pool.LowLoad))
				}
			}
			limits := pool.Limits{Maximum: n / 3, StartLimit: n, StopLimit: n / 4, Drain: true}
			defer benchtest.CPU(b)()
			for b.Loop() {
				if out := limits.Apply(&s, d, pool.Budget{Starts: n, Stops: n / 4}); out.Empty() {
					b.Fatal("the limits leave nothing")
				}
			}
		})
	}
}
