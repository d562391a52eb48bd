package app_test

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"cloudmaster/internal/backend"
	"cloudmaster/internal/backend/natsbackend"
	"cloudmaster/internal/cloud"
	"cloudmaster/internal/message"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
	"cloudmaster/services/controller/internal/broker"
	"cloudmaster/services/controller/internal/intake"
	"cloudmaster/services/controller/internal/roster"
)

const (
	// deliveries is how many messages wait on the broker before they are taken.
	deliveries = 20_000
	// deliveredAtOnce is the intake's batch.
	deliveredAtOnce = 1000
)

// BenchmarkDelivery measures the way of status messages of 1,000 instances, which wait on the broker, through the
// parser into the roster, until the broker has confirmed that they are gone. In turns with it a bare consumer takes the
// same messages in batches of the same size from a stream of the same kind, acknowledges them, and does nothing else
// with them: "ratio" is the intake's rate over the bare consumer's.
func BenchmarkDelivery(b *testing.B) {
	log := slog.New(slog.DiscardHandler)
	srv, err := broker.Start(b.Context(),
		broker.Options{Listen: "127.0.0.1:0", StoreDir: filepath.Join(b.TempDir(), "js"), Log: log})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := srv.Close(); err != nil {
			b.Error(err)
		}
	})
	ids, bodies := reports(b)
	ours, theirs := newTaker(b, srv.URL(), ids), newBare(b, srv.URL())
	var oursTook, theirsTook time.Duration
	for b.Loop() {
		oursTook += ours.take(b, bodies)
		theirsTook += theirs.take(b, bodies)
	}
	b.ReportMetric(0, "ns/op") // it would include the sending
	b.ReportMetric(float64(deliveries*b.N)/oursTook.Seconds(), "messages/s")
	b.ReportMetric(float64(deliveries*b.N)/theirsTook.Seconds(), "bare-messages/s")
	b.ReportMetric(theirsTook.Seconds()/oursTook.Seconds(), "ratio")
}

// reports returns the status messages of 1,000 instances.
func reports(b *testing.B) (ids []pool.InstanceID, bodies [][]byte) {
	b.Helper()
	for i := range 1000 {
		ids = append(ids, pool.InstanceID(fmt.Sprintf("i-%017x", i)))
	}
	for i := range deliveries {
		body, err := message.EncodeStatus(message.Status{
			InstanceID: ids[i%len(ids)], State: "active", Activity: message.Busy, Load: 1, Address: "10.0.0.7:20808",
			Timestamp: time.Now(), Sequence: uint64(i),
		})
		if err != nil {
			b.Fatal(err)
		}
		bodies = append(bodies, body)
	}
	return ids, bodies
}

// taker is the intake of a pool's status queue.
type taker struct {
	queue  queue.Queue
	intake *intake.Intake
}

func newTaker(b *testing.B, url string, ids []pool.InstanceID) *taker {
	b.Helper()
	log := slog.New(slog.DiscardHandler)
	back, err := backend.Open(b.Context(), url, backend.Openers{"nats": natsbackend.Open},
		backend.Options{Deployment: "bench", Log: log})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := back.Close(); err != nil {
			b.Error(err)
		}
	})
	q, err := back.Ensure(b.Context(), "status", queue.Limits{})
	if err != nil {
		b.Fatal(err)
	}
	now := time.Now()
	list := make([]cloud.Instance, len(ids))
	for i, id := range ids {
		list[i] = cloud.Instance{ID: id, Phase: cloud.Running, Launched: now, Tags: map[string]string{}}
	}
	r := roster.New("mem", roster.Options{})
	r.Observe(list, now, now)
	r.Listening(now)
	return &taker{q, intake.New(q, r, intake.Options{
		Pool: "p", Parse: message.ParseStd, Changed: func() {}, Now: time.Now,
	})}
}

// take sends the messages and then measures how long the intake takes over them.
func (t *taker) take(b *testing.B, bodies [][]byte) time.Duration {
	b.Helper()
	if err := t.queue.Send(b.Context(), bodies...); err != nil {
		b.Fatal(err)
	}
	start := time.Now()
	for taken := 0; taken < len(bodies); {
		said, _ := t.intake.Step(b.Context(), time.Now())
		if said.Err != nil || said.Undeleted != nil {
			b.Fatal(said.Err, said.Undeleted)
		}
		taken += said.Messages
	}
	return time.Since(start)
}

// bare is a consumer that does nothing with what it takes.
type bare struct {
	js       jetstream.JetStream
	consumer jetstream.Consumer
}

func newBare(b *testing.B, url string) *bare {
	b.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		b.Fatal(err)
	}
	stream, err := js.CreateStream(b.Context(), jetstream.StreamConfig{
		Name: "bare", Subjects: []string{"bare"}, Retention: jetstream.WorkQueuePolicy, Storage: jetstream.FileStorage,
	})
	if err != nil {
		b.Fatal(err)
	}
	consumer, err := stream.CreateConsumer(b.Context(), jetstream.ConsumerConfig{
		Durable: "all", AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: -1,
	})
	if err != nil {
		b.Fatal(err)
	}
	return &bare{js, consumer}
}

// take sends the messages and then measures how long it takes to receive and to acknowledge them.
func (c *bare) take(b *testing.B, bodies [][]byte) time.Duration {
	b.Helper()
	for i, body := range bodies {
		if _, err := c.js.PublishAsync("bare", body); err != nil {
			b.Fatal(err)
		}
		if i%deliveredAtOnce == deliveredAtOnce-1 {
			<-c.js.PublishAsyncComplete()
		}
	}
	start := time.Now()
	for taken := 0; taken < len(bodies); {
		n, err := c.batch(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		taken += n
	}
	return time.Since(start)
}

// batch takes one batch, and waits until the broker has confirmed the last acknowledgement.
func (c *bare) batch(ctx context.Context) (n int, err error) {
	got, err := c.consumer.Fetch(deliveredAtOnce)
	if err != nil {
		return 0, err
	}
	var last jetstream.Msg
	for m := range got.Messages() {
		if n++; last != nil {
			if err := last.Ack(); err != nil {
				return n, err
			}
		}
		last = m
	}
	if last == nil {
		return 0, got.Error()
	}
	return n, last.DoubleAck(ctx)
}
