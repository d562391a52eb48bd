package driver

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// Manual runs tasks one at a time, in the goroutine that asks for a step. It has no clock: every time is an
// argument.
type Manual struct {
	tasks []*manual
	err   error
}

type manual struct {
	Task

	ctx      context.Context //nolint:containedctx // of the newest step; the function that stops the task has no other
	again    Again
	asked    bool            // a step has been asked for
	arrivals <-chan struct{} // of the task's Watch
	look     time.Time       // when it is woken once more after an arrival; zero: it is not
	opened   bool
}

// Start adds a task, which is due at once.
func (m *Manual) Start(t Task) (stop func()) {
	added := &manual{Task: t, asked: true, ctx: context.Background()}
	m.tasks = append(m.tasks, added)
	return func() { m.remove(added) }
}

func (m *Manual) remove(t *manual) {
	if !slices.Contains(m.tasks, t) {
		return
	}
	m.tasks = slices.DeleteFunc(m.tasks, func(other *manual) bool { return other == t })
	if t.Stopped != nil {
		t.Stopped(t.ctx)
	}
}

// Err returns the first error with which a task has ended; nil if none has.
func (m *Manual) Err() error { return m.err }

// Due returns the names of the tasks that may run at the given time, in the order in which they were started.
func (m *Manual) Due(ctx context.Context, now time.Time) []string {
	var names []string
	for _, t := range m.tasks {
		t.listen(ctx, now)
		if at := t.due(); !at.IsZero() && !now.Before(at) {
			names = append(names, t.Name)
		}
	}
	return names
}

// Next returns when the next task is due; zero if none is until it is woken.
func (m *Manual) Next(ctx context.Context, now time.Time) time.Time {
	var next time.Time
	for _, t := range m.tasks {
		t.listen(ctx, now)
		if at := t.due(); !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return next
}

// Step runs a task once, whether or not it is due, and reports whether there is one of that name.
func (m *Manual) Step(ctx context.Context, name string, now time.Time) bool {
	i := slices.IndexFunc(m.tasks, func(t *manual) bool { return t.Name == name })
	if i < 0 {
		return false
	}
	t := m.tasks[i]
	t.asked, t.ctx = false, ctx
	again, err := t.Step(ctx, now)
	if err != nil {
		m.err = cmp.Or(m.err, err)
	}
	t.again = again
	if again.Over {
		m.remove(t)
	}
	return true
}

// listen finds out whether the task has been woken.
func (t *manual) listen(ctx context.Context, now time.Time) {
	if t.Watch != nil && !t.opened {
		arrivals, err := t.Watch(ctx)
		t.arrivals, t.opened = arrivals, err == nil
	}
	if t.Wake.taken() {
		t.asked = true
	}
	select {
	case <-t.arrivals:
		t.asked, t.look = true, now.Add(lookAgain)
	default:
	}
	if !t.look.IsZero() && !now.Before(t.look) {
		t.asked, t.look = true, time.Time{}
	}
}

// due returns when the task may run next.
func (t *manual) due() time.Time {
	at := t.again.At
	if t.asked {
		at = t.again.NotBefore
		if at.IsZero() {
			return time.Unix(0, 0) // at once: any time in the past will do
		}
		return at
	}
	if !t.look.IsZero() && (at.IsZero() || t.look.Before(at)) {
		at = t.look
	}
	if !at.IsZero() && at.Before(t.again.NotBefore) {
		at = t.again.NotBefore
	}
	return at
}
