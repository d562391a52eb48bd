// Package refresh keeps a pool's active set in step with the store.
//
// Every Options.Interval it reads the document if its version has changed. The interval varies by a fifth, so that many
// allocators do not all ask at the same moment.
//
//   - Store away, slow or throttled: the last set stays in use, however old it is, and its age is shown. A failure is
//     never taken for an empty set. After repeated failures the pause grows to four intervals.
//   - No document: there are no servers.
//   - Damaged document, or one of another pool: the last set stays in use until the
//     document is written anew.
//   - A document older than the one in use (a store that is behind): ignored.
//
// A change of state is logged once, not at every attempt.
package refresh

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"cloudmaster/internal/activeset"
	"cloudmaster/internal/blob"
	"cloudmaster/internal/pool"
)

// Defaults of Options.
const (
	DefaultInterval = time.Second
	DefaultTimeout  = 5 * time.Second
)

// maxBackoff is how often repeated failures double the interval at most.
const maxBackoff = 2

// Outcome is what one read of the store came to.
type Outcome string

// The outcomes of a read.
const (
	Updated   Outcome = "updated"   // a newer document is in use now
	Unchanged Outcome = "unchanged" // the store still has the document in use
	Missing   Outcome = "missing"   // the store has no document
	Damaged   Outcome = "damaged"   // the store's document cannot be used
	Older     Outcome = "older"     // the store's document precedes the one in use
	Failed    Outcome = "failed"    // the store did not answer
)

// Options of a Refresher; the zero value works.
type Options struct {
	Interval time.Duration     // between two reads; 0 means DefaultInterval
	Timeout  time.Duration     // of one read; 0 means DefaultTimeout
	Log      *slog.Logger      // nil discards
	Observe  func(out Outcome) // called after each read; may be nil
}

// store is what is needed of a blob.Store.
type store interface {
	Get(ctx context.Context, key string, have blob.Version) (blob.Object, error)
}

// target is what keeps the active set that is in use.
type target interface {
	Name() pool.Name
	Update(set activeset.Set, now time.Time) bool
	Clear(now time.Time)
	Confirm(now time.Time)
}

// Refresher reads one pool's set. Its Run may be called once.
type Refresher struct {
	store  store
	target target
	opts   Options

	have     blob.Version // of the document read last, whether it could be used or not
	last     Outcome      // of the last read that was neither Failed nor Unchanged; "" before the first
	failures int          // reads in a row that were not answered
}

// New returns a Refresher that keeps target in step with the store.
func New(from store, to target, opts Options) (*Refresher, error) {
	opts.Interval = cmp.Or(opts.Interval, DefaultInterval)
	opts.Timeout = cmp.Or(opts.Timeout, DefaultTimeout)
	if opts.Interval < 0 || opts.Timeout < 0 {
		return nil, fmt.Errorf("refresh pool %s: interval %v and timeout %v must be above 0",
			to.Name(), opts.Interval, opts.Timeout)
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Observe == nil {
		opts.Observe = func(Outcome) {}
	}
	opts.Log = opts.Log.With("pool", to.Name())
	return &Refresher{store: from, target: to, opts: opts}, nil
}

// Run reads at once and then at every interval until ctx ends, and returns nil.
func (r *Refresher) Run(ctx context.Context) error {
	for {
		out, err := r.step(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // a read that the stop has cut off is no failure
		}
		r.opts.Observe(out)
		r.tell(ctx, out, err)
		timer := time.NewTimer(r.pause())
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

// pause is the time until the next read: the interval ±20 %, doubled for each failure in a row.
func (r *Refresher) pause() time.Duration {
	d := r.opts.Interval << min(max(0, r.failures-1), maxBackoff)
	return d*4/5 + rand.N(d*2/5+1)
}

// step reads once. The error is that of a Failed or Damaged read.
func (r *Refresher) step(ctx context.Context) (Outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, r.opts.Timeout)
	defer cancel()
	object, err := r.store.Get(ctx, activeset.Key(r.target.Name()), r.have)
	now := time.Now()
	switch {
	case err == nil:
		r.have = object.Version
		return r.use(object.Data, now)
	case errors.Is(err, blob.ErrNotModified):
		if r.last == Damaged || r.last == Older {
			return r.last, nil // the store still has the document that could not be used
		}
		r.target.Confirm(now)
		return Unchanged, nil
	case errors.Is(err, blob.ErrNotFound):
		r.have = ""
		r.target.Clear(now)
		return Missing, nil
	}
	return Failed, fmt.Errorf("read active set: %w", err)
}

func (r *Refresher) use(data []byte, now time.Time) (Outcome, error) {
	set, err := activeset.Decode(data)
	if err != nil {
		return Damaged, err
	}
	if set.Pool != r.target.Name() {
		return Damaged, fmt.Errorf("the document is of pool %s", set.Pool)
	}
	if !r.target.Update(set, now) {
		return Older, nil
	}
	return Updated, nil
}

// tell logs what has changed, and remembers the outcome.
func (r *Refresher) tell(ctx context.Context, out Outcome, err error) {
	if out == Failed {
		r.failures++
		if r.failures == 1 {
			r.opts.Log.WarnContext(ctx, "active set cannot be read, the last one stays in use", "error", err)
		}
		return
	}
	if r.failures > 0 {
		r.opts.Log.InfoContext(ctx, "active set can be read again", "failures", r.failures)
		r.failures = 0
	}
	switch {
	case out == Unchanged:
		return
	case err != nil: // damaged, and read just now
		r.opts.Log.ErrorContext(ctx, "active set is damaged, the last one stays in use", "error", err)
	case out == r.last:
	case out == Missing:
		r.opts.Log.InfoContext(ctx, "there is no active set, so there are no servers")
	case out == Older:
		r.opts.Log.WarnContext(ctx, "the store has an older active set than the one in use")
	case out == Updated:
		r.opts.Log.InfoContext(ctx, "active set is in use")
	}
	r.last = out
}
