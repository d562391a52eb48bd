package loop

import (
	"context"
	"errors"
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
	now  func() time.Time
	lead func(now time.Time) (until time.Time, err error) // nil: it always leads
	rec  *record.Record                                   // nil between passes
}

// until returns until when this controller leads for certain, zero if it always does, or why it may not act.
func (c *calls) until(now time.Time) (time.Time, error) {
	if c.lead == nil {
		return time.Time{}, nil
	}
	return c.lead(now)
}

// make makes one call, if this controller may act, and enters it into the record. about is called when it has ended.
func (c *calls) make(ctx context.Context, op string, about func() string, call func(ctx context.Context) error) error {
	began := c.now()
	until, err := c.until(began)
	if err == nil {
		if !until.IsZero() {
			bounded, cancel := context.WithTimeoutCause(ctx, until.Sub(began), errOutlasts)
			defer cancel()
			ctx = bounded
		}
		err = call(ctx)
	}
	c.made(op, about(), began, err)
	return err
}

var errOutlasts = errors.New("the answer did not come while it was certain that this controller leads")

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
func (c callCloud) Launch(ctx context.Context, spec cloud.Spec) (out []cloud.Instance, err error) {
	about := func() string { return fmt.Sprintf("%d as %s", spec.Count, spec.Token) }
	err = c.make(ctx, "cloud.launch", about, func(ctx context.Context) (err error) {
		out, err = c.cloud.Launch(ctx, spec)
		return err
	})
	return out, err
}

// Tag notes the call and passes it on.
func (c callCloud) Tag(ctx context.Context, tags map[string]string, ids ...pool.InstanceID) error {
	about := func() string { return fmt.Sprintf("%v as %s", ids, tags[cloud.TagState]) }
	return c.make(ctx, "cloud.tag", about, func(ctx context.Context) error { return c.cloud.Tag(ctx, tags, ids...) })
}

// Terminate notes the call and passes it on.
func (c callCloud) Terminate(ctx context.Context, ids ...pool.InstanceID) error {
	about := func() string { return fmt.Sprint(ids) }
	return c.make(ctx, "cloud.terminate", about, func(ctx context.Context) error {
		return c.cloud.Terminate(ctx,
			ids...)
	})
}

// Stop notes the call and passes it on.
func (c callCloud) Stop(ctx context.Context, ids ...pool.InstanceID) error {
	return c.stopper(ctx, "cloud.stop", cloud.Stopper.Stop, ids)
}

// Start notes the call and passes it on.
func (c callCloud) Start(ctx context.Context, ids ...pool.InstanceID) error {
	return c.stopper(ctx, "cloud.start", cloud.Stopper.Start, ids)
}

func (c callCloud) stopper(
	ctx context.Context, op string, call func(cloud.Stopper, context.Context, ...pool.InstanceID) error,
	ids []pool.InstanceID,
) error {
	about := func() string { return fmt.Sprint(ids) }
	return c.make(ctx, op, about, func(ctx context.Context) error {
		s, can := c.cloud.(cloud.Stopper)
		if !can {
			return fmt.Errorf("%w: this cloud cannot stop instances and start them again", cloud.ErrInvalid)
		}
		return call(s, ctx, ids...)
	})
}

// callStore is a store whose calls are entered into the record.
type callStore struct {
	*calls

	store store
}

// Get notes the call and passes it on.
func (s callStore) Get(ctx context.Context, key string, have blob.Version) (o blob.Object, err error) {
	err = s.make(ctx, "store.get", func() string { return key }, func(ctx context.Context) (err error) {
		o, err = s.store.Get(ctx, key, have)
		return err
	})
	return o, err
}

// Put notes the call and passes it on.
func (s callStore) Put(ctx context.Context, key string, data []byte, last blob.Version) (version blob.Version,
	err error,
) {
	err = s.make(ctx, "store.put", func() string { return key }, func(ctx context.Context) (err error) {
		version, err = s.store.Put(ctx, key, data, last)
		return err
	})
	return version, err
}

// callQueue is a work queue whose calls are entered into the record.
type callQueue struct {
	workload.Queue
	*calls
}

// Receive notes the call and passes it on.
func (q callQueue) Receive(ctx context.Context, most int, wait time.Duration) (out []queue.Message, err error) {
	about := func() string { return fmt.Sprintf("%d messages", len(out)) }
	err = q.make(ctx, "work.receive", about, func(ctx context.Context) (err error) {
		out, err = q.Queue.Receive(ctx, most, wait)
		return err
	})
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
	about := func() string { return fmt.Sprintf("%d messages", len(receipts)) }
	return q.make(ctx, op, about, func(ctx context.Context) error { return call(ctx, receipts...) })
}

// Backlog notes the call and passes it on.
func (q callQueue) Backlog(ctx context.Context) (b pool.Backlog, err error) {
	said := "unknown"
	err = q.make(ctx, "work.backlog", func() string { return said }, func(ctx context.Context) (err error) {
		if b, err = q.Queue.Backlog(ctx); err == nil {
			said = fmt.Sprintf("%d visible, %d in flight", b.Visible, b.InFlight)
		}
		return err
	})
	return b, err
}
