package allocate_test

import (
	"fmt"
	"testing"
	"time"

	"cloudmaster/internal/benchtest"
	"cloudmaster/services/allocator/internal/allocate"
)

// BenchmarkGrowth is judged by integration/growth: as many choices as there are servers, in the same time, and a new
// set of them.
func BenchmarkGrowth(b *testing.B) {
	for _, n := range []int{300, 3_000} {
		b.Run(fmt.Sprintf("allocate/n=%d", n), func(b *testing.B) {
			p := newPool(b, allocate.Options{})
			p.Update(bigSet(n), noon)
			now := noon
			defer benchtest.CPU(b)()
			for b.Loop() {
				for range n {
					now = now.Add(150 * time.Millisecond / time.Duration(n)) // 20,000 a second among 3,000 servers
					if _, err := p.Allocate(now); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
		b.Run(fmt.Sprintf("allocate-update/n=%d", n), func(b *testing.B) {
			p, s := newPool(b, allocate.Options{}), bigSet(n)
			defer benchtest.CPU(b)()
			for b.Loop() {
				p.Update(s, noon)
			}
		})
	}
}
