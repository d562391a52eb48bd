package app_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
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
	"cloudmaster/internal/message"
	"cloudmaster/internal/policy"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
	"cloudmaster/services/controller/internal/app"
	"cloudmaster/services/controller/internal/broker"
	"cloudmaster/services/controller/internal/desired"
	"cloudmaster/services/controller/internal/loop"
	"cloudmaster/services/controller/internal/report"
)

// rig is a controller on an embedded broker with a file store and a cloud in memory.
type rig struct {
	work, status queue.Queue
	launched     chan time.Time
	registry     *prometheus.Registry
}

func newRig(b *testing.B, want desired.Pool) *rig {
	b.Helper()
	log := slog.New(slog.DiscardHandler)
	srv, err := broker.Start(b.Context(),
		broker.Options{Listen: "127.0.0.1:0", StoreDir: filepath.Join(b.TempDir(), "js"), Log: log})
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
	}{{&r.work, want.Work.Name}, {&r.status, want.Status.Name}} {
		if *q.to, err = back.Ensure(b.Context(), q.name, queue.Limits{}); err != nil {
			b.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() {
		done <- app.Run(ctx, app.Parts{
			Store: memblob.New(), OpenQueue: back.Ensure, Sink: report.NewMetrics(r.registry), Now: time.Now,
			Token: rand.Text, Log: log,
			OpenCloud: func(context.Context, pool.CloudName, func()) (desired.Machines, error) {
				return desired.Machines{Cloud: account.Cloud("bench"), Audit: time.Second}, nil
			},
		}, app.Source{First: func(context.Context) ([]desired.Pool, error) { return []desired.Pool{want}, nil }})
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

// benchPool returns a pool with at least so many instances.
func benchPool(b *testing.B, least int) desired.Pool {
	b.Helper()
	job, err := policy.NewJob(policy.JobSettings{StartThreshold: 1, IdleThreshold: 1})
	if err != nil {
		b.Fatal(err)
	}
	return desired.Pool{
		Name: "primes", Cloud: "mem", Work: desired.Queue{Name: "primes-work"},
		Status: desired.Queue{Name: "primes-status"},
		Parser: "std", Parse: message.Parsers()["std"],
		Loop: loop.Options{
			Image: "primes-worker", PolicyInterval: time.Minute, ReportInterval: time.Minute,
			UserData: func(pool.InstanceID) ([]byte, error) { return nil, nil },
			Judge: policy.Judge{
				Policy: job, Watchdog: policy.Watchdog{BreakerRatio: 0.5},
				Limits: pool.Limits{Minimum: least, Maximum: 1_000_000, StartLimit: 1_000_000, StopLimit: 1},
			},
		},
	}
}

// BenchmarkReaction measures the time from the sending of a job to the call that launches: JetStream, the
// hint, and the pass. Nothing polls in between, because the next regular look is a minute away.
func BenchmarkReaction(b *testing.B) {
	r := newRig(b, benchPool(b, 0))
	var took []time.Duration
	for b.Loop() {
		// The pause makes jobs arrive at any moment, also while the loop pauses after a pass.
		<-time.After(mathrand.N(100 * time.Millisecond))
		sent := time.Now()
		if err := r.work.Send(b.Context(), []byte("1|1")); err != nil {
			b.Fatal(err)
		}
		took = append(took, (<-r.launched).Sub(sent))
	}
	slices.Sort(took)
	b.ReportMetric(0, "ns/op") // it would include the pause
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(float64(took[len(took)-1].Microseconds())/1000, "max-ms")
}

// BenchmarkIntake measures the way of status messages of 1,000 instances from JetStream through the parser
// into the pool's roster.
func BenchmarkIntake(b *testing.B) {
	const instances = 1000
	r := newRig(b, benchPool(b, instances))
	ids := make([]pool.InstanceID, instances)
	for i := range ids {
		<-r.launched
		ids[i] = pool.InstanceID(fmt.Sprintf("i-%06d", i+1))
	}
	// Before that the controller does not know the instances.
	for sum(b, r.registry, "cloudmaster_launches_total") < instances {
		<-time.After(time.Millisecond)
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
	for sum(b, r.registry, "cloudmaster_status_messages_total") < float64(b.N) {
		<-time.After(time.Millisecond)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
}

// sum returns the sum of a counter over its labels. It fails the benchmark if messages were not accepted.
func sum(b *testing.B, r *prometheus.Registry, name string) float64 {
	b.Helper()
	families, err := r.Gather()
	if err != nil {
		b.Fatal(err)
	}
	total := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			total += m.GetCounter().GetValue()
			for _, l := range m.GetLabel() {
				if l.GetName() == "outcome" && l.GetValue() != "accepted" {
					b.Fatalf("%v messages were %s", m.GetCounter().GetValue(), l.GetValue())
				}
			}
		}
	}
	return total
}
