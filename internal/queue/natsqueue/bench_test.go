package natsqueue_test

import (
	"slices"
	"testing"
	"time"

	"cloudmaster/internal/queue"
)

const batch = 1000

// statusBodies returns n bodies of the usual length of a status message.
func statusBodies(n int) [][]byte {
	out := make([][]byte, n)
	for i := range out {
		out[i] = make([]byte, 220)
	}
	return out
}

func BenchmarkSend(b *testing.B) {
	for name, n := range map[string]int{"one": 1, "thousand": batch} {
		b.Run(name, func(b *testing.B) {
			q := ensure(b, startBroker(b).connect(b), "bench", queue.Limits{})
			bodies := statusBodies(n)
			for b.Loop() {
				if err := q.Send(b.Context(), bodies...); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "messages/s")
		})
	}
}

// BenchmarkReceiveDelete receives messages that were sent beforehand, in batches of up to 1000, and
// deletes each batch with confirmation.
func BenchmarkReceiveDelete(b *testing.B) {
	q := ensure(b, startBroker(b).connect(b), "bench", queue.Limits{})
	bodies := statusBodies(batch)
	for b.Loop() {
		b.StopTimer()
		if err := q.Send(b.Context(), bodies...); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		for left := batch; left > 0; {
			msgs, err := q.Receive(b.Context(), batch, time.Second)
			if err != nil {
				b.Fatal(err)
			}
			receipts := make([]queue.Receipt, len(msgs))
			for i, m := range msgs {
				receipts[i] = m.Receipt
			}
			if err := q.Delete(b.Context(), receipts...); err != nil {
				b.Fatal(err)
			}
			left -= len(msgs)
		}
	}
	b.ReportMetric(float64(batch*b.N)/b.Elapsed().Seconds(), "messages/s")
}

// BenchmarkWatchLatency measures the time from Send to the watcher's signal on another connection.
func BenchmarkWatchLatency(b *testing.B) {
	server := startBroker(b)
	q := ensure(b, server.connect(b), "bench", queue.Limits{})
	arrivals, err := ensure(b, server.connect(b), "bench", queue.Limits{}).Watch(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	var took []time.Duration
	for b.Loop() {
		start := time.Now()
		if err := q.Send(b.Context(), []byte("1|6573")); err != nil {
			b.Fatal(err)
		}
		<-arrivals
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}
