// Package workload reads a pool's work queue: how many messages wait, and, for pools of servers, the requests
// that the controller takes from it.
package workload

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
)

// Queue is the pool's work queue.
type Queue interface {
	Receive(ctx context.Context, most int, wait time.Duration) ([]queue.Message, error)
	Delete(ctx context.Context, receipts ...queue.Receipt) error
	Extend(ctx context.Context, receipts ...queue.Receipt) error
	Release(ctx context.Context, receipts ...queue.Receipt) error
	Visibility() time.Duration
	Backlog(ctx context.Context) (pool.Backlog, error)
}

// callTimeout bounds how long a pass waits for one answer of the queue.
const callTimeout = 5 * time.Second

// Options of a Workload.
type Options struct {
	TakesRequests bool // the queue carries requests for servers, which are taken here
	// Watched says that the queue tells of arrivals, so that each pass reads it. Otherwise it is read every
	// PollInterval.
	Watched      bool
	PollInterval time.Duration
}

// Workload is used by one goroutine, except for Hint.
type Workload struct {
	queue    Queue
	opts     Options
	requests requests
	poll     poll
	hinted   atomic.Bool // somebody has put work on the queue since the last reading
}

// New returns the workload of a queue.
func New(q Queue, opts Options) *Workload { return &Workload{queue: q, opts: opts} }

// Change sets other options, which apply from the next reading on. Pending requests stay pending.
func (w *Workload) Change(opts Options) { w.opts = opts }

// Hint says that work was put on the queue, which cannot tell of it by itself. It may be called from any
// goroutine.
func (w *Workload) Hint() { w.hinted.Store(true) }

// Reading is what was on the queue.
type Reading struct {
	Backlog  pool.Backlog
	At       time.Time // when it was read; zero if it is unknown
	Requests int       // pending requests: taken, and not served yet
	Fresh    bool      // it was read for this call and not earlier
}

// Read finds the depth of the work queue, and takes the requests that are there. If it fails, the backlog is
// unknown. If the queue cannot tell of arrivals, a reading that is less than a poll interval old is returned
// again, unless fresh is true.
func (w *Workload) Read(ctx context.Context, now time.Time, fresh bool) (Reading, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if w.usable(now) && !fresh {
		if err := w.requests.keep(ctx, w.queue, now); err != nil {
			return Reading{Requests: w.requests.count()}, err
		}
		return Reading{Backlog: w.poll.last, At: w.poll.at, Requests: w.requests.count()}, nil
	}
	w.poll.at = time.Time{}
	b, err := w.queue.Backlog(ctx)
	if err != nil {
		return Reading{Requests: w.requests.count(), Fresh: true}, fmt.Errorf("read backlog: %w", err)
	}
	b.Known = true
	before := w.requests.count()
	if w.opts.TakesRequests {
		if err := w.requests.take(ctx, w.queue, b.Visible > 0, now); err != nil {
			// There may be more requests than those that were taken, so the backlog stays unknown.
			return Reading{Requests: w.requests.count(), Fresh: true}, err
		}
	}
	if !w.opts.Watched {
		w.poll.keep(b, now)
		w.poll.took(w.requests.count() - before)
	}
	return Reading{Backlog: b, At: now, Requests: w.requests.count(), Fresh: true}, nil
}

// Settle deletes the pending requests if a decision has served them: either everything that the policy asked
// for has happened, or it asked for nothing because there is a server, or one that is starting. Otherwise
// they stay pending, and the policy asks again in the next pass.
func (w *Workload) Settle(ctx context.Context, d *pool.Decision, acted bool) error {
	before := w.requests.count()
	err := w.requests.settle(ctx, w.queue, d, acted)
	w.poll.ended(before - w.requests.count())
	return err
}

// Pending returns how many requests were taken and have not been served.
func (w *Workload) Pending() int { return w.requests.count() }

// HandBack gives the pending requests back to the queue, so that the next controller gets them at once.
func (w *Workload) HandBack(ctx context.Context) error { return w.requests.release(ctx, w.queue) }

// Next lists when the queue must be looked at if nothing happens before. A zero time means that there is no
// need to.
func (w *Workload) Next() []time.Time {
	due := []time.Time{w.poll.again, w.requests.extendAt}
	if !w.opts.Watched && !w.poll.at.IsZero() {
		due = append(due, w.poll.at.Add(w.opts.PollInterval))
	}
	return due
}
