package loop

import (
	"context"
	"fmt"
	"time"

	"cloudmaster/internal/blob"
	"cloudmaster/internal/cloud"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
	"cloudmaster/services/controller/internal/record"
	"cloudmaster/services/controller/internal/workload"
)

// calls enters each call that a pass makes into the record of the pass.
type calls struct {
	now func() time.Time
	rec *record.Record // nil between passes
}

func (c *calls) begin(rec *record.Record) { c.rec = rec }

// made enters a call that has ended.
func (c *calls) made(op, about string, began time.Time, err error) {
	if c.rec == nil {
		return
	}
	said := record.Call{Op: op, About: about, Took: c.now().Sub(began)}
	if err != nil {
		said.Error = err.Error()
	}
	c.rec.Calls = append(c.rec.Calls, said)
}

// callCloud is a cloud whose calls are entered into the record.
type callCloud struct {
	*calls

	cloud provider
}

// Launch notes the call and passes it on.
func (c callCloud) Launch(ctx context.Context, spec cloud.Spec) ([]cloud.Instance, error) {
	began := c.now()
	out, err := c.cloud.Launch(ctx, spec)
	c.made("cloud.launch", fmt.Sprintf("%d as %s", spec.Count, spec.Token), began, err)
	return out, err
}

// Tag notes the call and passes it on.
func (c callCloud) Tag(ctx context.Context, tags map[string]string, ids ...pool.InstanceID) error {
	began := c.now()
	err := c.cloud.Tag(ctx, tags, ids...)
	c.made("cloud.tag", fmt.Sprintf("%v as %s", ids, tags[cloud.TagState]), began, err)
	return err
}

// Terminate notes the call and passes it on.
func (c callCloud) Terminate(ctx context.Context, ids ...pool.InstanceID) error {
	began := c.now()
	err := c.cloud.Terminate(ctx, ids...)
	c.made("cloud.terminate", fmt.Sprint(ids), began, err)
	return err
}

// callStore is a store whose calls are entered into the record.
type callStore struct {
	*calls

	store store
}

// Get notes the call and passes it on.
func (s callStore) Get(ctx context.Context, key string, have blob.Version) (blob.Object, error) {
	began := s.now()
	o, err := s.store.Get(ctx, key, have)
	s.made("store.get", key, began, err)
	return o, err
}

// Put notes the call and passes it on.
func (s callStore) Put(ctx context.Context, key string, data []byte, last blob.Version) (blob.Version, error) {
	began := s.now()
	version, err := s.store.Put(ctx, key, data, last)
	s.made("store.put", key, began, err)
	return version, err
}

// callQueue is a work queue whose calls are entered into the record.
type callQueue struct {
	workload.Queue
	*calls
}

// Receive notes the call and passes it on.
func (q callQueue) Receive(ctx context.Context, most int, wait time.Duration) ([]queue.Message, error) {
	began := q.now()
	out, err := q.Queue.Receive(ctx, most, wait)
	q.made("work.receive", fmt.Sprintf("%d messages", len(out)), began, err)
	return out, err
}

// Delete notes the call and passes it on.
func (q callQueue) Delete(ctx context.Context, receipts ...queue.Receipt) error {
	return q.count(ctx, "work.delete", q.Queue.Delete, receipts)
}

// Extend notes the call and passes it on.
func (q callQueue) Extend(ctx context.Context, receipts ...queue.Receipt) error {
	return q.count(ctx, "work.extend", q.Queue.Extend, receipts)
}

// Release notes the call and passes it on.
func (q callQueue) Release(ctx context.Context, receipts ...queue.Receipt) error {
	return q.count(ctx, "work.release", q.Queue.Release, receipts)
}

func (q callQueue) count(ctx context.Context, op string, call func(context.Context, ...queue.Receipt) error,
	receipts []queue.Receipt,
) error {
	began := q.now()
	err := call(ctx, receipts...)
	q.made(op, fmt.Sprintf("%d messages", len(receipts)), began, err)
	return err
}

// Backlog notes the call and passes it on.
func (q callQueue) Backlog(ctx context.Context) (pool.Backlog, error) {
	began := q.now()
	b, err := q.Queue.Backlog(ctx)
	about := "unknown"
	if err == nil {
		about = fmt.Sprintf("%d visible, %d in flight", b.Visible, b.InFlight)
	}
	q.made("work.backlog", about, began, err)
	return b, err
}
