package roster_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/message"
	"cloudmaster/internal/pool"
	"cloudmaster/services/controller/internal/roster"
)

// BenchmarkMemory measures what a roster keeps of each instance: it was listed, and has reported its load and address.
func BenchmarkMemory(b *testing.B) {
	const n = 100_000
	now := time.Now()
	list := make([]cloud.Instance, n)
	statuses := make([]message.Status, n)
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

// live is how many bytes are in use on the heap.
func live() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
