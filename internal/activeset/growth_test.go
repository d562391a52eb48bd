package activeset_test

import (
	"fmt"
	"testing"
	"time"

	"cloudmaster/internal/activeset"
	"cloudmaster/internal/benchtest"
	"cloudmaster/internal/pool"
)

// BenchmarkGrowth is judged by integration/growth.
func BenchmarkGrowth(b *testing.B) {
	for _, n := range []int{300, 3_000} {
		set := activeset.Set{Pool: "fib", Version: 1, WrittenAt: written}
		for i := range n {
			set.Instances = append(set.Instances, activeset.Instance{
				ID: pool.InstanceID(fmt.Sprintf("i-%017d", i*7919%n)), Address: "10.0.0.7:20808",
				Load: float64(i%10) / 10, ReportedAt: written.Add(-time.Second),
			})
		}
		data, err := activeset.Encode(set)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("active-set-encode/n=%d", n), func(b *testing.B) {
			defer benchtest.CPU(b)()
			for b.Loop() {
				if _, err := activeset.Encode(set); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("active-set-decode/n=%d", n), func(b *testing.B) {
			defer benchtest.CPU(b)()
			for b.Loop() {
				if _, err := activeset.Decode(data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
