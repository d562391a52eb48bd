package driver_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"cloudmaster/services/controller/internal/driver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errBroken = errors.New("it cannot go on")

// steps records when a task was stepped, as time since the start of the test.
type steps struct {
	start time.Time
	at    []time.Duration
	again func(now time.Time) driver.Again // nil: only when woken
}

func newSteps() *steps { return &steps{start: time.Now()} }

func (s *steps) step(_ context.Context, now time.Time) (driver.Again, error) {
	s.at = append(s.at, now.Sub(s.start))
	if s.again == nil {
		return driver.Again{}, nil
	}
	return s.again(now), nil
}

func (s *steps) want(t *testing.T, what string, want ...time.Duration) {
	t.Helper()
	if !slices.Equal(s.at, want) {
		t.Errorf("%s: got steps at %v, want %v", what, s.at, want)
	}
}

// bubble runs f with a driver, which is stopped when f returns.
func bubble(t *testing.T, f func(t *testing.T, d *driver.Driver)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := driver.New(t.Context())
		f(t, d)
		d.Stop()
		if err := d.Wait(); err != nil {
			t.Errorf("got %v, want no error", err)
		}
	})
}

func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// TestTasksRunWhenTheyWantTo, at first at once.
func TestTasksRunWhenTheyWantTo(t *testing.T) {
	bubble(t, func(t *testing.T, d *driver.Driver) {
		s := newSteps()
		s.again = func(now time.Time) driver.Again { return driver.Again{At: now.Add(time.Minute)} }
		stop := d.Start(driver.Task{Step: s.step})
		pass(150 * time.Second)
		stop()
		pass(time.Hour)
		s.want(t, "every minute", 0, time.Minute, 2*time.Minute)
	})
}

// TestWakesAreGathered, and nobody runs sooner than wanted.
func TestWakesAreGathered(t *testing.T) {
	bubble(t, func(t *testing.T, d *driver.Driver) {
		s, wake := newSteps(), driver.NewWake()
		s.again = func(now time.Time) driver.Again { return driver.Again{NotBefore: now.Add(time.Second)} }
		d.Start(driver.Task{Step: s.step, Wake: wake})
		pass(10 * time.Second)
		s.want(t, "woken by nobody", 0)
		for range 20 {
			wake.Up()
			pass(100 * time.Millisecond)
		}
		pass(time.Hour)
		for n := range s.at[1:] {
			if gap := s.at[n+1] - s.at[n]; gap < time.Second {
				t.Errorf("got steps at %v, want no two within a second", s.at)
			}
		}
		if n := len(s.at); n < 4 || n > 5 || s.at[1] != 10*time.Second || s.at[n-1] < 11900*time.Millisecond {
			t.Errorf("woken for two seconds: got steps at %v, want one at once, and one after the last wake", s.at)
		}
	})
}

// TestErrorsEndAll tasks, and the first is the one that is returned.
func TestErrorsEndAll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d, other := driver.New(t.Context()), newSteps()
		other.again = func(now time.Time) driver.Again { return driver.Again{At: now.Add(time.Second)} }
		d.Start(driver.Task{Step: other.step})
		d.Start(driver.Task{Step: func(context.Context, time.Time) (driver.Again, error) {
			time.Sleep(1500 * time.Millisecond)
			return driver.Again{}, errBroken
		}})
		d.Go(func(ctx context.Context) error {
			<-ctx.Done()
			if !errors.Is(context.Cause(ctx), errBroken) {
				t.Errorf("got cause %v, want %v", context.Cause(ctx), errBroken)
			}
			return errors.New("a later one")
		})
		if err := d.Wait(); !errors.Is(err, errBroken) {
			t.Errorf("got %v, want %v", err, errBroken)
		}
		other.want(t, "the other task", 0, time.Second)
		select {
		case <-d.Ended():
		default:
			t.Error("the driver has not ended")
		}
	})
}

// TestGo checks that a function without an error ends nothing, and one with an error ends all.
func TestGo(t *testing.T) {
	t.Parallel()
	d := driver.New(t.Context())
	d.Go(func(context.Context) error { return nil })
	select {
	case <-d.Ended():
		t.Error("the driver has ended")
	default:
	}
	d.Go(func(context.Context) error { return errBroken })
	if err := d.Wait(); !errors.Is(err, errBroken) {
		t.Errorf("got %v, want %v", err, errBroken)
	}
}

// TestErrorsOfTheStopAreNone: what fails because it is stopped has not failed.
func TestErrorsOfTheStopAreNone(t *testing.T) {
	bubble(t, func(_ *testing.T, d *driver.Driver) {
		d.Start(driver.Task{Step: func(ctx context.Context, _ time.Time) (driver.Again, error) {
			<-ctx.Done()
			return driver.Again{}, ctx.Err()
		}})
		pass(time.Second)
	})
}

// TestStoppedIsCalledOnce, when the task has run for the last time, and has a while for what it does.
func TestStoppedIsCalledOnce(t *testing.T) {
	t.Parallel()
	for name, over := range map[string]bool{"stopped": false, "over": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, d *driver.Driver) {
				s, stopped := newSteps(), 0
				s.again = func(now time.Time) driver.Again { return driver.Again{At: now.Add(time.Second), Over: over} }
				stop := d.Start(driver.Task{Step: s.step, Stopped: func(ctx context.Context) {
					stopped++
					start := time.Now()
					if ctx.Err() != nil {
						t.Errorf("got a context that has ended: %v", ctx.Err())
					}
					<-ctx.Done()
					if took := time.Since(start); took > 10*time.Second {
						t.Errorf("it may take %s, want seconds", took)
					}
				}})
				pass(500 * time.Millisecond)
				stop()
				stop()
				if len(s.at) != 1 || stopped != 1 {
					t.Errorf("got %d steps, and %d times stopped, want one of each", len(s.at), stopped)
				}
			})
		})
	}
}

// TestArrivalsWake the task at once, and once more a while after the last of them.
func TestArrivalsWake(t *testing.T) {
	bubble(t, func(t *testing.T, d *driver.Driver) {
		s, arrivals := newSteps(), make(chan struct{})
		d.Start(driver.Task{
			Step: s.step, Watch: func(context.Context) (<-chan struct{}, error) { return arrivals, nil },
		})
		pass(10 * time.Second)
		at := s.at
		arrivals <- struct{}{}
		pass(time.Second)
		arrivals <- struct{}{}
		pass(time.Hour)
		s.at = s.at[len(at):]
		s.want(t, "two arrivals", 10*time.Second, 11*time.Second, 12500*time.Millisecond)
	})
}

// TestWatchIsTriedAgain, and people are told of the first failure only.
func TestWatchIsTriedAgain(t *testing.T) {
	bubble(t, func(t *testing.T, d *driver.Driver) {
		s, tries, told, arrivals := newSteps(), 0, 0, make(chan struct{})
		d.Start(driver.Task{
			Step: s.step,
			Watch: func(context.Context) (<-chan struct{}, error) {
				if tries++; tries < 4 {
					return nil, errBroken
				}
				return arrivals, nil
			},
			WatchFailed: func(_ context.Context, err error) {
				told++
				if !errors.Is(err, errBroken) {
					t.Errorf("got %v, want %v", err, errBroken)
				}
			},
		})
		pass(14 * time.Second)
		if tries != 3 || told != 1 {
			t.Errorf("got %d tries, told %d times, want one try every 5 seconds, told once", tries, told)
		}
		pass(10 * time.Second)
		before := len(s.at)
		arrivals <- struct{}{}
		pass(0)
		if len(s.at) != before+1 {
			t.Errorf("got %d steps by an arrival, want one", len(s.at)-before)
		}
	})
}

// TestWatchEndsWithItsTask, also if the task ends by itself.
func TestWatchEndsWithItsTask(t *testing.T) {
	bubble(t, func(t *testing.T, d *driver.Driver) {
		s, ended := newSteps(), false
		s.again = func(now time.Time) driver.Again {
			return driver.Again{At: now.Add(time.Second), Over: len(s.at) == 2}
		}
		d.Start(driver.Task{Step: s.step, Watch: func(ctx context.Context) (<-chan struct{}, error) {
			context.AfterFunc(ctx, func() { ended = true })
			return make(chan struct{}), nil
		}})
		pass(5 * time.Second)
		if !ended {
			t.Error("the watch goes on")
		}
	})
}
