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

// BenchmarkTalking is one choice of an allocator that hears seven others, each of which assigns as many.
func BenchmarkTalking(b *testing.B) {
	for _, rate := range []int{1000, 20_000} { // in a second, of each
		b.Run(fmt.Sprintf("clients=%d/instances=1000", rate), func(b *testing.B) {
			p := hearing(b, allocate.Options{})
			s := bigSet(1000)
			p.Update(s, noon)
			told := news{}
			now := noon
			for i := 0; b.Loop(); i++ {
				now = now.Add(time.Second / time.Duration(rate))
				clear(told)
				for k := range 7 {
					told[s.Instances[(7*i+k)%len(s.Instances)].ID] = 1
				}
				p.Hear(told, now)
				if _, err := p.Allocate(now); err != nil {
					b.Fatal(err)
				}
				if i%(30*rate) == 0 { // a set every 30 s
					b.StopTimer()
					s.Version++
					for k := range s.Instances {
						s.Instances[k].ReportedAt = now
					}
					p.Update(s, now)
					p.Untold(len(s.Instances))
					b.StartTimer()
				}
			}
		})
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
