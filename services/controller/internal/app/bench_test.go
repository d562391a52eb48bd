package app_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"cloudmaster/internal/backend"
	"cloudmaster/internal/backend/natsbackend"
	"cloudmaster/internal/blob/memblob"
	"cloudmaster/internal/cloud"
	"cloudmaster/internal/cloud/memcloud"
	"cloudmaster/internal/daemon"
	"cloudmaster/internal/message"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
	"cloudmaster/services/controller/internal/broker"
	"cloudmaster/services/controller/internal/inventory"
	"cloudmaster/services/controller/internal/loop"
	"cloudmaster/services/controller/internal/report"
)

// rig is a loop on an embedded broker with a file store and a cloud in memory.
type rig struct {
	work, status queue.Queue
	launched     chan time.Time
	registry     *prometheus.Registry
}

func newRig(b *testing.B, cfg loop.Options) *rig {
	b.Helper()
	log := slog.New(slog.DiscardHandler)
	srv, err := broker.Start(b.Context(), broker.Options{
		Listen: "127.0.0.1:0", StoreDir: filepath.Join(b.TempDir(), "js"), Log: log,
	})
	if err != nil {
		b.Fatal(err)
	}
	back, err := backend.Open(b.Context(), srv.URL(), backend.Openers{"nats": natsbackend.Open},
		backend.Options{Deployment: "bench", Log: log})
	if err != nil {
		b.Fatal(err)
	}
	r := &rig{launched: make(chan time.Time, 1000), registry: prometheus.NewRegistry()}
	account, err := memcloud.New(memcloud.Options{OnLaunch: func(cloud.Instance) { r.launched <- time.Now() }})
	if err != nil {
		b.Fatal(err)
	}
	for _, q := range []struct {
		to   *queue.Queue
		name string
	}{{&r.work, cfg.WorkQueue}, {&r.status, cfg.StatusQueue}} {
		if *q.to, err = back.Ensure(b.Context(), q.name, queue.Limits{}); err != nil {
			b.Fatal(err)
		}
	}
	machines := account.Cloud("bench")
	v := inventory.New("mem", time.Second, log)
	l, err := loop.New(cfg, loop.Deps{
		Cloud: machines, Inventory: v, Work: r.work, Status: r.status, Store: memblob.New(),
		UserData: func(pool.InstanceID) ([]byte, error) { return nil, nil },
		Report:   report.All{}, Metrics: loop.NewMetrics(r.registry), Log: log,
	})
	if err != nil {
		b.Fatal(err)
	}
	v.Subscribe(l.Wake)
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() {
		done <- daemon.Group(ctx, l.Run, func(ctx context.Context) error { return v.Run(ctx, machines) })
	}()
	b.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
		if err := back.Close(); err != nil {
			b.Error(err)
		}
		if err := srv.Close(); err != nil {
			b.Error(err)
		}
	})
	return r
}

func benchPool() loop.Options {
	return loop.Options{
		Name: "primes", Policy: "job", Image: "primes-worker", Cloud: "mem",
		WorkQueue: "primes-work", StatusQueue: "primes-status", StatusParser: "std",
		Maximum: 1_000_000, StartLimit: 1_000_000, StopLimit: 1, StartThreshold: 1, IdleThreshold: 1, MaxDeliveries: 5,
		PolicyInterval: time.Minute, ReportInterval: time.Minute, ActiveSetType: "none", BreakerRatio: 0.5,
	}
}

// BenchmarkReaction measures from a job's send to the launch call: JetStream, the
// hint, the pass. Nothing polls in between; the next timed look is a minute away.
func BenchmarkReaction(b *testing.B) {
	r := newRig(b, benchPool())
	var took []time.Duration
	for b.Loop() {
		// Jobs come at any moment, also while the loop pauses after a pass.
		<-time.After(rand.N(100 * time.Millisecond))
		sent := time.Now()
		if err := r.work.Send(b.Context(), []byte("1|1")); err != nil {
			b.Fatal(err)
		}
		took = append(took, (<-r.launched).Sub(sent))
	}
	slices.Sort(took)
	b.ReportMetric(0, "ns/op") // it holds the pause
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(float64(took[len(took)-1].Microseconds())/1000, "max-ms")
}

// BenchmarkIntake measures status messages of 1,000 instances from JetStream
// through the parser into the pool's records.
func BenchmarkIntake(b *testing.B) {
	const instances = 1000
	cfg := benchPool()
	cfg.Minimum = instances
	r := newRig(b, cfg)
	ids := make([]pool.InstanceID, instances)
	for i := range ids {
		<-r.launched
		ids[i] = pool.InstanceID(fmt.Sprintf("i-%06d", i+1))
	}
	bodies := make([][]byte, 0, b.N)
	for i := range b.N {
		body, err := message.EncodeStatus(message.Status{
			InstanceID: ids[i%instances], State: "active", Activity: message.Busy, Load: 1, Timestamp: time.Now(),
			Sequence: uint64(i),
		})
		if err != nil {
			b.Fatal(err)
		}
		bodies = append(bodies, body)
	}
	b.ResetTimer()
	for batch := range slices.Chunk(bodies, 1000) {
		if err := r.status.Send(b.Context(), batch...); err != nil {
			b.Fatal(err)
		}
	}
	for heard(b, r.registry) < float64(b.N) {
		<-time.After(time.Millisecond)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
}

// heard counts the messages taken in; all must have been accepted.
func heard(b *testing.B, r *prometheus.Registry) float64 {
	b.Helper()
	families, err := r.Gather()
	if err != nil {
		b.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != "cloudmaster_status_messages_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			sum += m.GetCounter().GetValue()
			for _, l := range m.GetLabel() {
				if l.GetName() == "outcome" && l.GetValue() != "accepted" {
					b.Fatalf("%v messages were %s", m.GetCounter().GetValue(), l.GetValue())
				}
			}
		}
	}
	return sum
}
