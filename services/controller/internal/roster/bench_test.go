package roster_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"cloudmaster/internal/benchtest"
	"cloudmaster/internal/cloud"
	"cloudmaster/internal/message"
	"cloudmaster/internal/pool"
	"cloudmaster/services/controller/internal/roster"
)

// BenchmarkMemory measures what a roster keeps of each instance: it was listed, and has reported its load and address.
func BenchmarkMemory(b *testing.B) {
	const n = 100_000
	now := time.Now()
	list, statuses := crew(n, now)
	bytes := 0.0
	for b.Loop() {
		before := live()
		r := roster.New("mem", roster.Options{})
		r.Observe(list, now, now)
		for i := range statuses {
			if got := r.Hear(statuses[i], now); got != roster.Accepted {
				b.Fatalf("got a status %s, want it accepted", got)
			}
		}
		bytes = float64(live()-before) / n
		runtime.KeepAlive(r)
	}
	b.ReportMetric(0, "ns/op") // it is not about time
	b.ReportMetric(bytes, "B/instance")
}

// crew lists n instances, each with what it says at a time.
func crew(n int, now time.Time) ([]cloud.Instance, []message.Status) {
	list, statuses := make([]cloud.Instance, n), make([]message.Status, n)
	for i := range list {
		id := pool.InstanceID(fmt.Sprintf("i-%017x", i))
		list[i] = cloud.Instance{
			ID: id, Phase: cloud.Running, Launched: now, Address: "10.0.0.1",
			Tags: map[string]string{},
		}
		statuses[i] = message.Status{
			InstanceID: id, State: "active", Activity: message.Busy, Load: 1, Address: "10.0.0.1:20808", Timestamp: now,
			Sequence: 1,
		}
	}
	return list, statuses
}

// BenchmarkGrowth is judged by integration/growth.
func BenchmarkGrowth(b *testing.B) {
	for _, n := range []int{300, 3_000} {
		now := time.Now()
		list, statuses := crew(n, now)
		r := roster.New("mem", roster.Options{})
		r.Observe(list, now, now)
		b.Run(fmt.Sprintf("roster-hear/n=%d", n), func(b *testing.B) {
			defer benchtest.CPU(b)()
			for b.Loop() {
				now = now.Add(time.Second)
				for i := range statuses {
					statuses[i].Timestamp = now
					statuses[i].Sequence++
					if got := r.Hear(statuses[i], now); got != roster.Accepted {
						b.Fatalf("got a status %s, want it accepted", got)
					}
				}
			}
		})
		b.Run(fmt.Sprintf("roster-observe/n=%d", n), func(b *testing.B) {
			defer benchtest.CPU(b)()
			for b.Loop() {
				now = now.Add(time.Second)
				r.Observe(list, now, now)
			}
		})
		b.Run(fmt.Sprintf("roster-instances/n=%d", n), func(b *testing.B) {
			defer benchtest.CPU(b)()
			for b.Loop() {
				if got := r.Instances(now); len(got) != n {
					b.Fatalf("got %d instances, want %d", len(got), n)
				}
			}
		})
	}
}

// live is how many bytes are in use on the heap.
func live() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
