package loop_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"slices"
	"strings"
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
	"cloudmaster/services/controller/internal/desired"
	"cloudmaster/services/controller/internal/driver"
	"cloudmaster/services/controller/internal/report"
)

// bench is the world around controllers: it outlives them.
type bench struct {
	t     *testing.T
	cfg   poolConfig
	tap   *tap
	start time.Time

	account *memcloud.Account
	work    *memqueue.Queue
	status  *memqueue.Queue
	hints   *memqueue.Queue // read by controllers if mute is true
	said    *memqueue.Queue // what the cloud says by itself; nil: nothing
	store   *memblob.Store
	workers fleet

	audit      time.Duration                      // of the inventory
	late       time.Duration                      // how far lists are behind
	listLag    time.Duration                      // that controllers reckon with; 0 means roster.DefaultListLag
	checker    cloud.Checker                      // nil: the cloud is no cloud.Checker
	mute       bool                               // the work queue cannot tell of messages, as SQS
	lead       func(time.Time) (time.Time, error) // nil: controllers always lead
	preview    func() cloud.Preview               // what the cloud tells of launches; nil: it cannot tell
	detour     *detour                            // nil: nothing is between controllers and the tapped cloud
	sentEarly  time.Duration                      // how far the broker's clock is behind, as statuses show it
	sinks      []report.Sink                      // besides those that are always there
	metrics    *prometheus.Registry
	controller *controller // the one that runs; nil if none does
	events     *events
	log        *lockedBuffer
}

// controller is one life of a controller.
type controller struct {
	pools  *desired.Pools
	driver *driver.Driver
	cancel context.CancelFunc
}

// bubble runs f on a bench with a controller that runs, in simulated time.
func bubble(t *testing.T, cfg poolConfig, f func(b *bench), tweaks ...func(*memcloud.Options)) {
	t.Helper()
	unstarted(t, cfg, func(b *bench) {
		b.startController()
		f(b)
	}, tweaks...)
}

// unstarted runs f on a bench whose controller f starts, in simulated time.
func unstarted(t *testing.T, cfg poolConfig, f func(b *bench), tweaks ...func(*memcloud.Options)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, cfg, tweaks...)
		defer b.close()
		f(b)
	})
}

func newBench(t *testing.T, cfg poolConfig, tweaks ...func(*memcloud.Options)) *bench {
	t.Helper()
	b := &bench{
		t: t, cfg: cfg, start: time.Now(), audit: 10 * time.Second, store: memblob.New(), events: &events{},
		log:    &lockedBuffer{},
		work:   memqueue.New("work", queue.Limits{Visibility: time.Minute}),
		status: memqueue.New("status", queue.Limits{Deliveries: 100}), hints: memqueue.New("hints", queue.Limits{}),
	}
	b.tap = &tap{b: b}
	b.workers = fleet{
		b: b, jobs: cfg.Policy == "job", jobTime: 10 * time.Second,
		all: make(map[pool.InstanceID]*worker),
	}
	opts := memcloud.Options{
		OnRunning: b.workers.boot, OnTerminate: b.workers.end,
		OnStop: b.workers.halt, TerminateDelay: 3 * time.Second,
	}
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
	b.controller = b.begin()
}

// begin starts a controller, also beside another one. Whoever calls it ends it.
func (b *bench) begin() *controller {
	b.t.Helper()
	b.metrics = prometheus.NewRegistry()
	ctx, cancel := context.WithCancel(b.t.Context())
	b.tap.revive(cancel)
	c := &controller{cancel: cancel, driver: driver.New(ctx)}
	c.pools = desired.New(b.parts(c.driver.Start))
	b.applyTo(c)
	return c
}

// parts are what a controller runs on, whose tasks are started with start.
func (b *bench) parts(start func(driver.Task) (stop func())) desired.Parts {
	machines := desired.Machines{Cloud: b.cloud(), ListLag: b.listLag, Audit: b.audit, ParseEvent: parseEvent}
	var post desired.Post
	if b.mute {
		post.Hints.Name = "hints"
	}
	if b.said != nil {
		post.Events.Name = "events"
	}
	return desired.Parts{
		Start:     start,
		OpenCloud: func(context.Context, pool.CloudName, func()) (desired.Machines, error) { return machines, nil },
		OpenQueue: b.openQueue, Store: tapStore{b.tap, b.store}, Lead: b.lead, Post: post,
		Sink: append(report.All{report.NewMetrics(b.metrics), report.NewDiary(b.logger()), b.events}, b.sinks...),
		Now:  time.Now, Token: rand.Text, Log: b.logger(),
	}
}

// cloud is the cloud as controllers see it that start now.
func (b *bench) cloud() cloud.Cloud {
	tapped := tapCloud{b.tap, b.account.Cloud("test")}
	if b.checker != nil {
		return struct {
			cloud.Cloud
			cloud.Checker
		}{tapped, b.checker}
	}
	if b.preview != nil {
		return foresight{tapped, b.preview}
	}
	if b.detour == nil {
		return tapped
	}
	d := *b.detour
	d.Cloud = tapped
	return d
}

// apply has the controller go by the pool's present configuration.
func (b *bench) apply() {
	b.t.Helper()
	b.applyTo(b.controller)
}

func (b *bench) applyTo(c *controller) {
	b.t.Helper()
	if _, err := c.pools.Apply(b.t.Context(), []desired.Pool{b.cfg.desired(b.t)}); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) openQueue(_ context.Context, name string, _ queue.Limits) (queue.Queue, error) {
	switch {
	case name == "status" && b.sentEarly != 0:
		return early{tapQueue{b.tap, name, b.status}, b.sentEarly}, nil
	case name == "hints":
		return tapQueue{b.tap, name, b.hints}, nil
	case name == "events":
		return tapQueue{b.tap, name, b.said}, nil
	case name == "status":
		return tapQueue{b.tap, name, b.status}, nil
	case b.mute:
		return struct{ queue.Queue }{tapQueue{b.tap, name, b.work}}, nil
	}
	return tapQueue{b.tap, name, b.work}, nil
}

func (b *bench) noError(err error) {
	if err != nil {
		b.t.Errorf("got %v, want no error", err)
	}
}

func (b *bench) stopController() {
	if b.controller != nil {
		b.end(b.controller)
		b.controller = nil
	}
}

// end stops a controller that begin has started.
func (b *bench) end(c *controller) {
	c.cancel()
	b.noError(c.driver.Wait())
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

// present returns the instances that have not begun to end or to stop, by launch.
func (b *bench) present() []cloud.Instance {
	return slices.DeleteFunc(b.account.Instances(), func(in cloud.Instance) bool {
		return in.Phase == cloud.Terminating || in.Phase == cloud.Halting || in.Phase == cloud.Stopped
	})
}

// asleep tells the instances that are stopped, or stop, as states does.
func (b *bench) asleep() string {
	var out []string
	for _, in := range b.account.Instances() {
		if in.Phase == cloud.Halting || in.Phase == cloud.Stopped {
			out = append(out, string(in.ID)+":"+in.Tags[cloud.TagState])
		}
	}
	return strings.Join(out, " ")
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

// launchByHand launches instances past the controller.
func (b *bench) launchByHand(deployment, name string, n int) {
	b.t.Helper()
	_, err := b.account.Cloud(deployment).Launch(b.t.Context(), cloud.Spec{
		Token: "by-hand-" + deployment + "-" + name, Count: n, Image: "image",
		Tags: map[string]string{cloud.TagPool: name},
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
