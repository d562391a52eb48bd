package allocate_test

import (
	"fmt"
	"testing"
	"time"

	"cloudmaster/internal/activeset"
	"cloudmaster/services/allocator/internal/allocate"
)

func bigSet(n int) activeset.Set {
	s := set(1)
	for i := range n {
		s.Instances = append(s.Instances, instance(fmt.Sprintf("i-%05d", i), float64(i%10)/10))
	}
	return s
}

// BenchmarkAllocate is one choice; it grows with log n, and is made from a few draws if there are other allocators.
func BenchmarkAllocate(b *testing.B) {
	for _, allocators := range []int{1, 2, 8} {
		for _, n := range []int{10, 1000, 100_000} {
			b.Run(fmt.Sprintf("allocators=%d/instances=%d", allocators, n), func(b *testing.B) {
				p, err := allocate.New("fib", allocate.Options{})
				if err != nil {
					b.Fatal(err)
				}
				now := teach(b, p, bigSet(n), allocators, 0)
				for b.Loop() {
					now = now.Add(50 * time.Microsecond) // 20,000 a second
					if _, err := p.Allocate(now); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkUpdate is one new set; choices wait for it.
func BenchmarkUpdate(b *testing.B) {
	p := newPool(b, allocate.Options{})
	s := bigSet(1000)
	for b.Loop() {
		p.Update(s, noon)
	}
}
