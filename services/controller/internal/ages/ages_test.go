package ages_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
	"cloudmaster/services/controller/internal/ages"
	"cloudmaster/services/controller/internal/record"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a broker whose ages the test sets, and whoever is told of them. Run uses it, in simulated time.
type world struct {
	mu    sync.Mutex
	ages  map[string]queue.Age
	err   error
	hangs bool
	asked [][]string
	told  map[pool.Name]record.Ages
	skew  time.Duration // by which our clock was moved
	log   strings.Builder
}

func (w *world) Ages(ctx context.Context, names ...string) (map[string]queue.Age, error) {
	w.mu.Lock()
	w.asked = append(w.asked, names)
	out, err, hangs := maps.Clone(w.ages), w.err, w.hangs
	w.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	return out, err
}

func (w *world) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// Write keeps the log.
func (w *world) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(p)
}

// said returns how often the log has a text, and forgets the log.
func (w *world) said(text string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer w.log.Reset()
	return strings.Count(w.log.String(), text)
}

func run(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{told: make(map[pool.Name]record.Ages)}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() {
			ended <- ages.Run(ctx, ages.Options{
				Queues: func() map[pool.Name]string { return map[pool.Name]string{"a": "a-work", "b": "b-work"} },
				Tell: func(name pool.Name, told record.Ages) {
					w.set(func() { w.told[name] = told })
				},
				Ages: w, Now: func() time.Time {
					w.mu.Lock()
					defer w.mu.Unlock()
					return time.Now().Add(w.skew)
				}, Log: slog.New(slog.NewTextHandler(w, nil)),
			})
		}()
		f(t, w)
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("got %v, want no error", err)
		}
	})
}

const (
	day  = 24 * time.Hour
	keep = 14 * day
	lost = "messages are about to be lost"
)

// TestOneQuestionForAll: each look is one question, and each pool is told of its two queues.
func TestOneQuestionForAll(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world) {
		w.set(func() {
			w.ages = map[string]queue.Age{"a-work": {Known: true, Oldest: time.Hour}, "b-work-dead": {Known: true}}
		})
		time.Sleep(time.Minute)
		w.set(func() {
			want := []string{"a-work", "a-work-dead", "b-work", "b-work-dead"}
			if len(w.asked) != 1 || !slices.Equal(w.asked[0], want) {
				t.Errorf("after a minute: got %v, want one question for %v", w.asked, want)
			}
			a, b := w.told["a"], w.told["b"]
			if a.Work.Oldest != time.Hour || a.Dead.Known || b.Work.Known || !b.Dead.Known || a.At.IsZero() {
				t.Errorf("got a %+v and b %+v, want what is known of each", a, b)
			}
		})
		time.Sleep(day)
		w.set(func() {
			if n := len(w.asked); n < 96 || n > 98 {
				t.Errorf("got %d questions in a day, want one every 15 minutes", n)
			}
		})
	})
}

// TestWarnsOnceADay from the tenth day on, of each queue by itself, and only where something is forgotten.
func TestWarnsOnceADay(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world) {
		is := func(oldest, retention time.Duration) {
			age := queue.Age{Known: true, Oldest: oldest, Retention: retention}
			w.set(func() { w.ages = map[string]queue.Age{"a-work": age} })
		}
		is(10*day-time.Second, keep)
		time.Sleep(day)
		if n := w.said(lost); n != 0 {
			t.Errorf("before the tenth day: got %d warnings, want none", n)
		}
		is(100*day, 0)
		time.Sleep(day)
		if n := w.said(lost); n != 0 {
			t.Errorf("of a queue that never forgets: got %d warnings, want none", n)
		}
		is(10*day, keep)
		time.Sleep(3*day + time.Hour)
		if n := w.said(lost); n != 4 {
			t.Errorf("in three days and an hour: got %d warnings, want 4", n)
		}
		w.set(func() {
			w.ages["b-work-dead"] = queue.Age{Known: true, Oldest: 11 * day, AtLeast: true, Retention: keep}
		})
		at := time.Now().Add(3 * day)
		time.Sleep(16 * time.Minute)
		w.set(func() {
			for _, want := range []string{
				lost, "pool=b queue=b-work-dead", `oldest="at least 11d0h"`, at.UTC().Format("2006-01-02T15:"),
				"at the latest", "look at these dead letters now",
			} {
				if !strings.Contains(w.log.String(), want) {
					t.Errorf("got %s, want %q in it", w.log.String(), want)
				}
			}
			if strings.Contains(w.log.String(), "pool=a") {
				t.Errorf("got %s, want no second warning about a", w.log.String())
			}
		})
	})
}

// TestAClockThatIsSetBack does not silence the warnings.
func TestAClockThatIsSetBack(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world) {
		w.set(func() { w.ages = map[string]queue.Age{"a-work": {Known: true, Oldest: 12 * day, Retention: keep}} })
		time.Sleep(time.Minute)
		w.set(func() { w.skew = -30 * day })
		time.Sleep(day)
		if n := w.said(lost); n != 2 {
			t.Errorf("got %d warnings, want one before and one after the clock was set back", n)
		}
	})
}

// TestWhatCannotBeReadIsUnknown, which is said once, and neither an old age nor 0. A broker that does not answer holds
// up nothing for ever.
func TestWhatCannotBeReadIsUnknown(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world) {
		w.set(func() { w.ages = map[string]queue.Age{"a-work": {Known: true, Oldest: time.Hour}} })
		time.Sleep(time.Minute)
		for _, fault := range []func(){
			func() { w.ages, w.err = nil, fmt.Errorf("%w; the policy grants it", queue.ErrDenied) },
			func() { w.err, w.hangs = nil, true },
		} {
			w.set(fault)
			time.Sleep(2 * time.Hour)
			w.set(func() {
				if got := w.told["a"]; got.Work.Known || got.At.IsZero() {
					t.Errorf("got %+v, want it unknown", got)
				}
			})
		}
		if n := w.said("it cannot be read how old messages are"); n != 1 {
			t.Errorf("got %d warnings, want 1", n)
		}
		w.set(func() { w.hangs, w.ages = false, map[string]queue.Age{"a-work": {Known: true}} })
		time.Sleep(time.Hour)
		if n := w.said("it can be read again"); n != 1 {
			t.Errorf("got %d lines about the end, want 1", n)
		}
		w.set(func() { w.err = errors.New("away") })
		time.Sleep(time.Hour)
		if n := w.said("away"); n != 1 {
			t.Errorf("got %d warnings about the next fault, want 1", n)
		}
	})
}
