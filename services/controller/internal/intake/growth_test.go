package intake_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"cloudmaster/internal/benchtest"
	"cloudmaster/internal/cloud"
	"cloudmaster/internal/message"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
	"cloudmaster/services/controller/internal/intake"
	"cloudmaster/services/controller/internal/roster"
)

// full is a status queue that always has the same messages, one after the other.
type full struct {
	intake.Queue

	bodies [][]byte
	next   int
}

// Receive returns the next messages.
func (f *full) Receive(_ context.Context, most int, _ time.Duration) ([]queue.Message, error) {
	out := make([]queue.Message, 0, most)
	for range most {
		out = append(out, queue.Message{Body: f.bodies[f.next%len(f.bodies)], Receipt: "receipt", SentAt: time.Now()})
		f.next++
	}
	return out, nil
}

// Delete deletes nothing.
func (*full) Delete(context.Context, ...queue.Receipt) error { return nil }

// Backlog is empty, so that nobody waits for what others have taken.
func (*full) Backlog(context.Context) (pool.Backlog, error) { return pool.Backlog{Known: true}, nil }

// Visibility is how long others may keep what they have taken.
func (*full) Visibility() time.Duration { return time.Minute }

// BenchmarkGrowth is judged by integration/growth: as many looks at the queue as bring a status of each instance.
func BenchmarkGrowth(b *testing.B) {
	for _, n := range []int{1_000, 10_000} {
		b.Run(fmt.Sprintf("intake/n=%d", n), func(b *testing.B) {
			now := time.Now()
			list := make([]cloud.Instance, n)
			q := &full{bodies: make([][]byte, n)}
			for i := range list {
				id := pool.InstanceID(fmt.Sprintf("i-%017d", i))
				list[i] = cloud.Instance{ID: id, Phase: cloud.Running, Launched: now, Tags: map[string]string{}}
				body, err := message.EncodeStatus(message.Status{
					InstanceID: id, State: "active", Activity: message.Busy, Load: 1, Timestamp: now, Sequence: 1,
				})
				if err != nil {
					b.Fatal(err)
				}
				q.bodies[i] = body
			}
			r := roster.New("mem", roster.Options{})
			r.Observe(list, now, now)
			in := intake.New(q, r, intake.Options{
				Pool: "p", Parse: message.ParseStd, Changed: func() {}, Now: time.Now,
			})
			defer benchtest.CPU(b)()
			for b.Loop() {
				for taken := 0; taken < n; {
					said, _ := in.Step(b.Context(), time.Now())
					if taken += said.Messages; said.Messages == 0 || said.Err != nil {
						b.Fatalf("took %d of %d messages, %v", taken, n, said.Err)
					}
				}
			}
		})
	}
}
