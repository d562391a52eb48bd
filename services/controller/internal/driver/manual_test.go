package driver_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"cloudmaster/services/controller/internal/driver"
)

var t0 = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

func at(seconds float64) time.Time { return t0.Add(time.Duration(seconds * float64(time.Second))) }

// hand steps one task by hand.
type hand struct {
	driver.Manual

	t     *testing.T
	wake  *driver.Wake
	watch chan struct{}
	again driver.Again
	err   error
	fails int // how often the watch fails
	seen  int // how many steps there were
	ended int // how often it was stopped
	stop  func()
}

func newHand(t *testing.T) *hand {
	t.Helper()
	h := &hand{t: t, wake: driver.NewWake(), watch: make(chan struct{}, 1)}
	h.stop = h.Start(driver.Task{
		Name: "task", Wake: h.wake, Stopped: func(context.Context) { h.ended++ },
		Step: func(context.Context, time.Time) (driver.Again, error) { h.seen++; return h.again, h.err },
		Watch: func(context.Context) (<-chan struct{}, error) {
			if h.fails--; h.fails >= 0 {
				return nil, errBroken
			}
			return h.watch, nil
		},
	})
	return h
}

// step steps the task at the given second, after which it wants to be stepped as again says.
func (h *hand) step(seconds float64, again driver.Again) {
	h.t.Helper()
	h.again = again
	if !h.Step(h.t.Context(), "task", at(seconds)) {
		h.t.Error("there is no such task")
	}
}

// wantDue checks whether the task may run at the given second, and when it is due next; below 0: never.
func (h *hand) wantDue(seconds float64, due bool, next float64) {
	h.t.Helper()
	want := []string{"task"}
	if !due {
		want = nil
	}
	if got := h.Due(h.t.Context(), at(seconds)); !slices.Equal(got, want) {
		h.t.Errorf("at second %v: got due %q, want %q", seconds, got, want)
	}
	got := h.Next(h.t.Context(), at(seconds))
	if wanted := at(next); next < 0 && !got.IsZero() || next >= 0 && !got.Equal(wanted) {
		h.t.Errorf("at second %v: got next %s, want second %v", seconds, got, next)
	}
}

// TestManualGoesByWhatTasksWant checks it with times, wakes and arrivals.
func TestManualGoesByWhatTasksWant(t *testing.T) {
	t.Parallel()
	h := newHand(t)
	if got := h.Due(t.Context(), t0); !slices.Equal(got, []string{"task"}) || h.Next(t.Context(), t0).After(t0) {
		t.Errorf("at first: got due %q, want it at once", got)
	}
	h.step(0, driver.Again{At: at(10)})
	h.wantDue(9.9, false, 10)
	h.wantDue(10, true, 10)
	h.step(10, driver.Again{At: at(20), NotBefore: at(25)})
	h.wantDue(24, false, 25)
	h.step(25, driver.Again{At: at(60), NotBefore: at(30)})
	h.wake.Up()
	h.wake.Up()
	h.wantDue(29, false, 30)
	h.step(30, driver.Again{})
	h.wantDue(1000, false, -1)
	h.watch <- struct{}{}
	if got := h.Due(t.Context(), at(100)); len(got) != 1 {
		t.Errorf("after an arrival: got %q, want it due", got)
	}
	h.step(100, driver.Again{})
	h.wantDue(101, false, 101.5)
	if got := h.Due(t.Context(), at(101.5)); len(got) != 1 {
		t.Errorf("a while after the arrival: got %q, want it due once more", got)
	}
	h.step(102, driver.Again{})
	h.wantDue(2000, false, -1)
}

// TestManualLooksAgainNoSoonerThanWanted after an arrival, and no later than that.
func TestManualLooksAgainNoSoonerThanWanted(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		again driver.Again
		next  float64
	}{
		"alone":         {driver.Again{}, 1.5},
		"before":        {driver.Again{At: at(60)}, 1.5},
		"after":         {driver.Again{At: at(1)}, 1},
		"not so soon":   {driver.Again{NotBefore: at(5)}, 5},
		"soon, not now": {driver.Again{At: at(3), NotBefore: at(1)}, 1.5},
	} {
		h := newHand(t)
		h.step(0, driver.Again{})
		h.watch <- struct{}{}
		h.Due(t.Context(), t0)
		h.step(0, c.again)
		if got := h.Next(t.Context(), at(0.5)); !got.Equal(at(c.next)) {
			t.Errorf("%s: got %s, want second %v", name, got, c.next)
		}
	}
}

// TestManualTriesToWatchAgain when that has failed.
func TestManualTriesToWatchAgain(t *testing.T) {
	t.Parallel()
	h := newHand(t)
	h.fails = 1
	h.step(0, driver.Again{})
	h.watch <- struct{}{}
	for n, want := range []int{0, 1} {
		if got := h.Due(t.Context(), at(1)); len(got) != want {
			t.Errorf("look %d: got %q due, want %d tasks", n, got, want)
		}
	}
}

// TestManualEnds checks how tasks end: by themselves, or by who started them; once.
func TestManualEnds(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(h *hand){
		"over":    func(h *hand) { h.step(0, driver.Again{Over: true}) },
		"stopped": func(h *hand) { h.stop() },
	} {
		h := newHand(t)
		h.Start(driver.Task{Name: "other", Step: func(context.Context, time.Time) (driver.Again, error) {
			return driver.Again{}, nil
		}})
		end(h)
		h.stop()
		if h.Step(t.Context(), "task", t0) || h.ended != 1 {
			t.Errorf("%s: it can be stepped, or was stopped %d times, want once", name, h.ended)
		}
		if got := h.Due(t.Context(), t0); !slices.Equal(got, []string{"other"}) {
			t.Errorf("%s: got %q due, want the other one", name, got)
		}
	}
}

// TestManualKeepsTheFirstError.
func TestManualKeepsTheFirstError(t *testing.T) {
	t.Parallel()
	h := newHand(t)
	h.step(0, driver.Again{})
	if h.Err() != nil {
		t.Errorf("got %v, want none", h.Err())
	}
	for _, h.err = range []error{errBroken, errors.New("a later one"), nil} {
		h.step(1, driver.Again{})
	}
	if !errors.Is(h.Err(), errBroken) {
		t.Errorf("got %v, want %v", h.Err(), errBroken)
	}
}

// TestManualFindsTheNextOfAll tasks.
func TestManualFindsTheNextOfAll(t *testing.T) {
	t.Parallel()
	var m driver.Manual
	for name, seconds := range map[string]float64{"a": 30, "b": 10, "c": 20} {
		m.Start(driver.Task{Name: name, Step: func(context.Context, time.Time) (driver.Again, error) {
			return driver.Again{At: at(seconds)}, nil
		}})
		m.Step(t.Context(), name, t0)
	}
	if got := m.Next(t.Context(), t0); !got.Equal(at(10)) {
		t.Errorf("got %s, want second 10", got)
	}
}
