package desired_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cloudmaster/internal/blob"
	"cloudmaster/internal/blob/memblob"
	"cloudmaster/internal/cloud"
	"cloudmaster/internal/cloud/memcloud"
	"cloudmaster/internal/message"
	"cloudmaster/internal/policy"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
	"cloudmaster/internal/queue/memqueue"
	"cloudmaster/services/controller/internal/app"
	"cloudmaster/services/controller/internal/desired"
	"cloudmaster/services/controller/internal/driver"
	"cloudmaster/services/controller/internal/lease"
	"cloudmaster/services/controller/internal/record"
)

// world is what controllers run on, and stays when they end. Everything in it happens in the goroutine of the
// test.
type world struct {
	t       *testing.T
	rng     *rand.Rand
	account *memcloud.Account
	store   *memblob.Store
	queues  map[string]*memqueue.Queue
	broken  error           // why no new queue can be opened
	deleted map[string]bool // the queues that somebody has deleted
	opens   map[string]int  // how often each queue was opened
	lag     time.Duration   // how far the cloud's lists may be behind, as controllers reckon

	reported time.Time // when the instances reported last
	out      *strings.Builder
	passes   []*record.Record
}

func newWorld(t *testing.T, seed uint64) *world {
	t.Helper()
	account, err := memcloud.New(memcloud.Options{TerminateDelay: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return &world{
		t: t, rng: rand.New(rand.NewPCG(seed, 1)), account: account, store: memblob.New(),
		lag: 10 * time.Second, queues: make(map[string]*memqueue.Queue), out: &strings.Builder{},
		deleted: make(map[string]bool), opens: make(map[string]int),
	}
}

// Pass implements report.Sink: it keeps the record.
func (w *world) Pass(_ context.Context, r *record.Record) {
	w.passes = append(w.passes, r)
	line, err := json.Marshal(r)
	if err != nil {
		w.t.Error(err)
	}
	fmt.Fprintf(w.out, "%s\n", line)
}

// Intake implements report.Sink: it keeps what a look at a queue brought.
func (w *world) Intake(_ context.Context, in *record.Intake) {
	fmt.Fprintf(w.out, "%s %s: %d messages %v\n", in.At, in.Pool, in.Messages, in.Outcomes)
}

func (w *world) queue(name string) *memqueue.Queue {
	if w.queues[name] == nil {
		w.queues[name] = memqueue.New(name, queue.Limits{Visibility: time.Minute, Deliveries: 100})
	}
	return w.queues[name]
}

// parts returns the parts of a controller with the given process id.
func (w *world) parts(pid int) app.Parts {
	return app.Parts{
		Store: w.store, Sink: w, Now: time.Now, Wait: 200 * time.Millisecond, Log: slog.New(slog.DiscardHandler),
		Token: func() string { return fmt.Sprintf("%016X", w.rng.Uint64()) },
		Pause: func(int) time.Duration { return time.Second },
		Lease: lease.Options{Host: "test", PID: pid},
		OpenQueue: func(_ context.Context, name string, _ queue.Limits) (queue.Queue, error) {
			w.opens[name]++
			if w.broken != nil && (w.queues[name] == nil || w.deleted[name]) {
				return nil, w.broken
			}
			q := w.queue(name)
			q.Restore()
			delete(w.deleted, name)
			return q, nil
		},
		OpenCloud: func(context.Context, pool.CloudName, func()) (desired.Machines, error) {
			return desired.Machines{Cloud: w.account.Cloud("test"), ListLag: w.lag, Audit: 5 * time.Second},
				nil
		},
	}
}

// lead makes a controller whose tasks the test steps.
func (w *world) lead(pid int) (*app.Controller, *driver.Manual, error) {
	tasks := &driver.Manual{}
	c, err := app.Lead(w.t.Context(), w.parts(pid), tasks, tasks)
	return c, tasks, err
}

func (w *world) mustLead(pid int) (*app.Controller, *driver.Manual) {
	w.t.Helper()
	c, tasks, err := w.lead(pid)
	if err != nil {
		w.t.Fatal(err)
	}
	return c, tasks
}

func (w *world) apply(c *app.Controller, want ...desired.Pool) desired.Changes {
	w.t.Helper()
	changes, err := c.Apply(w.t.Context(), want)
	if err != nil {
		w.t.Fatal(err)
	}
	return changes
}

// run lets time pass, and steps every task that is due, in a random order.
func (w *world) run(tasks *driver.Manual, d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		w.report()
		due := tasks.Due(w.t.Context(), time.Now())
		if len(due) == 0 {
			next := tasks.Next(w.t.Context(), time.Now())
			if next.IsZero() || next.After(end) {
				next = end
			}
			time.Sleep(max(time.Millisecond, time.Until(next)))
			continue
		}
		tasks.Step(w.t.Context(), due[w.rng.IntN(len(due))], time.Now())
	}
}

// report makes every instance that runs report that it is idle.
func (w *world) report() {
	if time.Since(w.reported) < time.Second {
		return
	}
	w.reported = time.Now()
	for _, in := range w.account.Instances() {
		if in.Phase != cloud.Running || w.deleted[in.Tags[cloud.TagPool]+"-status"] {
			continue
		}
		body, err := message.EncodeStatus(message.Status{
			InstanceID: in.ID, State: "active", Activity: message.Idle, Timestamp: time.Now(), Address: "host:1",
			Sequence: uint64(time.Now().UnixNano()),
		})
		if err != nil {
			w.t.Fatal(err)
		}
		if err := w.queue(in.Tags[cloud.TagPool]+"-status").Send(w.t.Context(), body); err != nil {
			w.t.Fatal(err)
		}
	}
}

// running lists the instances of a pool that have not begun to end.
func (w *world) running(name pool.Name) (out []pool.InstanceID) {
	for _, in := range w.account.Instances() {
		if in.Phase != cloud.Terminating && in.Tags[cloud.TagPool] == string(name) {
			out = append(out, in.ID)
		}
	}
	return out
}

// want returns a pool of a fixed size.
func want(name pool.Name, least, most int) desired.Pool {
	p := desired.Pool{
		Name: name, Cloud: "mem", Revision: fmt.Sprint(least, most), OnRemove: desired.Leave, Publishes: true,
		Work: desired.Queue{Name: string(name) + "-work"}, Status: desired.Queue{Name: string(name) + "-status"},
		Parser: "std", Parse: message.Parsers()["std"],
	}
	p.Loop.Image = "image"
	p.Loop.UserData = func(pool.InstanceID) ([]byte, error) { return []byte("{}"), nil }
	p.Loop.PolicyInterval, p.Loop.ReportInterval, p.Loop.ActiveSetInterval = 10*time.Second, time.Minute, time.Minute
	p.Loop.Judge = policy.Judge{
		Policy: policy.Fixed{}, Watchdog: policy.Watchdog{Interval: time.Minute, BreakerRatio: 0.5},
		Limits: pool.Limits{Minimum: least, Maximum: most, StartLimit: 10, StopLimit: 10},
	}
	return p
}

// done returns the endings of one kind that happened in a pass.
func done(r *record.Record, act record.Act) []record.Ending {
	return slices.DeleteFunc(slices.Clone(r.Endings), func(e record.Ending) bool { return e.Act != act || e.Spared })
}

func same(a, b []pool.InstanceID) bool { return slices.Equal(a, b) }

func bubble(t *testing.T, f func(w *world)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { f(newWorld(t, 1)) })
}

func TestPoolsComeAndGo(t *testing.T) {
	bubble(t, func(w *world) {
		c, tasks := w.mustLead(1)
		if got := w.apply(c, want("a", 2, 4), want("b", 1, 4)); fmt.Sprint(got.Added) != "[a b]" {
			w.t.Errorf("got %+v, want a and b added", got)
		}
		w.run(tasks, 30*time.Second)
		a, b := w.running("a"), w.running("b")
		if len(a) != 2 || len(b) != 1 {
			w.t.Fatalf("got %v and %v, want two and one", a, b)
		}
		if got := w.apply(c, want("a", 2, 4), want("b", 1, 4)); !got.Empty() {
			w.t.Errorf("the same again: got %+v, want nothing to do", got)
		}
		// a is changed, b is removed and its instances run on, c is added.
		got := w.apply(c, want("a", 3, 4), want("c", 1, 1))
		if fmt.Sprint(got.Added, got.Changed, got.Removed) != "[c] [a] [b]" {
			w.t.Errorf("got %+v", got)
		}
		w.run(tasks, 30*time.Second)
		if now := w.running("a"); len(now) != 3 || !same(now[:2], a) {
			w.t.Errorf("got %v of a, want %v and one more", now, a)
		}
		if now := w.running("b"); !same(now, b) {
			w.t.Errorf("got %v of b, which was removed and left alone, want %v", now, b)
		}
		w.apply(c, want("a", 3, 4), want("b", 1, 4), want("c", 1, 1)) // b is added again and adopts its instances
		w.run(tasks, 30*time.Second)
		if now := w.running("b"); !same(now, b) {
			w.t.Errorf("got %v of b after it came back, want %v", now, b)
		}
	})
}

// TestRefusedWhole checks that nothing changes if one of the new pools cannot be opened.
func TestRefusedWhole(t *testing.T) {
	bubble(t, func(w *world) {
		c, tasks := w.mustLead(1)
		w.apply(c, want("a", 1, 4))
		w.run(tasks, 30*time.Second)
		w.broken = errors.New("no more queues")
		_, err := c.Apply(w.t.Context(), []desired.Pool{want("a", 3, 4), want("b", 1, 1)})
		if !errors.Is(err, w.broken) || !strings.Contains(err.Error(), "pool b: open work queue") {
			w.t.Errorf("got %v, want why b cannot be opened", err)
		}
		w.run(tasks, 30*time.Second)
		if a := w.running("a"); len(a) != 1 {
			w.t.Errorf("got %v, want a unchanged", a)
		}
	})
}

// TestRemovedAndDrained checks that a removed pool with on_remove: drain ends its instances, with that cause,
// and then itself.
func TestRemovedAndDrained(t *testing.T) {
	bubble(t, func(w *world) {
		c, tasks := w.mustLead(1)
		drained := want("a", 3, 4)
		drained.OnRemove = desired.Drain
		w.apply(c, drained)
		w.run(tasks, 30*time.Second)
		if got := w.apply(c); fmt.Sprint(got.Draining) != "[a]" {
			w.t.Errorf("got %+v, want a draining", got)
		}
		w.passes = nil
		w.run(tasks, time.Minute)
		if left := w.running("a"); len(left) != 0 {
			w.t.Errorf("got %v left, want none", left)
		}
		causes := 0
		for _, r := range w.passes {
			for _, e := range done(r, record.Stop) {
				causes++
				if e.Cause != pool.PoolRemoved {
					w.t.Errorf("%s: got cause %s, want %s", e.Instance, e.Cause, pool.PoolRemoved)
				}
			}
		}
		if causes != 3 {
			w.t.Errorf("got %d endings in the records, want 3", causes)
		}
		if slices.Contains(tasks.Due(w.t.Context(), time.Now().Add(time.Hour)), "pool/a") {
			w.t.Error("the pool's task is still there, want it over")
		}
	})
}

// TestTwoControllers checks that a second controller does not lead while the first one renews its lease, and
// takes over when the first one has stopped renewing.
func TestTwoControllers(t *testing.T) {
	bubble(t, func(w *world) {
		c, tasks := w.mustLead(1)
		w.apply(c, want("a", 2, 4), want("b", 1, 2), want("c", 0, 1))
		w.run(tasks, time.Minute)
		if _, _, err := w.lead(2); !errors.Is(err, lease.ErrHeld) {
			w.t.Fatalf("a second controller: got %v, want %v", err, lease.ErrHeld)
		}
		before := w.account.Instances()
		time.Sleep(20 * time.Second) // the first one stands still, like a process that is suspended
		second, others := w.mustLead(2)
		w.apply(second, want("a", 2, 4), want("b", 1, 2), want("c", 0, 1))
		w.run(others, time.Minute)
		w.passes = nil
		tasks.Step(w.t.Context(), "pool/a", time.Now()) // the first one goes on in the middle of its work
		if r := w.passes[0]; r.Blind == "" || len(r.Calls) != 0 {
			w.t.Errorf("got a pass with %+v, want none without the lease", r.Calls)
		}
		if got := len(w.account.Instances()); got != len(before) {
			w.t.Errorf("got %d instances after the take-over, want %d", got, len(before))
		}
	})
}

// TestWhoLosesTheLeaseEnds checks that a controller that has lost the lease ends, with an error that names
// the new holder.
func TestWhoLosesTheLeaseEnds(t *testing.T) {
	bubble(t, func(w *world) {
		ended := make(chan error, 1)
		go func() {
			first := func(context.Context) ([]desired.Pool, error) { return []desired.Pool{want("a", 0, 1)}, nil }
			ended <- app.Run(w.t.Context(), w.parts(1), app.Source{First: first})
		}()
		time.Sleep(time.Second)
		doc, err := json.Marshal(lease.Holder{Host: "elsewhere", PID: 4711, RenewedAt: time.Now()})
		if err != nil {
			w.t.Fatal(err)
		}
		if _, err := w.store.Put(w.t.Context(), lease.Key, doc, blob.Any); err != nil {
			w.t.Fatal(err)
		}
		if err := <-ended; !errors.Is(err, lease.ErrHeld) ||
			!strings.Contains(err.Error(), "process 4711 on elsewhere") {
			w.t.Errorf("got %v, want %v, and by whom", err, lease.ErrHeld)
		}
	})
}

// story runs two controllers with three pools, one controller after the other, from one goroutine. The seed
// decides the order of steps, which calls fail, and how the wanted pools change. It returns all records.
func story(t *testing.T, seed uint64) (out string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, seed)
		for pid := range 2 {
			c, tasks := w.mustLead(pid + 1)
			for range 6 {
				w.apply(c, want("a", w.rng.IntN(3), 4), want("b", w.rng.IntN(2), 2), want("c", 0, 1+w.rng.IntN(2)))
				if w.rng.IntN(2) == 0 {
					w.account.NextError(memcloud.OpLaunch, cloud.ErrThrottled)
				}
				w.run(tasks, time.Duration(1+w.rng.IntN(20_000))*time.Millisecond)
			}
			time.Sleep(20 * time.Second) // until the lease has run out
		}
		out = w.out.String()
	})
	return out
}

// TestSameSeedSameRecords checks that a seed always gives the same records, byte for byte, and that another
// seed gives others.
func TestSameSeedSameRecords(t *testing.T) {
	t.Parallel()
	all := make(map[string]bool)
	for seed := range uint64(100) {
		first := story(t, seed)
		if again := story(t, seed); again != first {
			a, b := strings.Split(first, "\n"), strings.Split(again, "\n")
			for i := range a {
				if i >= len(b) || a[i] != b[i] {
					t.Fatalf("seed %d, record %d: got\n%s\nthen\n%s", seed, i, a[i], b[min(i, len(b)-1)])
				}
			}
			t.Fatalf("seed %d: got %d records, then %d", seed, len(a), len(b))
		}
		all[first] = true
	}
	if len(all) != 100 {
		t.Errorf("got %d different runs of 100 seeds, want 100", len(all))
	}
}
