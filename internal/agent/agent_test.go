package agent_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"cloudmaster/internal/agent"
	"cloudmaster/internal/message"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errAway = errors.New("broker is away")

func TestStatusIsSentAtOnceWhenItChanges(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := &fakeQueue{}
		a, stop := run(t, q, agent.Options{Address: "10.0.0.7:20808"})
		defer stop()
		synctest.Wait()
		want(t, q.take()) // nothing to report yet

		start := time.Now()
		a.Report(0, message.Idle)
		synctest.Wait()
		got := q.takeMessages()
		wantStatus := message.Status{
			InstanceID: "i-0abc", State: "active", Activity: message.Idle, Address: "10.0.0.7:20808",
			Timestamp: start.UTC(), Sequence: 1,
		}
		if len(got) != 1 || got[0] != message.Message(wantStatus) {
			t.Fatalf("got %+v, want %+v", got, wantStatus)
		}

		for _, c := range []struct {
			load     float64
			activity message.Activity
			want     []string
		}{
			{0, message.Idle, nil}, // no change
			{1, message.Idle, []string{"1 idle"}},
			{1, message.Busy, []string{"1 busy"}},
			{1, message.Busy, nil},
			{0, "", []string{"0 "}},
		} {
			a.Report(c.load, c.activity)
			synctest.Wait()
			want(t, q.take(), c.want...)
		}
		if waited := time.Since(start); waited != 0 {
			t.Errorf("statuses took %s, want no time", waited)
		}
	})
}

func TestStatusIsSentEveryInterval(t *testing.T) {
	t.Parallel()
	cases := map[string]struct{ option, want time.Duration }{
		"given":          {10 * time.Second, 10 * time.Second},
		"default":        {0, agent.DefaultInterval},
		"less than zero": {-time.Second, agent.DefaultInterval},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				q := &fakeQueue{}
				a, stop := run(t, q, agent.Options{Interval: c.option})
				defer stop()
				time.Sleep(c.want / 2)
				a.Report(0.5, message.Busy)
				synctest.Wait()
				want(t, q.take(), "0.5 busy")
				time.Sleep(c.want * 3)
				synctest.Wait()
				want(t, q.take(), "0.5 busy", "0.5 busy", "0.5 busy")
			})
		})
	}
}

func TestNoStatusBeforeTheFirstReport(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := &fakeQueue{}
		a, stop := run(t, q, agent.Options{})
		defer stop()
		a.Say("starting")
		time.Sleep(time.Hour)
		synctest.Wait()
		want(t, q.take(), "starting")
	})
}

// While one call is under way, only the newest status waits for the next.
func TestStatusesCoalesceAndLogMessagesKeepTheirOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := &fakeQueue{}
		unblock := q.block()
		a, stop := run(t, q, agent.Options{})
		defer stop()
		a.Say("one")
		synctest.Wait()
		a.Report(0, message.Idle)
		a.Say("two")
		a.Report(1, message.Busy)
		a.Say("three")
		a.Report(0.5, message.Busy)
		unblock()
		synctest.Wait()
		want(t, q.take(), "one", "two", "three", "0.5 busy")
		if got := q.count(); got != 2 {
			t.Errorf("got %d calls, want 2", got)
		}
	})
}

func TestNothingIsLostWhileTheBrokerIsAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		q := &fakeQueue{err: errAway}
		a, stop := run(t, q, agent.Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
		a.Report(0, message.Idle)
		var wantWords []string
		for i := range 20 {
			a.Say(fmt.Sprint("job ", i))
			wantWords = append(wantWords, fmt.Sprint("job ", i))
			time.Sleep(time.Second)
		}
		a.Report(1, message.Busy)
		synctest.Wait()
		want(t, q.take())
		q.fail(nil)
		time.Sleep(5 * time.Second) // the longest pause between attempts
		synctest.Wait()
		want(t, q.take(), append(wantWords, "1 busy")...)

		q.fail(errAway)
		a.Say("again")
		synctest.Wait()
		q.fail(nil)
		stop()
		want(t, q.take(), "again")
		away := strings.Count(log.String(), "does not take messages")
		back := strings.Count(log.String(), "takes messages again")
		if away != 2 || back != 1 {
			t.Errorf("got %d lines that it went away and %d that it came back, want 2 (once each time) and 1:\n%s",
				away, back, log.String())
		}
	})
}

// A broker that is away must not be called in a tight loop, whatever the program says.
func TestAttemptsSlowDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := &fakeQueue{err: errAway}
		a, stop := run(t, q, agent.Options{})
		for range 6000 { // ten minutes
			a.Say("tick")
			time.Sleep(100 * time.Millisecond)
		}
		if got := q.count(); got < 600/5 || got > 300 {
			t.Errorf("got %d attempts in 10 minutes, want one each 2.5 to 5 s", got)
		}
		q.fail(nil)
		stop()
	})
}

// When a call fails after it stored a part, that part is sent twice and the rest once, in order.
func TestAStoredPrefixIsSentAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := &fakeQueue{err: errAway, prefix: 1}
		a := agent.New(q, "i-0abc", agent.Options{})
		a.Say("one")
		a.Say("two")
		ctx, cancel := context.WithCancel(t.Context())
		go a.Run(ctx) //nolint:errcheck // always nil; Flush below waits for it
		synctest.Wait()
		a.Say("three")
		q.fail(nil)
		if err := a.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		cancel()
		want(t, q.take(), "one", "one", "two", "three")
	})
}

func TestTheOldestAreDroppedAndCounted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := &fakeQueue{err: errAway}
		a, stop := run(t, q, agent.Options{Outbox: 3})
		defer stop()
		a.Report(1, message.Busy)
		for i := range 10 {
			a.Say(fmt.Sprint("job ", i))
			time.Sleep(10 * time.Second) // several attempts: what they give back must not push out more
		}
		time.Sleep(time.Hour)
		q.fail(nil)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		const notice = "7 log messages were dropped while the broker was away"
		want(t, q.take(), "job 7", "job 8", "job 9", notice, "1 busy")

		a.Say("next")
		synctest.Wait()
		want(t, q.take(), "next") // said once
	})
}

// The bound also holds for what was said while a call that then fails was under way.
func TestTheBoundHoldsForWhatIsGivenBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := &fakeQueue{err: errAway}
		unblock := q.block()
		a, stop := run(t, q, agent.Options{Outbox: 3})
		defer stop()
		a.Say("job 0")
		a.Say("job 1")
		a.Say("job 2")
		synctest.Wait()
		a.Say("job 3")
		a.Say("job 4")
		unblock()
		synctest.Wait()
		q.fail(nil)
		time.Sleep(time.Second)
		synctest.Wait()
		want(t, q.take(), "job 2", "job 3", "job 4", "2 log messages were dropped while the broker was away")
	})
}

func TestSequenceGrows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := &fakeQueue{}
		a, stop := run(t, q, agent.Options{Outbox: 5, Interval: time.Second})
		for i := range 40 {
			if i%10 == 0 {
				q.fail(errAway)
			}
			a.Say("a")
			a.Report(float64(i), message.Busy)
			a.Say("b")
			time.Sleep(700 * time.Millisecond)
			if i%10 == 5 {
				q.fail(nil)
			}
		}
		q.fail(nil)
		stop()
		var last message.Message
		for _, m := range q.takeMessages() {
			if last != nil && !newer(m, last) {
				t.Errorf("%+v came after %+v", m, last)
			}
			last = m
		}
		if last == nil {
			t.Error("nothing was stored")
		}
	})
}

// newer compares as the controller does; the sequence alone must grow, too.
func newer(m, than message.Message) bool {
	at, seq := stamp(m)
	thanAt, thanSeq := stamp(than)
	return seq > thanSeq && message.After(at, seq, thanAt, thanSeq)
}

func stamp(m message.Message) (time.Time, uint64) {
	switch m := m.(type) {
	case message.Status:
		return m.Timestamp, m.Sequence
	case message.Log:
		return m.Timestamp, m.Sequence
	}
	panic("neither status nor log")
}

func TestALoadThatIsNoneDoesNotStopTheRest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		q := &fakeQueue{}
		a, stop := run(t, q, agent.Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
		a.Report(-1, message.Busy)
		a.Say("still here")
		synctest.Wait()
		a.Report(1, message.Busy)
		stop()
		want(t, q.take(), "still here", "1 busy")
		if !strings.Contains(log.String(), "load_estimate is -1") {
			t.Errorf("got log %q, want the reason in it", log.String())
		}
	})
}

// TestWhatIsRetractedIsNotSentAgain, whether it waits or is being sent in vain.
func TestWhatIsRetractedIsNotSentAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := &fakeQueue{err: errAway}
		a, stop := run(t, q, agent.Options{})
		a.Say("waits")
		synctest.Wait()
		a.Retract("waits")
		unblock := q.block()
		a.Say("under way")
		a.Say("stays")
		time.Sleep(5 * time.Second) // the longest pause between attempts
		a.Retract("under way")
		unblock()
		synctest.Wait()
		q.fail(nil)
		stop()
		want(t, q.take(), "stays")
	})
}

// TestDrainIsSaidAtOnceAndInEveryFurtherStatus also when nothing was reported before.
func TestDrainIsSaidAtOnceAndInEveryFurtherStatus(t *testing.T) {
	t.Parallel()
	states := func(q *fakeQueue) (out []string) {
		for _, m := range q.takeMessages() {
			if s, ok := m.(message.Status); ok {
				out = append(out, fmt.Sprintf("%s %v", s.State, s.Load))
			}
		}
		return out
	}
	synctest.Test(t, func(t *testing.T) {
		q := &fakeQueue{}
		a, stop := run(t, q, agent.Options{Interval: time.Minute})
		a.Report(0.5, message.Busy)
		synctest.Wait()
		want(t, states(q), "active 0.5")
		a.Drain()
		a.Drain() // says nothing new
		if err := a.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		want(t, states(q), "draining 0.5")
		time.Sleep(time.Minute)
		synctest.Wait()
		want(t, states(q), "draining 0.5")
		a.Report(0, message.Idle)
		stop()
		want(t, states(q), "draining 0")
	})
	synctest.Test(t, func(t *testing.T) {
		q := &fakeQueue{}
		a, stop := run(t, q, agent.Options{})
		a.Drain()
		synctest.Wait()
		want(t, states(q)) // there is no load yet that could be said
		a.Report(0, message.Idle)
		stop()
		want(t, states(q), "draining 0")
	})
}
