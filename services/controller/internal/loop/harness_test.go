package loop_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"cloudmaster/internal/activeset"
	"cloudmaster/internal/blob/memblob"
	"cloudmaster/internal/cloud"
	"cloudmaster/internal/cloud/memcloud"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
	"cloudmaster/internal/queue/memqueue"
	"cloudmaster/services/controller/internal/inventory"
	"cloudmaster/services/controller/internal/loop"
	"cloudmaster/services/controller/internal/report"
)

// base has the defaults of the configuration, with limits that do not bite.
func base() loop.Options {
	return loop.Options{
		Name: "test", Image: "image", Cloud: "mem",
		Maximum: 4, StartLimit: 10, StopLimit: 10, PolicyInterval: time.Minute, PollInterval: 5 * time.Second,
		WatchdogInterval: 10 * time.Minute, BootDeadline: 10 * time.Minute, BreakerRatio: 0.5,
		StartThreshold: 2, IdleThreshold: 1,
		UpperLoad: 0.75, LowerLoad: 0.25, QueueLoadFactor: 2, ShutDownInterval: time.Hour, ShutDownGrace: 10 * time.Second,
		StatusParser: "std", StatusInterval: 30 * time.Second, ReportInterval: time.Minute,
		ActiveSetType: loop.ActiveSetNone, ActiveSetInterval: time.Minute, ServicePort: 20808,
	}
}

func jobPool() loop.Options {
	p := base()
	p.Policy = "job"
	return p
}

func fibPool() loop.Options {
	p := base()
	p.Policy, p.ActiveSetType, p.QueueLoadFactor = "resource", loop.ActiveSetBlob, 10
	p.MinimumActiveTime = 2 * time.Minute
	return p
}

func fixedPool(least, most int) loop.Options {
	p := base()
	p.Policy, p.Minimum, p.Maximum = "fixed", least, most
	return p
}

// bench is the world around controllers: it outlives them.
type bench struct {
	t     *testing.T
	cfg   loop.Options
	tap   *tap
	start time.Time

	account *memcloud.Account
	work    *memqueue.Queue
	status  *memqueue.Queue
	store   *memblob.Store
	workers fleet

	audit      time.Duration // of the inventory
	late       time.Duration // how far lists are behind
	listLag    time.Duration // that controllers reckon with; 0 means roster.DefaultListLag
	mute       bool          // the work queue cannot tell of messages, as SQS
	rules      func() error  // nil: controllers always rule
	metrics    *prometheus.Registry
	controller *controller // the one that runs; nil if none does
	events     *events
	log        *lockedBuffer
}

// controller is one life of a controller.
type controller struct {
	loop   *loop.Loop
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// bubble runs f on a bench with a controller that runs, in simulated time.
func bubble(t *testing.T, cfg loop.Options, f func(b *bench), tweaks ...func(*memcloud.Options)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, cfg, tweaks...)
		defer b.close()
		b.startController()
		f(b)
	})
}

func newBench(t *testing.T, cfg loop.Options, tweaks ...func(*memcloud.Options)) *bench {
	t.Helper()
	b := &bench{
		t: t, cfg: cfg, start: time.Now(), audit: 10 * time.Second, store: memblob.New(), events: &events{}, log: &lockedBuffer{},
		work:   memqueue.New("work", queue.Limits{Visibility: time.Minute}),
		status: memqueue.New("status", queue.Limits{Deliveries: 100}),
	}
	b.tap = &tap{b: b}
	b.workers = fleet{b: b, jobs: cfg.Policy == "job", jobTime: 10 * time.Second, all: make(map[pool.InstanceID]*worker)}
	opts := memcloud.Options{OnRunning: b.workers.boot, OnTerminate: b.workers.end, TerminateDelay: 3 * time.Second}
	for _, tweak := range tweaks {
		tweak(&opts)
	}
	b.late = opts.ListLag
	account, err := memcloud.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	b.account = account
	return b
}

func (b *bench) close() {
	b.stopController()
	b.workers.close()
	if b.t.Failed() {
		b.t.Logf("log of the controllers:\n%s", b.log.tail(6000))
	}
}

func (b *bench) startController() {
	b.t.Helper()
	inv := inventory.New("mem", b.audit, b.logger())
	b.metrics = prometheus.NewRegistry()
	through := tapCloud{b.tap, b.account.Cloud("test")}
	deps := loop.Deps{
		Cloud: through, Inventory: inv, Work: tapQueue{b.tap, "work", b.work}, Status: tapQueue{b.tap, "status", b.status},
		Store: tapStore{b.tap, b.store}, ListLag: b.listLag, Rules: b.rules,
		UserData: func(pool.InstanceID) ([]byte, error) { return []byte("pool: test\n"), nil },
		Report:   b.events, Metrics: loop.NewMetrics(b.metrics), Log: b.logger(),
	}
	if b.mute {
		deps.Work = struct{ queue.Queue }{tapQueue{b.tap, "work", b.work}}
	}
	l, err := loop.New(b.cfg, deps)
	if err != nil {
		b.t.Fatal(err)
	}
	inv.Subscribe(l.Wake)
	ctx, cancel := context.WithCancel(b.t.Context())
	b.tap.revive(cancel)
	c := &controller{loop: l, cancel: cancel}
	c.wg.Go(func() { b.noError(inv.Run(ctx, through)) })
	c.wg.Go(func() { b.noError(l.Run(ctx)) })
	b.controller = c
}

func (b *bench) noError(err error) {
	if err != nil {
		b.t.Errorf("got %v, want no error", err)
	}
}

func (b *bench) stopController() {
	if b.controller != nil {
		b.controller.cancel()
		b.controller.wg.Wait()
		b.controller = nil
	}
}

func (b *bench) restartController() {
	b.stopController()
	b.startController()
}

func (b *bench) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(b.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// pass lets simulated time go by.
func (b *bench) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// until lets time go by until cond holds, and fails the test after limit.
func (b *bench) until(what string, limit time.Duration, cond func() bool) time.Duration {
	b.t.Helper()
	from := time.Now()
	for synctest.Wait(); !cond(); b.pass(10 * time.Millisecond) {
		if time.Since(from) > limit {
			b.t.Fatalf("%s: not within %s; instances are %s", what, limit, b.states())
		}
	}
	return time.Since(from)
}

// send puts n messages on the work queue.
func (b *bench) send(n int) {
	b.t.Helper()
	bodies := make([][]byte, n)
	for i := range bodies {
		bodies[i] = fmt.Appendf(nil, "%d|7", i)
	}
	if err := b.work.Send(b.t.Context(), bodies...); err != nil {
		b.t.Fatal(err)
	}
	synctest.Wait()
}

// present returns the instances that have not begun to end, by launch.
func (b *bench) present() []cloud.Instance {
	return slices.DeleteFunc(b.account.Instances(), func(in cloud.Instance) bool { return in.Phase == cloud.Terminating })
}

// states tells the instances that have not begun to end, by their tags: "i-000001:active i-000002:startup".
func (b *bench) states() string {
	var out []string
	for _, in := range b.present() {
		out = append(out, string(in.ID)+":"+in.Tags[cloud.TagState])
	}
	return strings.Join(out, " ")
}

func (b *bench) count(state pool.State) int { return strings.Count(b.states(), ":"+state.String()) }

// launched is how many instances there ever were.
func (b *bench) launched() int {
	ids := make(map[pool.InstanceID]bool)
	for _, c := range b.account.Calls() {
		if c.Op == memcloud.OpLaunch {
			for _, id := range c.IDs {
				ids[id] = true
			}
		}
	}
	return len(ids)
}

func (b *bench) wantStates(want string) {
	b.t.Helper()
	synctest.Wait()
	if got := b.states(); got != want {
		b.t.Errorf("at %s: got %q, want %q", time.Since(b.start), got, want)
	}
}

func (b *bench) wantLaunched(want int) {
	b.t.Helper()
	if got := b.launched(); got != want {
		b.t.Errorf("at %s: got %d launched in all, want %d", time.Since(b.start), got, want)
	}
}

// grow waits until n instances are active.
func (b *bench) grow(n int) {
	b.t.Helper()
	b.until(fmt.Sprintf("%d active", n), 5*time.Minute, func() bool { return b.count(pool.Active) == n })
	b.pass(time.Second) // and listed as such
}

// set returns the active set in the store; false if there is none.
func (b *bench) set() (activeset.Set, bool) { return b.readSet(b.t.Context()) }

func (b *bench) readSet(ctx context.Context) (activeset.Set, bool) {
	o, err := b.store.Get(ctx, activeset.Key(b.cfg.Name), "")
	if err != nil {
		return activeset.Set{}, false
	}
	set, err := activeset.Decode(o.Data)
	return set, err == nil
}

// members returns the ids in the active set.
func (b *bench) members() string {
	set, ok := b.set()
	if !ok {
		return "none"
	}
	var out []string
	for i := range set.Instances {
		out = append(out, string(set.Instances[i].ID))
	}
	return strings.Join(out, " ")
}

// events collects what is reported.
type events struct {
	mu   sync.Mutex
	list []report.Event
}

// Report implements report.Reporter.
func (e *events) Report(_ context.Context, ev report.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if ev.Kind != report.Summarized {
		e.list = append(e.list, ev)
	}
}

// of returns the instances or texts of one kind of event.
func (e *events) of(kind report.Kind) (out []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, ev := range e.list {
		if ev.Kind == kind {
			out = append(out, string(ev.Instance)+ev.Text)
		}
	}
	return out
}

type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

// Write implements io.Writer.
func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.Write(p)
}

func (l *lockedBuffer) tail(most int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := l.String()
	return text[max(0, len(text)-most):]
}

func (l *lockedBuffer) count(text string) int { return strings.Count(l.tail(1<<30), text) }

// launchByHand launches instances past the controller.
func (b *bench) launchByHand(deployment, name string, n int) {
	b.t.Helper()
	_, err := b.account.Cloud(deployment).Launch(b.t.Context(), cloud.Spec{
		Token: "by-hand-" + deployment + "-" + name, Count: n, Image: "image", Tags: map[string]string{cloud.TagPool: name},
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

// takeAway takes n messages off the work queue, as some other consumer would.
func (b *bench) takeAway(n int) {
	b.t.Helper()
	batch, err := b.work.Receive(b.t.Context(), n, 0)
	if err != nil {
		b.t.Fatal(err)
	}
	for i := range batch {
		b.noError(b.work.Delete(b.t.Context(), batch[i].Receipt))
	}
}

func (b *bench) noticed() []string { return b.events.of(report.Noticed) }
