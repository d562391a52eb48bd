package intake_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/message"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
	"cloudmaster/internal/queue/memqueue"
	"cloudmaster/services/controller/internal/intake"
	"cloudmaster/services/controller/internal/record"
	"cloudmaster/services/controller/internal/roster"
)

var errAway = errors.New("the broker is away")

// bench is an intake of a status queue in memory, in a synctest bubble.
type bench struct {
	*intake.Intake

	t       *testing.T
	queue   *memqueue.Queue
	broker  *broker
	roster  *roster.Roster
	changed int
	seq     uint64
	over    bool // the lease has run out
}

// run runs f on a bench whose roster has the instance i-1.
func run(t *testing.T, f func(t *testing.T, b *bench)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &bench{
			t: t, queue: memqueue.New("status", queue.Limits{Visibility: 30 * time.Second}),
			roster: roster.New("mem", roster.Options{}),
		}
		b.broker = &broker{Queue: b.queue}
		b.roster.Observe([]cloud.Instance{{ID: "i-1", Phase: cloud.Running}}, time.Now(), time.Now())
		b.Intake = intake.New(b.broker, b.roster, intake.Options{
			Pool: "fib", Parse: message.ParseStd, Now: time.Now, Wait: time.Second, Lead: b.lead,
			Changed: func() { b.changed++ },
		})
		f(t, b)
	})
}

// broker is a queue whose calls are noted.
type broker struct {
	*memqueue.Queue

	behind   time.Duration // how far its clock is behind
	sender   string        // who has sent all messages, by its word
	waits    []time.Duration
	backlogs int
}

// Receive implements intake.Queue.
func (q *broker) Receive(ctx context.Context, most int, wait time.Duration) ([]queue.Message, error) {
	q.waits = append(q.waits, wait)
	got, err := q.Queue.Receive(ctx, most, wait)
	for i := range got {
		got[i].SentAt, got[i].Sender = got[i].SentAt.Add(-q.behind), q.sender
	}
	return got, err
}

// Backlog implements intake.Queue.
func (q *broker) Backlog(ctx context.Context) (pool.Backlog, error) {
	q.backlogs++
	return q.Queue.Backlog(ctx)
}

func (b *bench) lead(now time.Time) (time.Time, error) {
	if b.over {
		return time.Time{}, errors.New("the lease has run out")
	}
	return now.Add(time.Minute), nil
}

// look takes in what is there, and pauses as long as it should.
func (b *bench) look() record.Intake {
	said, pause := b.Step(b.t.Context(), time.Now())
	time.Sleep(pause)
	return said
}

// lookFor looks again and again for so long.
func (b *bench) lookFor(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		b.look()
	}
}

// say has i-1 report a load n times.
func (b *bench) say(n int, load float64) {
	b.t.Helper()
	for range n {
		b.seq++
		body, err := message.EncodeStatus(message.Status{
			InstanceID: "i-1", State: "active", Load: load, Timestamp: time.Now(), Sequence: b.seq,
		})
		if err != nil {
			b.t.Fatal(err)
		}
		b.put(body)
	}
}

func (b *bench) put(bodies ...[]byte) {
	b.t.Helper()
	if err := b.queue.Send(b.t.Context(), bodies...); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) wantDeaf(when string, want bool) {
	b.t.Helper()
	if got := b.roster.Deaf(); got != want {
		b.t.Errorf("%s: got deaf %v, want %v", when, got, want)
	}
}

// TestHearsAfterAnOutageWhenAllIsTakenIn checks that a controller which hears again does not go by what instances said
// first in the outage while what they said last is still on the queue.
func TestHearsAfterAnOutageWhenAllIsTakenIn(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.lookFor(time.Minute)
		b.wantDeaf("with an empty queue", false)
		b.queue.FailAfter(memqueue.OpReceive, 0, errAway)
		b.lookFor(10 * time.Minute)
		b.wantDeaf("in the outage", true)
		b.say(1000, 0)
		b.say(500, 1)
		b.queue.Heal()
		b.look()
		b.wantDeaf("after the first of two batches", true)
		b.lookFor(5 * time.Second)
		b.wantDeaf("after the second", false)
		if in := b.roster.Instances(time.Now())[0]; in.Load != 1 {
			t.Errorf("got load %v, want 1", in.Load)
		}
	})
}

// TestWaitsForWhatIsInFlight checks that messages which somebody else has received count as not heard until they have
// come back.
func TestWaitsForWhatIsInFlight(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.say(1, 1)
		if got, err := b.queue.Receive(t.Context(), 1, 0); err != nil || len(got) != 1 {
			t.Fatalf("got %d messages and error %v, want one", len(got), err)
		}
		b.lookFor(b.queue.Visibility() - 5*time.Second)
		b.wantDeaf("before it comes back", true)
		b.lookFor(10 * time.Second)
		b.wantDeaf("after it has come back", false)
	})
}

// TestOneFailureDeafensNobody, and the second in a row does.
func TestOneFailureDeafensNobody(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.lookFor(5 * time.Second)
		b.queue.FailAfter(memqueue.OpReceive, 0, errAway)
		if said := b.look(); !errors.Is(said.Err, errAway) || said.Failures != 1 || said.Deaf {
			t.Errorf("the first failure: got %+v", said)
		}
		b.wantDeaf("after one failure", false)
		if said := b.look(); said.Failures != 2 || !said.Deaf {
			t.Errorf("the second failure: got %+v", said)
		}
		b.wantDeaf("after two", true)
		if said := b.look(); said.Failures != 3 || said.Deaf {
			t.Errorf("the third failure: got %+v, want that it is deaf to be said once", said)
		}
		b.queue.Heal()
		if said := b.look(); !said.Hears || said.Failures != 3 || said.Err != nil {
			t.Errorf("after the outage: got %+v", said)
		}
		if said := b.look(); said.Hears || said.Failures != 0 {
			t.Errorf("later: got %+v, want no more of it", said)
		}
	})
}

// TestTakesNothingWithoutALease: the messages are for the controller that leads.
func TestTakesNothingWithoutALease(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.lookFor(5 * time.Second)
		b.over = true
		b.say(1, 1)
		b.lookFor(time.Minute)
		b.wantDeaf("without a lease", true)
		if got, err := b.queue.Backlog(t.Context()); err != nil || got.Visible != 1 {
			t.Errorf("got backlog %+v and error %v, want the message left where it is", got, err)
		}
		b.over = false
		if said := b.look(); said.Hears || said.Messages != 1 { // nobody was told that it did not
			t.Errorf("with a lease again: got %+v, want the message", said)
		}
		b.wantDeaf("after the first look, which has found a message that was waiting", true)
		b.lookFor(5 * time.Second)
		b.wantDeaf("with a lease again", false)
	})
}

// TestTakenInMessagesAreDeletedOnce checks what becomes of messages, and what is said of them.
func TestTakenInMessagesAreDeletedOnce(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.lookFor(5 * time.Second)
		b.say(1, 0.5)
		hello := message.Log{InstanceID: "i-1", Text: "hello", Timestamp: time.Now(), Sequence: 9}
		line, err := message.EncodeLog(hello)
		if err != nil {
			t.Fatal(err)
		}
		b.put(line, line, []byte("{"))
		b.changed = 0
		b.queue.NextError(memqueue.OpDelete, errAway)
		said := b.look()
		if got := fmt.Sprint(said.Outcomes); got != "map[accepted:2 outdated:1 unparsable:1]" {
			t.Errorf("got %s", got)
		}
		if len(said.Said) != 1 || len(said.Garbage) != 1 || said.Messages != 4 || !errors.Is(said.Undeleted, errAway) {
			t.Errorf("got %+v, want one line, one that is garbage, and that nothing is deleted", said)
		}
		if b.changed != 1 {
			t.Errorf("got %d passes asked for, want 1", b.changed)
		}
		time.Sleep(b.queue.Visibility())
		said = b.look()
		if len(said.Said) != 0 || said.Undeleted != nil || b.changed != 1 {
			t.Errorf("when they come again: got %+v and %d passes, want no news", said, b.changed)
		}
		if got := b.queue.Bodies(); len(got) != 0 {
			t.Errorf("got %q left on the queue, want nothing", got)
		}
	})
}

// TestUnknownAndFutureOnes checks who makes a pass run, and who is named.
func TestUnknownAndFutureOnes(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.lookFor(5 * time.Second)
		b.changed = 0
		for _, c := range []struct {
			id      pool.InstanceID
			ahead   time.Duration
			changed int
			future  int
		}{{"i-9", 0, 0, 0}, {"i-1", time.Hour, 1, 1}} {
			body, err := message.EncodeStatus(message.Status{
				InstanceID: c.id, State: "active", Load: 1, Timestamp: time.Now().Add(c.ahead), Sequence: 1,
			})
			if err != nil {
				t.Fatal(err)
			}
			b.put(body)
			said := b.look()
			if b.changed != c.changed || len(said.Future) != c.future {
				t.Errorf("%s: got %d passes and %q from the future, want %d and %d", c.id, b.changed, said.Future,
					c.changed, c.future)
			}
		}
	})
}

// TestAHintIsNoStatus: it has a queue of its own, and whoever may send one must not need this queue.
func TestAHintIsNoStatus(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.lookFor(5 * time.Second)
		b.changed = 0
		hint, err := message.EncodeHint(message.Hint{Queue: "work", Timestamp: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		b.put(hint)
		said := b.look()
		if b.changed != 0 || said.Outcomes["unparsable"] != 1 || len(said.Garbage) != 1 {
			t.Errorf("got %d passes and %+v, want a message that cannot be read", b.changed, said)
		}
	})
}

// TestHearsWhenNothingIsWaitingAnyMore, and then a pass looks at it.
func TestHearsWhenNothingIsWaitingAnyMore(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.say(2, 1)
		if said := b.look(); said.Messages != 2 || said.Pool != "fib" || !said.At.Equal(time.Now()) {
			t.Errorf("got %+v", said)
		}
		b.wantDeaf("after what was waiting", true)
		b.changed = 0
		b.look()
		b.wantDeaf("after an empty look", false)
		if b.changed != 1 {
			t.Errorf("got %d passes, want one", b.changed)
		}
		b.broker.backlogs = 0
		b.lookFor(time.Minute)
		if b.broker.backlogs > 0 {
			t.Errorf("got %d looks at the depth by one who hears, want none", b.broker.backlogs)
		}
	})
}

// TestTwoFailuresAreAnOutage, whose end is said.
func TestTwoFailuresAreAnOutage(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.lookFor(5 * time.Second)
		b.queue.FailAfter(memqueue.OpReceive, 0, errAway)
		b.look()
		b.look()
		b.queue.Heal()
		if said := b.look(); !said.Hears || said.Failures != 2 {
			t.Errorf("got %+v, want that it hears after 2 failures", said)
		}
	})
}

// TestClockOfTheBrokerBehind deafens for a while only, but not while whole batches come: those may have been waiting.
func TestClockOfTheBrokerBehind(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.broker.behind = time.Hour
		for range 59 {
			b.say(1, 1)
			b.look()
			b.wantDeaf("in the first minute", true)
			time.Sleep(time.Second)
		}
		time.Sleep(2 * time.Second)
		b.say(1500, 1)
		b.look()
		b.wantDeaf("after a whole batch", true)
		b.look()
		b.wantDeaf("after less than one", false)
	})
}

// TestLooksWaitLongOnlyWhenAllIsTakenIn.
func TestLooksWaitLongOnlyWhenAllIsTakenIn(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		i := intake.New(b.broker, b.roster, intake.Options{
			Pool: "fib", Parse: message.ParseStd, Now: time.Now, Changed: func() {},
		})
		look := func() { i.Step(t.Context(), time.Now()) }
		look()
		look()
		b.queue.NextError(memqueue.OpReceive, errAway)
		look()
		look()
		look()
		want := []time.Duration{time.Second, intake.LongWait, intake.LongWait, time.Second, intake.LongWait}
		if !slices.Equal(b.broker.waits, want) || intake.LongWait != 20*time.Second {
			t.Errorf("got waits %v, want %v", b.broker.waits, want)
		}
	})
}

// TestTheStopIsNoFailure of the queue.
func TestTheStopIsNoFailure(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.lookFor(5 * time.Second)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for range 3 {
			if said, pause := b.Step(ctx, time.Now()); said.Err != nil || pause != 0 {
				t.Errorf("got %+v and a pause of %s", said, pause)
			}
		}
		b.wantDeaf("at the stop", false)
	})
}

// TestGarbageIsSaidAFewTimesAMinute, and the rest is counted.
func TestGarbageIsSaidAFewTimesAMinute(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.lookFor(5 * time.Second)
		for n, want := range []struct{ said, unsaid int }{{10, 0}, {0, 0}, {10, 14}} {
			if n == 2 {
				time.Sleep(time.Minute)
			}
			for range 12 {
				b.put([]byte("{"))
			}
			said := b.look()
			unsaid := 0
			for _, g := range said.Garbage {
				unsaid += g.Unsaid
			}
			if len(said.Garbage) != want.said || unsaid != want.unsaid || said.Outcomes["unparsable"] != 12 {
				t.Errorf("look %d: got %d said and %d not, want %+v", n, len(said.Garbage), unsaid, want)
			}
		}
	})
}

// TestFailuresPause for longer and longer, up to seconds.
func TestFailuresPause(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.queue.FailAfter(memqueue.OpReceive, 0, errAway)
		start := time.Now()
		for range 100 {
			b.look()
		}
		if took := time.Since(start); took < 3*time.Minute || took > 10*time.Minute {
			t.Errorf("100 looks that failed took %s, want minutes", took)
		}
	})
}
