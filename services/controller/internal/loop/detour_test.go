package loop_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing/synctest"
	"time"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/message"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
)

// detour is what a test puts between controllers and their cloud. Its functions may call the embedded cloud, which
// is what the tap sees, or not. Those that are nil are the cloud's.
type detour struct {
	cloud.Cloud

	launch    func(ctx context.Context, next cloud.Cloud, spec cloud.Spec) ([]cloud.Instance, error)
	list      func(all []cloud.Instance) []cloud.Instance
	tag       func(ctx context.Context, ids []pool.InstanceID) error
	terminate func(ctx context.Context, next cloud.Cloud, ids []pool.InstanceID) error
	before    func(ctx context.Context) error // each start and stop, which fails if this does
}

// Launch implements cloud.Cloud.
func (d detour) Launch(ctx context.Context, spec cloud.Spec) ([]cloud.Instance, error) {
	if d.launch == nil {
		return d.Cloud.Launch(ctx, spec)
	}
	return d.launch(ctx, d.Cloud, spec)
}

// List implements cloud.Cloud.
func (d detour) List(ctx context.Context) ([]cloud.Instance, error) {
	all, err := d.Cloud.List(ctx)
	if err == nil && d.list != nil {
		all = d.list(all)
	}
	return all, err
}

// Tag implements cloud.Cloud.
func (d detour) Tag(ctx context.Context, tags map[string]string, ids ...pool.InstanceID) error {
	if d.tag == nil {
		return d.Cloud.Tag(ctx, tags, ids...)
	}
	return d.tag(ctx, ids)
}

// Terminate implements cloud.Cloud.
func (d detour) Terminate(ctx context.Context, ids ...pool.InstanceID) error {
	if d.terminate == nil {
		return d.Cloud.Terminate(ctx, ids...)
	}
	return d.terminate(ctx, d.Cloud, ids)
}

// early is a queue whose broker's clock is behind.
type early struct {
	tapQueue

	by time.Duration
}

// Receive implements queue.Queue.
func (q early) Receive(ctx context.Context, most int, wait time.Duration) ([]queue.Message, error) {
	got, err := q.tapQueue.Receive(ctx, most, wait)
	for i := range got {
		got[i].SentAt = got[i].SentAt.Add(-q.by)
	}
	return got, err
}

// permit is a lease that a test lets run out.
type permit struct{ over atomic.Bool }

// lead is desired.Parts.Lead.
func (p *permit) lead(now time.Time) (time.Time, error) {
	if p.over.Load() {
		return time.Time{}, errors.New("the lease has run out")
	}
	return now.Add(time.Minute), nil
}

// say sends a status by hand, for an instance whose worker is stuck or held.
func (b *bench) say(id pool.InstanceID, load float64, at time.Time, seq uint64) {
	b.t.Helper()
	b.sayAs(id, "active", load, at, seq)
}

// sayAs reports for an instance, which says what state it is in.
func (b *bench) sayAs(id pool.InstanceID, state string, load float64, at time.Time, seq uint64) {
	b.t.Helper()
	body, err := message.EncodeStatus(message.Status{
		InstanceID: id, State: state, Load: load, Timestamp: at, Sequence: seq,
	})
	b.noError(err)
	b.noError(b.status.Send(b.t.Context(), body))
	synctest.Wait()
}

// pause holds up the answers to launches while it is on.
type pause struct {
	on     atomic.Bool
	resume chan struct{} // closed when the machine that slept goes on
}

func (p *pause) launch(ctx context.Context, next cloud.Cloud, spec cloud.Spec) ([]cloud.Instance, error) {
	out, err := next.Launch(ctx, spec)
	if p.on.Load() {
		<-p.resume
	}
	return out, err
}

// Stop implements cloud.Stopper.
func (d detour) Stop(ctx context.Context, ids ...pool.InstanceID) error {
	if d.before != nil {
		if err := d.before(ctx); err != nil {
			return err
		}
	}
	return d.Cloud.(cloud.Stopper).Stop(ctx, ids...) //nolint:forcetypeassert // it is that of the tap
}

// Start implements cloud.Stopper.
func (d detour) Start(ctx context.Context, ids ...pool.InstanceID) error {
	if d.before != nil {
		if err := d.before(ctx); err != nil {
			return err
		}
	}
	return d.Cloud.(cloud.Stopper).Start(ctx, ids...) //nolint:forcetypeassert // it is that of the tap
}
