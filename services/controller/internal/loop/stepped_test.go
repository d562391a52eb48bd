package loop_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"cloudmaster/internal/cloud/memcloud"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
	"cloudmaster/services/controller/internal/desired"
	"cloudmaster/services/controller/internal/driver"
	"cloudmaster/services/controller/internal/record"
	"cloudmaster/services/controller/internal/report"
)

// stepped is a bench on which everything happens in the goroutine of the test: it steps the tasks of the controller and
// of the workers one at a time, in an order that a seed decides, and lets time go by when none of them is due. The same
// seed therefore gives the same records. It runs in a synctest bubble, for the clock.
type stepped struct {
	*bench

	order   *rand.Rand // decides which of the tasks that are due is next; nil: the one that was started first
	workers *crew
	life    *life           // the controller that runs; nil if none does
	lives   int             // how many controllers there have been
	running map[string]bool // tasks in the middle of a step
	records records
}

// life is one life of a controller whose tasks are stepped.
type life struct {
	ctx   context.Context //nolint:containedctx // it ends with the controller
	end   context.CancelFunc
	pools *desired.Pools
	tasks *driver.Manual
	stops []func()
	ears  map[string]*prompt // by the name of the task that reads the queue
}

// newStepped makes a bench without a controller.
func newStepped(t *testing.T, cfg poolConfig, order *rand.Rand, tweaks ...func(*memcloud.Options)) *stepped {
	t.Helper()
	workers := &crew{all: make(map[pool.InstanceID]*hand), done: make(map[string]int)}
	s := &stepped{order: order, workers: workers, running: make(map[string]bool)}
	s.bench = newBench(t, cfg, append(tweaks, workers.attach)...)
	workers.b = s.bench
	if order != nil {
		s.tap.meanwhile = s.meanwhile
	}
	return s
}

func (s *stepped) close() {
	s.stopController()
	s.bench.close()
}

func (s *stepped) startController() {
	s.t.Helper()
	ctx, end := context.WithCancel(s.t.Context())
	s.tap.revive(end)
	s.metrics = prometheus.NewRegistry()
	l := &life{ctx: ctx, end: end, tasks: &driver.Manual{}, ears: map[string]*prompt{
		"intake/test": {watch: s.status.Watch},
	}}
	if s.said != nil {
		l.ears["post/events"] = &prompt{watch: s.said.Watch}
	}
	parts := s.parts(l.start)
	parts.Token, parts.Sink = s.tokens(), report.All{parts.Sink, &s.records}
	parts.Pause = func(failures int) time.Duration { return time.Duration(min(failures, 5)) * time.Second }
	open := parts.OpenQueue
	parts.OpenQueue = func(ctx context.Context, name string, limits queue.Limits) (queue.Queue, error) {
		q, err := open(ctx, name, limits)
		if ear := l.ears[map[string]string{"status": "intake/test", "events": "post/events"}[name]]; ear != nil {
			ear.Queue = q
			return ear, err
		}
		return q, err
	}
	s.life, s.lives, l.pools = l, s.lives+1, desired.New(parts)
	if _, err := l.pools.Apply(ctx, []desired.Pool{s.cfg.desired(s.t)}); err != nil {
		s.t.Fatal(err)
	}
}

// tokens returns where a controller's tokens come from: the seed, or counters that a person can read. The first token
// names the controller.
func (s *stepped) tokens() func() string {
	if s.order != nil {
		return func() string { return fmt.Sprintf("%016X", s.order.Uint64()) }
	}
	life, n := string(rune('A'+s.lives)), -1
	return func() string {
		if n++; n == 0 {
			return life
		}
		return strconv.Itoa(n)
	}
}

// stopController ends the controller as a signal does: what its tasks leave to the next one they leave.
func (s *stepped) stopController() {
	if s.life == nil {
		return
	}
	for _, stop := range s.life.stops {
		stop()
	}
	s.dropController()
}

// dropController ends the controller as a lost machine does: nothing of it is done any more.
func (s *stepped) dropController() {
	if s.life == nil {
		return
	}
	s.noError(s.life.tasks.Err())
	s.life.end()
	s.life = nil
}

// start adds a task. Those of the intake and of the cloud's events wait in their calls until something comes, which
// would let nothing else happen in the meantime: here the call does not wait, and the task is woken when something
// comes.
func (l *life) start(t driver.Task) (stop func()) {
	if ear := l.ears[t.Name]; ear != nil {
		look := t.Step
		t.Watch = ear.watch
		t.Step = func(ctx context.Context, now time.Time) (driver.Again, error) {
			again, err := look(ctx, now)
			if ear.until.After(again.At) {
				again = driver.Again{At: ear.until}
			}
			return again, err
		}
	}
	stop = l.tasks.Start(t)
	l.stops = append(l.stops, stop)
	return stop
}

// prompt is a queue whose Receive does not wait, and remembers until when it should have.
type prompt struct {
	queue.Queue

	watch func(ctx context.Context) (<-chan struct{}, error)
	until time.Time // zero: something came
}

// Receive implements queue.Queue.
func (p *prompt) Receive(ctx context.Context, most int, wait time.Duration) ([]queue.Message, error) {
	out, err := p.Queue.Receive(ctx, most, 0)
	p.until = time.Time{}
	if len(out) == 0 && err == nil {
		p.until = time.Now().Add(wait)
	}
	return out, err
}

// pass lets simulated time go by: all tasks that are due until then are stepped, those that are due in the end
// included. It returns early when the controller dies.
func (s *stepped) pass(d time.Duration) {
	life := s.life
	for end := time.Now().Add(d); ; {
		if s.step() {
			if time.Now().After(end) || s.life != life { // the step has taken its time, or the controller has died
				return
			}
			continue
		}
		next := s.next()
		if next.IsZero() || next.After(end) || !time.Now().Before(end) {
			time.Sleep(time.Until(end))
			return
		}
		time.Sleep(max(time.Until(next), time.Millisecond)) // what is due already is in the middle of a step
	}
}

// step steps one of the tasks that are due, and reports whether there is one.
func (s *stepped) step() bool {
	now := time.Now()
	due := s.free(s.t.Context(), &s.workers.tasks, now)
	if s.life != nil {
		due = append(due, s.free(s.life.ctx, s.life.tasks, now)...)
	}
	if len(due) == 0 {
		return false
	}
	next := due[0]
	if s.order != nil {
		next = due[s.order.IntN(len(due))]
	}
	before := s.records
	s.running[next.name] = true
	next.of.Step(next.ctx, next.name, now)
	delete(s.running, next.name)
	if s.tap.isDead() && len(s.running) == 0 {
		s.records = before // nobody hears of the pass in which a controller dies
		s.dropController()
	}
	return true
}

// due is a task that may be stepped.
type due struct {
	ctx  context.Context //nolint:containedctx // of the task's controller, or of the test
	of   *driver.Manual
	name string
}

// free are the tasks that are due and are not in the middle of a step.
func (s *stepped) free(ctx context.Context, tasks *driver.Manual, now time.Time) (out []due) {
	for _, name := range tasks.Due(ctx, now) {
		if !s.running[name] {
			out = append(out, due{ctx, tasks, name})
		}
	}
	return out
}

// meanwhile steps other tasks while one waits for an answer, as they would run in goroutines of their own. Now and
// then the answer takes its time.
func (s *stepped) meanwhile() {
	for s.order.IntN(3) == 0 && s.step() {
	}
	if s.order.IntN(20) == 0 {
		s.pass(time.Duration(s.order.IntN(1000)) * time.Millisecond)
	}
}

// next returns when a task is due next.
func (s *stepped) next() time.Time {
	next := s.workers.tasks.Next(s.t.Context(), time.Now())
	if s.life == nil {
		return next
	}
	if at := s.life.tasks.Next(s.life.ctx, time.Now()); next.IsZero() || !at.IsZero() && at.Before(next) {
		next = at
	}
	return next
}

// records are those of all passes, as a sink.
type records struct {
	list  []*record.Record
	lines []string
}

// Pass writes a record down.
func (r *records) Pass(_ context.Context, rec *record.Record) {
	line, err := json.Marshal(rec)
	if err != nil {
		line = []byte(err.Error())
	}
	r.list, r.lines = append(r.list, rec), append(r.lines, string(line))
}

// Intake writes nothing down: what a look at the status queue changes is in the records of the passes.
func (r *records) Intake(context.Context, *record.Intake) {}
