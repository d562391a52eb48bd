// Package inventory keeps one list of instances for each cloud, which all pools share, so that a cloud is
// asked once for all of them.
package inventory

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"time"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/pool"
	"cloudmaster/services/controller/internal/driver"
)

// lister is the part of a cloud that an inventory needs.
type lister interface {
	List(ctx context.Context) ([]cloud.Instance, error)
}

// Listing is what a cloud said at one moment.
type Listing struct {
	At        time.Time                      // when the list was asked for; zero if there is none yet
	Instances map[pool.Name][]cloud.Instance // by the pool tag; not to be changed
	Err       error                          // why a later attempt to list failed; nil if none did
}

// Inventory is the list of one cloud.
type Inventory struct {
	name     pool.CloudName
	interval time.Duration
	now      func() time.Time
	log      *slog.Logger
	nudge    *driver.Wake
	failures int // lists in a row that failed; used only by the goroutine that runs the task

	mu     sync.Mutex
	latest Listing         // guarded by mu
	wake   []*subscription // guarded by mu
}

// subscription is a function that is called after changes. A pointer to it tells it from others.
type subscription struct{ wake func() }

// Options of an Inventory. All are required.
type Options struct {
	Interval time.Duration // between two lists; > 0
	Wake     *driver.Wake  // asks for a list soon
	Now      func() time.Time
	Log      *slog.Logger
}

// New returns the inventory of the named cloud. Its task fills it.
func New(name pool.CloudName, opts Options) *Inventory {
	return &Inventory{
		name: name, interval: opts.Interval, now: opts.Now, log: opts.Log.With("cloud", string(name)), nudge: opts.Wake,
	}
}

// Subscribe has wake called after each list that differs from the one before it, and when lists begin to fail
// or succeed again. It ends when cancel is called.
func (v *Inventory) Subscribe(wake func()) (cancel func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := &subscription{wake}
	v.wake = append(v.wake, s)
	return func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.wake = slices.DeleteFunc(slices.Clone(v.wake), func(other *subscription) bool { return other == s })
	}
}

// Latest returns the newest list.
func (v *Inventory) Latest() Listing {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.latest
}

// Refresh asks for a list soon, without waiting for the interval to end.
func (v *Inventory) Refresh() { v.nudge.Up() }

const (
	// leastGap is the shortest time between two lists, however often Refresh is called.
	leastGap = 200 * time.Millisecond
	// firstRetry is the pause after a first list that failed. It doubles with each failure, up to the
	// interval.
	firstRetry = time.Second
	// listTimeout bounds one list. Without it, a call that never returns would hide that the last list is
	// getting old.
	listTimeout = 30 * time.Second
)

// Task keeps the list fresh.
func (v *Inventory) Task(from lister) driver.Task {
	return driver.Task{
		Name: "inventory/" + string(v.name), Wake: v.nudge,
		Step: func(ctx context.Context, now time.Time) (driver.Again, error) { return v.step(ctx, from, now), nil },
	}
}

// step asks for one list at the given time.
func (v *Inventory) step(ctx context.Context, from lister, now time.Time) driver.Again {
	due := v.interval
	if v.list(ctx, from, now) {
		v.failures = 0
	} else {
		due = min(firstRetry<<min(v.failures, 16), v.interval)
		v.failures++
	}
	ended := v.now()
	return driver.Again{At: ended.Add(due), NotBefore: ended.Add(min(leastGap, due))}
}

// list asks for one list and reports whether it came.
func (v *Inventory) list(ctx context.Context, from lister, at time.Time) bool {
	bounded, cancel := context.WithTimeoutCause(ctx, listTimeout, fmt.Errorf("no answer within %s", listTimeout))
	defer cancel()
	all, err := from.List(bounded)
	if ctx.Err() != nil {
		return false
	}
	before, after := v.take(at, all, err)
	switch {
	case err != nil && before.Err == nil:
		v.log.ErrorContext(ctx, "instances cannot be listed; keeping the last list, nothing shrinks", "error", err)
	case err == nil && before.Err != nil:
		v.log.InfoContext(ctx, "instances can be listed again")
	}
	if (before.Err == nil) != (after.Err == nil) || before.At.IsZero() != after.At.IsZero() ||
		!reflect.DeepEqual(before.Instances, after.Instances) {
		v.tell()
	}
	return err == nil
}

// take enters the outcome of one list and returns what was known before and after.
func (v *Inventory) take(at time.Time, all []cloud.Instance, err error) (before, after Listing) {
	v.mu.Lock()
	defer v.mu.Unlock()
	before = v.latest
	if err != nil {
		v.latest.Err = err
	} else {
		v.latest = Listing{At: at, Instances: byPool(all)}
	}
	return before, v.latest
}

// byPool sorts a list by pool and id, so that equal lists are equal values.
func byPool(all []cloud.Instance) map[pool.Name][]cloud.Instance {
	out := make(map[pool.Name][]cloud.Instance)
	for _, in := range all {
		name := pool.Name(in.Tags[cloud.TagPool])
		out[name] = append(out[name], in)
	}
	for _, list := range out {
		slices.SortFunc(list, func(a, b cloud.Instance) int { return cmp.Compare(a.ID, b.ID) })
	}
	return out
}

func (v *Inventory) tell() {
	v.mu.Lock()
	wake := v.wake
	v.mu.Unlock()
	for _, s := range wake {
		s.wake()
	}
}
