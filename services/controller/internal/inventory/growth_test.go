package inventory_test

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"cloudmaster/internal/benchtest"
	"cloudmaster/internal/cloud"
	"cloudmaster/internal/pool"
	"cloudmaster/services/controller/internal/driver"
	"cloudmaster/services/controller/internal/inventory"
)

// BenchmarkGrowth is judged by integration/growth: a list of n instances in ten pools, like the one before it.
func BenchmarkGrowth(b *testing.B) {
	for _, n := range []int{300, 3_000} {
		b.Run(fmt.Sprintf("inventory/n=%d", n), func(b *testing.B) {
			list := make([]cloud.Instance, n)
			for i := range list {
				list[i] = cloud.Instance{
					ID: pool.InstanceID(fmt.Sprintf("i-%017d", i*7919%n)), Phase: cloud.Running, Address: "10.0.0.1",
					Tags: map[string]string{cloud.TagPool: fmt.Sprintf("pool-%d", i%10), cloud.TagState: "active"},
				}
			}
			v := inventory.New("mem", inventory.Options{
				Interval: interval, Wake: driver.NewWake(), Now: time.Now, Log: slog.New(slog.DiscardHandler),
			})
			from := &fakeCloud{list: list}
			task := v.Task(from)
			defer benchtest.CPU(b)()
			for b.Loop() {
				if _, err := task.Step(b.Context(), time.Now()); err != nil {
					b.Fatal(err)
				}
			}
			if got := len(v.Latest().Instances); got != 10 {
				b.Fatalf("got %d pools, want 10", got)
			}
		})
	}
}
