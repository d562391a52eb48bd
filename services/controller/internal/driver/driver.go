// Package driver is the only package of the controller that runs what the controller does again and again: it has the
// goroutines, the timers and the clock of that. The work is cut into tasks. Each does one piece of work when it is
// asked to, and says when it wants to be asked again. Driver runs each task in a goroutine of its own. Manual runs them
// one at a time, in the order that a test chooses.
package driver

import (
	"context"
	"sync"
	"time"

	"cloudmaster/internal/backoff"
)

// Again says when a task wants to run next.
type Again struct {
	At        time.Time // at the latest then; zero: only when it is woken
	NotBefore time.Time // never before this, even if it is woken
	Over      bool      // never again, because the task has nothing more to do
}

// Task is a piece of work that is done again and again.
type Task struct {
	Name string
	// Step does the work once. What it waits for must be bounded. It returns an error only if the program
	// cannot go on: the error ends the program.
	Step func(ctx context.Context, now time.Time) (Again, error)
	Wake *Wake // lets others ask for a step; nil: nobody can
	// Watch opens a channel that has a value whenever there is something new, which wakes the task. Nil:
	// there is no such channel.
	Watch func(ctx context.Context) (<-chan struct{}, error)
	// WatchFailed is called when the channel cannot be opened, but only for the first of several failures in
	// a row. Nil: nobody is told.
	WatchFailed func(ctx context.Context, err error)
	// Stopped is called when the task has run for the last time, to leave things as the next controller
	// should find them. Nil: there is nothing to do.
	Stopped func(ctx context.Context)
}

// Wake asks a task for a step. The zero value does not work; see NewWake.
type Wake struct{ c chan struct{} }

// NewWake returns a Wake for one task.
func NewWake() *Wake { return &Wake{c: make(chan struct{}, 1)} }

// Up asks for a step soon. It never blocks. If it is called several times before the step, there is still one
// step.
func (w *Wake) Up() {
	select {
	case w.c <- struct{}{}:
	default:
	}
}

// taken reports whether a step has been asked for, and clears that.
func (w *Wake) taken() bool {
	if w == nil {
		return false
	}
	select {
	case <-w.c:
		return true
	default:
		return false
	}
}

// channel is nil for a task that nobody wakes.
func (w *Wake) channel() <-chan struct{} {
	if w == nil {
		return nil
	}
	return w.c
}

// lookAgain is how long after its Watch has woken a task it is woken once more, because what the task looks
// at may lag behind the arrival.
const lookAgain = 1500 * time.Millisecond

// watchRetry is the pause before a Watch that failed is opened again.
const watchRetry = 5 * time.Second

// stopTimeout bounds how long a task's Stopped may take.
const stopTimeout = 5 * time.Second

// Driver runs tasks, each in a goroutine of its own.
type Driver struct {
	ctx    context.Context //nolint:containedctx // the lifetime of all tasks, also of those that are started later
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup

	once sync.Once
	err  error // the first error of a task; written once, before ctx ends
}

// New returns a driver whose tasks end when ctx does, or when one of them fails.
func New(ctx context.Context) *Driver {
	ctx, cancel := context.WithCancelCause(ctx)
	return &Driver{ctx: ctx, cancel: cancel}
}

// Start runs a task until it is stopped or the driver ends. stop returns when the task has ended.
func (d *Driver) Start(t Task) (stop func()) {
	ctx, cancel := context.WithCancel(d.ctx)
	ended := make(chan struct{})
	d.wg.Go(func() {
		defer close(ended)
		defer cancel()
		if err := run(ctx, t); err != nil {
			d.fail(err)
		}
	})
	return func() {
		cancel()
		<-ended
	}
}

// Go runs f until it returns. An error ends the driver.
func (d *Driver) Go(f func(ctx context.Context) error) {
	d.wg.Go(func() {
		if err := f(d.ctx); err != nil {
			d.fail(err)
		}
	})
}

// fail ends all tasks. The first error is the cause.
func (d *Driver) fail(err error) {
	d.once.Do(func() {
		d.err = err
		d.cancel(err)
	})
}

// Stop ends all tasks. Wait waits for them.
func (d *Driver) Stop() { d.cancel(nil) }

// Ended is closed when the driver's context has ended.
func (d *Driver) Ended() <-chan struct{} { return d.ctx.Done() }

// Wait returns when all tasks have ended. It returns the first error of a task.
func (d *Driver) Wait() error {
	d.wg.Wait()
	return d.err
}

// run steps a task until ctx ends.
func run(ctx context.Context, t Task) error {
	if t.Stopped != nil {
		defer func() {
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
			defer cancel()
			t.Stopped(last)
		}()
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the watch of a task that is over
	arrivals := make(chan struct{}, 1)
	if t.Watch != nil {
		wg.Go(func() { watch(ctx, t, arrivals) })
	}
	for again := (Again{At: time.Now()}); ; {
		if !await(ctx, again.At, t.Wake.channel(), arrivals) || !backoff.Wait(ctx, time.Until(again.NotBefore)) {
			return nil
		}
		var err error
		if again, err = t.Step(ctx, time.Now()); err != nil && ctx.Err() == nil {
			return err
		}
		if again.Over {
			return nil
		}
	}
}

// await waits until the given time or until the task is woken. It returns false if ctx has ended.
func await(ctx context.Context, at time.Time, wake, arrivals <-chan struct{}) bool {
	var due <-chan time.Time
	if !at.IsZero() {
		timer := time.NewTimer(time.Until(at))
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-ctx.Done():
	case <-wake:
	case <-arrivals:
	case <-due:
	}
	return ctx.Err() == nil
}

// watch wakes the task for each value of its Watch, and once more a while later.
func watch(ctx context.Context, t Task, to chan<- struct{}) {
	for failures := 0; ctx.Err() == nil; failures++ {
		from, err := t.Watch(ctx)
		if err != nil {
			if failures == 0 && ctx.Err() == nil && t.WatchFailed != nil {
				t.WatchFailed(ctx, err)
			}
			backoff.Wait(ctx, watchRetry)
			continue
		}
		follow(ctx, from, to)
	}
}

func follow(ctx context.Context, from <-chan struct{}, to chan<- struct{}) {
	again := time.NewTimer(lookAgain)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-from:
			again.Reset(lookAgain)
		case <-again.C:
		}
		select {
		case to <- struct{}{}:
		default:
		}
	}
}
