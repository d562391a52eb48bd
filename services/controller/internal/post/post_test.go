package post_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"cloudmaster/internal/queue"
	"cloudmaster/internal/queue/memqueue"
	"cloudmaster/services/controller/internal/driver"
	"cloudmaster/services/controller/internal/post"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is a box that runs in a synctest bubble.
type bench struct {
	t     *testing.T
	queue *memqueue.Queue

	mu     sync.Mutex // held by the test but while time passes
	opens  int
	absent bool // there is no queue
	lead   error
	ready  bool
	taken  []string // bodies
	counts map[string]int
	log    strings.Builder
}

// locked calls f while the test waits.
func locked[T any](b *bench, f func() T) T {
	b.mu.Lock()
	defer b.mu.Unlock()
	return f()
}

// Write implements io.Writer, for the log.
func (b *bench) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.log.Write(p)
}

func run(t *testing.T, f func(b *bench)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &bench{
			t: t, queue: memqueue.New("q", queue.Limits{Visibility: 30 * time.Second, Deliveries: 1000}), ready: true,
			counts: make(map[string]int),
		}
		b.mu.Lock()
		d := driver.New(t.Context())
		d.Start(post.New(b.options()).Task())
		f(b)
		b.mu.Unlock()
		d.Stop()
		if err := d.Wait(); err != nil {
			t.Error(err)
		}
	})
}

func (b *bench) options() post.Options {
	return post.Options{
		Use: "events", Name: "q", Until: "it is learned late", Now: time.Now,
		Take: func(_ context.Context, body []byte) post.Taken {
			return locked(b, func() post.Taken { return b.take(string(body)) })
		},
		Lead: func(time.Time) (time.Time, error) {
			return time.Time{}, locked(b, func() error { return b.lead })
		},
		Ready: func() bool { return locked(b, func() bool { return b.ready }) },
		Count: func(use, outcome string, n int) {
			locked(b, func() int { b.counts[use+" "+outcome] += n; return 0 })
		},
		Log: slog.New(slog.NewTextHandler(b, nil)),
		Open: func(context.Context, string) (post.Queue, error) {
			if locked(b, func() bool { b.opens++; return b.absent }) {
				return nil, fmt.Errorf("open queue q: %w", queue.ErrNotFound)
			}
			return b.queue, nil
		},
	}
}

// take wants messages that begin with "again" to come again, and cannot read those that begin with "bad".
func (b *bench) take(text string) post.Taken {
	b.taken = append(b.taken, text)
	switch {
	case strings.HasPrefix(text, "bad"):
		return post.Taken{Outcome: "unparsable", Err: errors.New("it is bad")}
	case strings.HasPrefix(text, "again") && len(b.taken) < 3:
		return post.Taken{Outcome: "ends", Again: true}
	}
	return post.Taken{Outcome: "ends"}
}

func (b *bench) send(bodies ...string) {
	b.t.Helper()
	for _, body := range bodies {
		if err := b.queue.Send(b.t.Context(), []byte(body)); err != nil {
			b.t.Fatal(err)
		}
	}
	b.pass(0)
}

// pass lets time go by.
func (b *bench) pass(d time.Duration) {
	b.mu.Unlock()
	defer b.mu.Lock()
	time.Sleep(d)
	synctest.Wait()
}

func (b *bench) wantTaken(when string, want ...string) {
	b.t.Helper()
	if got := strings.Join(b.taken, ","); got != strings.Join(want, ",") {
		b.t.Errorf("%s: got %s, want %s", when, got, strings.Join(want, ","))
	}
}

// TestMessagesAreTakenAtOnce and removed, and those that do not count are logged, but not all of many.
func TestMessagesAreTakenAtOnce(t *testing.T) {
	run(t, func(b *bench) {
		b.pass(time.Minute)
		b.send("a")
		b.wantTaken("at once", "a")
		for range 50 {
			b.send("bad")
		}
		if n := strings.Count(b.log.String(), "it is bad"); n != 10 {
			t.Errorf("got %d of them logged, want 10 a minute", n)
		}
		left := b.queue.Bodies()
		if len(left) != 0 || b.counts["events unparsable"] != 50 || b.counts["events ends"] != 1 {
			t.Errorf("got %q left and counted %v, want all removed and counted", left, b.counts)
		}
	})
}

// TestWhatMustNotBeLostComesAgain when its visibility timeout is over, until it is done with.
func TestWhatMustNotBeLostComesAgain(t *testing.T) {
	run(t, func(b *bench) {
		b.send("again")
		b.pass(29 * time.Second)
		b.wantTaken("within the timeout", "again")
		b.pass(2 * time.Minute)
		b.wantTaken("after it", "again", "again", "again")
		if left := b.queue.Bodies(); len(left) != 0 {
			t.Errorf("got %q left", left)
		}
	})
}

// TestMessagesAreForWhoLeads and knows the instances. Until then they stay on the queue.
func TestMessagesAreForWhoLeads(t *testing.T) {
	run(t, func(b *bench) {
		b.lead, b.ready = errors.New("another one leads"), true
		b.pass(30 * time.Second)
		b.send("a")
		b.pass(time.Minute)
		b.lead, b.ready = nil, false
		b.pass(time.Minute)
		b.wantTaken("by one that does not lead, or knows nothing")
		b.ready = true
		b.pass(time.Minute)
		b.wantTaken("then", "a")
		b.pass(100 * time.Millisecond) // a look goes on
		b.lead = errors.New("another one leads")
		b.send("b")
		b.pass(time.Second)
		b.wantTaken("after the lease ran out during a look", "a")
		b.lead = nil
		b.pass(time.Minute)
		b.wantTaken("in the end", "a", "b")
	})
}

// TestAQueueThatIsMissing is said once, with what to do, looked for once a minute, and used when it is there.
func TestAQueueThatIsMissing(t *testing.T) {
	run(t, func(b *bench) {
		b.absent = true
		b.queue.FailAfter(memqueue.OpReceive, 0, fmt.Errorf("receive: %w", queue.ErrNotFound))
		b.pass(10 * time.Minute)
		const want = `run controller setup, which makes it" use=events queue=q until_then="it is learned late"`
		if n := strings.Count(b.log.String(), want); n != 1 || strings.Contains(b.log.String(), "level=ERROR") {
			t.Errorf("got %q %d times, want it once and nothing else:\n%s", want, n, b.log.String())
		}
		if b.opens > 12 {
			t.Errorf("got it opened %d times in 10 minutes, want once a minute", b.opens)
		}
		b.absent = false
		b.queue.Heal()
		b.pass(2 * time.Minute)
		b.send("a")
		b.wantTaken("when it is there", "a")
		b.queue.FailAfter(memqueue.OpReceive, 0, fmt.Errorf("receive: %w", queue.ErrNotFound)) // somebody deletes it
		before := b.opens
		b.pass(2 * time.Minute)
		if b.opens == before {
			t.Error("it was not opened anew after it was deleted")
		}
	})
}

// TestAQueueThatCannotBeRead is said once, and tried again with growing pauses.
func TestAQueueThatCannotBeRead(t *testing.T) {
	run(t, func(b *bench) {
		b.queue.FailAfter(memqueue.OpReceive, 0, errors.New("away"))
		b.pass(10 * time.Minute)
		if n := strings.Count(b.log.String(), "cannot be read"); n != 1 {
			t.Errorf("got it said %d times, want once:\n%s", n, b.log.String())
		}
		b.queue.Heal()
		b.send("a")
		b.pass(2 * time.Minute)
		b.wantTaken("when it is back", "a")
		if !strings.Contains(b.log.String(), "can be read again") {
			t.Errorf("got %s, want it said that it is back", b.log.String())
		}
	})
}
