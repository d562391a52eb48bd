package agent_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cloudmaster/internal/agent"
	"cloudmaster/internal/message"
)

func TestFlushOfNothingReturnsAtOnce(t *testing.T) {
	t.Parallel()
	a := agent.New(&fakeQueue{}, "i-0abc", agent.Options{})
	if err := a.Flush(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestFlushWaitsForTheBroker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := &fakeQueue{}
		unblock := q.block()
		a, stop := run(t, q, agent.Options{})
		defer stop()
		a.Say("early")
		synctest.Wait() // a call with "early" is under way
		a.Report(1, message.Busy)
		a.Say("late")
		done := make(chan error)
		go func() { done <- a.Flush(t.Context()) }()
		time.Sleep(30 * time.Second)
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatalf("Flush returned %v before anything was stored", err)
		default:
		}
		unblock()
		if err := <-done; err != nil {
			t.Error(err)
		}
		want(t, q.take(), "early", "late", "1 busy")
	})
}

// What is said after the call is not waited for.
func TestFlushDoesNotWaitForMore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := &fakeQueue{}
		a, stop := run(t, q, agent.Options{})
		defer stop()
		unblock := q.block()
		a.Say("before")
		synctest.Wait()
		done := make(chan error)
		go func() { done <- a.Flush(t.Context()) }()
		synctest.Wait()
		a.Say("after")
		unblockAfter := q.block()
		unblock()
		if err := <-done; err != nil {
			t.Error(err)
		}
		want(t, q.take(), "before")
		unblockAfter()
	})
}

// What is said while a call is under way is not in that call, so its end does not end the wait for it.
func TestFlushWaitsForWhatTheCallLacks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := &fakeQueue{}
		a, stop := run(t, q, agent.Options{})
		defer stop()
		unblock := q.block()
		a.Say("in the call")
		synctest.Wait()
		a.Say("after it")
		done := make(chan error, 1)
		go func() { done <- a.Flush(t.Context()) }()
		synctest.Wait()
		unblockNext := q.block()
		unblock()
		synctest.Wait()
		select {
		case err := <-done:
			t.Errorf("Flush returned %v before all was stored", err)
			done <- err
		default:
		}
		unblockNext()
		if err := <-done; err != nil {
			t.Error(err)
		}
		want(t, q.take(), "in the call", "after it")
	})
}

func TestFlushWaitsThroughFailures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := &fakeQueue{err: errAway}
		a, stop := run(t, q, agent.Options{})
		defer stop()
		a.Say("kept")
		time.AfterFunc(30*time.Second, func() { q.fail(nil) })
		start := time.Now()
		if err := a.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took < 30*time.Second || took > 35*time.Second {
			t.Errorf("Flush took %s, want the 30 s of the outage and one pause at most", took)
		}
		want(t, q.take(), "kept")
	})
}

func TestFlushEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := &fakeQueue{err: errAway}
		a, stop := run(t, q, agent.Options{})
		defer stop()
		a.Say("kept")
		errEnough := errors.New("enough")
		ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Second, errEnough)
		defer cancel()
		if err := a.Flush(ctx); !errors.Is(err, errEnough) {
			t.Errorf("got %v, want the context's cause", err)
		}
		q.fail(nil)
	})
}

func TestFlushesSideBySide(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := &fakeQueue{err: errAway}
		a, stop := run(t, q, agent.Options{})
		defer stop()
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				a.Say(fmt.Sprint("job ", i))
				if err := a.Flush(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		time.Sleep(time.Second)
		q.fail(nil)
		wg.Wait()
		if got := len(q.take()); got != 20 {
			t.Errorf("got %d messages, want 20", got)
		}
	})
}

func TestRunSendsWhatIsLeft(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		outage    time.Duration // after the stop
		want      []string
		wantTook  time.Duration // at most
		wantGrief bool          // in the log
	}{
		"broker is there":             {0, []string{"last words", "0 idle"}, 0, false},
		"broker comes back in time":   {time.Second, []string{"last words", "0 idle"}, 3 * time.Second, false},
		"broker does not come back":   {time.Hour, nil, 3 * time.Second, true},
		"broker comes back too late ": {3*time.Second + 1, nil, 3 * time.Second, true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				q := &fakeQueue{}
				a, stop := run(t, q,
					agent.Options{FlushTimeout: 3 * time.Second, Log: slog.New(slog.NewTextHandler(&log, nil))})
				if c.outage > 0 {
					q.fail(errAway)
					defer time.AfterFunc(c.outage, func() { q.fail(nil) }).Stop()
				}
				a.Say("last words")
				a.Report(0, message.Idle)
				start := time.Now()
				stop()
				if took := time.Since(start); took > c.wantTook {
					t.Errorf("stop took %s, want at most %s", took, c.wantTook)
				}
				want(t, q.take(), c.want...)
				if got := strings.Contains(log.String(), "gave up on the last status messages"); got != c.wantGrief {
					t.Errorf("got a warning %t, want %t:\n%s", got, c.wantGrief, log.String())
				}
				if strings.Contains(log.String(), "takes messages again") {
					t.Errorf("got news of a recovery that nobody saw:\n%s", log.String())
				}
			})
		})
	}
}

// A call that is under way when the stop comes is cut short, and what it carried sent again.
func TestRunStopsInTheMiddleOfACall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := &fakeQueue{}
		unblock := q.block()
		var log bytes.Buffer
		a, stop := run(t, q, agent.Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
		a.Say("one")
		synctest.Wait()
		a.Say("two")
		time.AfterFunc(time.Second, unblock)
		stop()
		want(t, q.take(), "one", "two")
		if log.Len() > 0 {
			t.Errorf("got log %q, want nothing: the broker did no wrong", log.String())
		}
	})
}

func TestRunSendsWhatIsSaidWhileItDrains(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := &fakeQueue{}
		unblock := q.block()
		a, stop := run(t, q, agent.Options{})
		a.Say("one")
		time.AfterFunc(time.Second, func() { // the call of the drain is under way
			a.Say("two")
			unblock()
		})
		stop()
		want(t, q.take(), "one", "two")
	})
}

func TestFlushAfterTheStop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := &fakeQueue{}
		a, stop := run(t, q, agent.Options{})
		a.Say("in time")
		stop()
		if err := a.Flush(t.Context()); err != nil {
			t.Errorf("all was sent: got %v, want nil", err)
		}
		a.Say("too late")
		if err := a.Flush(t.Context()); !errors.Is(err, agent.ErrStopped) {
			t.Errorf("got %v, want ErrStopped", err)
		}
	})
}

func TestTheStopEndsAFlushThatCannotSucceed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := &fakeQueue{err: errAway}
		a, stop := run(t, q, agent.Options{FlushTimeout: time.Second})
		a.Say("lost")
		done := make(chan error)
		go func() { done <- a.Flush(t.Context()) }()
		synctest.Wait()
		go stop()
		if err := <-done; !errors.Is(err, agent.ErrStopped) {
			t.Errorf("got %v, want ErrStopped", err)
		}
	})
}
