package loop_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"cloudmaster/internal/benchtest"
	"cloudmaster/internal/blob/memblob"
	"cloudmaster/internal/cloud"
	"cloudmaster/internal/message"
	"cloudmaster/internal/policy"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
	"cloudmaster/internal/queue/memqueue"
	"cloudmaster/services/controller/internal/inventory"
	"cloudmaster/services/controller/internal/loop"
	"cloudmaster/services/controller/internal/report"
	"cloudmaster/services/controller/internal/roster"
)

// standing is a cloud whose list never changes and that is never asked to do anything.
type standing struct{ inventory.Listing }

// Latest is the list.
func (s *standing) Latest() inventory.Listing { return s.Listing }

// Refresh does nothing.
func (*standing) Refresh() {}

// Launch fails the benchmark.
func (*standing) Launch(context.Context, cloud.Spec) ([]cloud.Instance, error) { panic("launched") }

// Tag fails the benchmark.
func (*standing) Tag(context.Context, map[string]string, ...pool.InstanceID) error { panic("tagged") }

// Terminate fails the benchmark.
func (*standing) Terminate(context.Context, ...pool.InstanceID) error { panic("terminated") }

// stand lists n active instances of the pool, and tells the roster that all are busy.
func stand(b testing.TB, n int, r *roster.Roster, now time.Time) *standing {
	b.Helper()
	list := make([]cloud.Instance, n)
	for i := range list {
		list[i] = cloud.Instance{
			ID: pool.InstanceID(fmt.Sprintf("i-%06d", i)), Phase: cloud.Running, Launched: now.Add(-time.Hour),
			Address: "10.0.0.1",
			Tags:    map[string]string{cloud.TagPool: "p", cloud.TagState: pool.Active.String()},
		}
	}
	r.Observe(list, now, now)
	r.Listening(now)
	for i := range list {
		if got := r.Hear(message.Status{
			InstanceID: list[i].ID, State: "active", Activity: message.Busy, Load: 1, Timestamp: now, Sequence: 1,
		}, now); got != roster.Accepted {
			b.Fatalf("got a status %s, want it accepted", got)
		}
	}
	return &standing{inventory.Listing{At: now, Instances: map[pool.Name][]cloud.Instance{"p": list}}}
}

// standingPool returns the loop of a pool of n busy instances, in which nothing is to be done, with its clock.
func standingPool(b testing.TB, n int, now *time.Time) *loop.Loop {
	b.Helper()
	r := roster.New("mem", roster.Options{})
	machines := stand(b, n, r, *now)
	job, err := policy.NewJob(policy.JobSettings{StartThreshold: 2, IdleThreshold: 1})
	if err != nil {
		b.Fatal(err)
	}
	return loop.New(loop.Options{
		Judge: policy.Judge{
			Policy: job, Watchdog: policy.Watchdog{Interval: 10 * time.Minute, BreakerRatio: 0.5},
			Limits: pool.Limits{Maximum: n, StartLimit: 1, StopLimit: 1},
		},
		PolicyInterval: time.Minute, ReportInterval: time.Hour,
	}, loop.Ports{
		Pool: "p", Cloud: machines, Inventory: machines, Roster: r, Store: memblob.New(),
		Work: memqueue.New("work", queue.Limits{}), Now: func() time.Time { return *now },
		Token: func() string { return "token" },
	})
}

// BenchmarkPass measures a pass in which nothing is to be done, with its metrics and its log: what a pool costs
// that is as it should be.
func BenchmarkPass(b *testing.B) {
	for _, n := range []int{10, 1000, 10000} {
		b.Run(fmt.Sprintf("n=%d", n), func(b *testing.B) { benchmarkPass(b, n) })
	}
}

// BenchmarkGrowth is judged by integration/growth.
func BenchmarkGrowth(b *testing.B) {
	for _, n := range []int{300, 3_000} {
		b.Run(fmt.Sprintf("pass/n=%d", n), func(b *testing.B) { benchmarkPass(b, n) })
	}
}

func benchmarkPass(b *testing.B, n int) {
	b.Helper()
	now := time.Now()
	l := standingPool(b, n, &now)
	log := slog.New(slog.DiscardHandler)
	sink := report.All{report.NewMetrics(prometheus.NewRegistry()), report.NewDiary(log)}
	b.ReportAllocs()
	defer benchtest.CPU(b)()
	for b.Loop() {
		rec := l.Step(b.Context(), now)
		if rec.Err != nil || !rec.Decision.Empty() || len(rec.Instances) != n {
			b.Fatalf("got %v and %v of %d instances", rec.Err, rec.Words, len(rec.Instances))
		}
		sink.Pass(b.Context(), rec)
	}
}
