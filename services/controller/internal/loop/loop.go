// Package loop is the control loop of one pool. A pass observes, decides, limits and acts, once and in that
// order. It never goes back to an earlier step, and returns a record of all that it saw, decided and did.
//
// A pass runs when something has happened (a status message, messages on the work queue, a changed
// inventory), when something is due (a limit refills, a drain ends), and at the latest every policy interval.
// The driver runs it. This package has no goroutine, no clock except the one that it is given, and
// no timers but those that bound its calls.
//
// Every pass starts from what the cloud lists. Acts are ordered and can be repeated, so that a crash between
// any two of them leaves a state that the next pass, of this or another controller, repairs: an instance
// leaves the published active set before it is marked shut_down or ended, and joins it after it is marked
// active.
package loop

import (
	"cmp"
	"context"
	"sync/atomic"
	"time"

	"cloudmaster/internal/activeset"
	"cloudmaster/internal/blob"
	"cloudmaster/internal/cloud"
	"cloudmaster/internal/policy"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
	"cloudmaster/services/controller/internal/inventory"
	"cloudmaster/services/controller/internal/launcher"
	"cloudmaster/services/controller/internal/orders"
	"cloudmaster/services/controller/internal/price"
	"cloudmaster/services/controller/internal/publisher"
	"cloudmaster/services/controller/internal/record"
	"cloudmaster/services/controller/internal/roster"
	"cloudmaster/services/controller/internal/workload"
)

// provider is the part of a cloud that a loop needs. Instances are listed by the inventory.
type provider interface {
	Launch(ctx context.Context, spec cloud.Spec) ([]cloud.Instance, error)
	Tag(ctx context.Context, tags map[string]string, ids ...pool.InstanceID) error
	Terminate(ctx context.Context, ids ...pool.InstanceID) error
}

// lister is the shared inventory of the pool's cloud.
type lister interface {
	Latest() inventory.Listing
	Refresh()
}

// store keeps the active set and the launch journal.
type store interface {
	Get(ctx context.Context, key string, have blob.Version) (blob.Object, error)
	Put(ctx context.Context, key string, data []byte, last blob.Version) (blob.Version, error)
}

// Options are what the configuration says of a pool. They may change while the loop runs.
type Options struct {
	Image         string
	Version       string // what instances are launched as, see pool.Version; empty: it is not known
	Judge         policy.Judge
	UserData      func(pool.InstanceID) ([]byte, error) // what a new instance is told
	Login         func(pool.InstanceID) ([]byte, error) // what it logs in with; nil: the controller hands out nothing
	TakesRequests bool                                  // the work queue carries requests for servers

	Prices          *price.Book   // what instances cost; nil: nobody knows
	MaximumLifetime time.Duration // instances that are as old are outdated; 0: none is
	Warm            int           // stopped instances that are kept, to be started instead of new ones launched

	Retiring bool // the pool was removed, and its instances are being ended

	PolicyInterval    time.Duration // the longest time between two passes, and the window of the start and stop limits
	PollInterval      time.Duration // how often the work queue is read if it cannot tell of arrivals
	ReportInterval    time.Duration // how often a summary is reported although nothing has changed
	ActiveSetInterval time.Duration // how often changed loads are published
}

// Ports is what a loop works with. All fields are required, except where a comment says what nil or 0 means.
type Ports struct {
	Pool      pool.Name
	Cloud     provider
	Inventory lister
	Roster    *roster.Roster
	Work      workload.Queue
	Store     store
	Publishes bool          // whether the active set is written
	Orders    *orders.Book  // nil if the policy takes no orders
	ListLag   time.Duration // how far the cloud's lists may be behind; 0 means roster.DefaultListLag
	// Lead says until when this controller may act, or why it may not: another one may lead. Nil: it always may.
	Lead func(now time.Time) (until time.Time, err error)
	// Since is when the pool began to run here: lists that were asked for before do not count, because they may lack
	// what ran in the pool before.
	Since time.Time
	Now   func() time.Time // the clock, for what takes its time within a pass
	Token func() string    // random text, different each time
}

// Loop is the control loop of one pool. Change, Hint and SetAges may be called from any goroutine; everything else is
// called by one goroutine.
type Loop struct {
	opts     Options
	ports    Ports
	calls    *calls
	cloud    callCloud
	work     *workload.Workload
	launcher *launcher.Launcher
	set      *publisher.Publisher
	budget   budget
	memory   memory
	ages     atomic.Pointer[record.Ages]
	changed  atomic.Pointer[Options] // the options from the next pass on; nil if they have not changed
}

// memory is what a pass knows of earlier passes.
type memory struct {
	passes   uint64
	failures int  // passes in a row that ended in an error
	pace     pace // the pause between two passes
	breaker  bool // whether it was open in the last pass that decided
	told     told
	preview  preview
	trial    pool.Trial     // of the present version
	owed     int            // see pool.Snapshot
	rolling  policy.Rolling // of the last pass that decided

	unreturned time.Time // since when tags of reactivated instances cannot be written; zero: they can

	strangers []pool.InstanceID // in the last pass, see record.Record

	untagged int       // passes in a row that could not write tags
	retag    time.Time // and when to try it again

	fill fill
}

// New returns the loop of a pool.
func New(opts Options, ports Ports) *Loop {
	ports.ListLag = cmp.Or(ports.ListLag, roster.DefaultListLag)
	c := &calls{now: ports.Now, lead: ports.Lead}
	machines := callCloud{c, ports.Cloud}
	l := &Loop{
		ports: ports, calls: c, cloud: machines,
		launcher: launcher.New(machines, callStore{c, ports.Store}, launcher.Options{
			Pool: ports.Pool, ListLag: ports.ListLag, Now: ports.Now, Token: ports.Token,
		}),
	}
	l.Rewire(opts, ports.Work, ports.Orders, ports.Publishes)
	return l
}

// Rewire makes the loop work on other queues, and publish the active set or not. What it knows of its instances and
// of its launches stays. Its task must not be running.
func (l *Loop) Rewire(opts Options, work workload.Queue, book *orders.Book, publishes bool) {
	l.changed.Store(nil)
	l.opts = opts
	l.launcher.Change(opts.launches())
	l.ports.Work, l.ports.Orders, l.ports.Publishes = work, book, publishes
	l.work = workload.New(callQueue{work, l.calls}, opts.workload(work))
	store := publisher.Store(nil)
	if publishes {
		store = callStore{l.calls, l.ports.Store}
	}
	l.set = publisher.New(l.ports.Pool, store, opts.ActiveSetInterval)
}

// Withdraw publishes an empty active set, because nobody will keep it true. The loop's task must not be running.
func (l *Loop) Withdraw(ctx context.Context) error {
	if !l.set.Known() {
		if _, _, err := l.set.Load(ctx); err != nil {
			return err
		}
	}
	_, err := l.set.Publish(ctx, []activeset.Instance{}, l.ports.Now())
	return err
}

// workload returns the options for the workload of a queue.
func (o *Options) workload(q workload.Queue) workload.Options {
	_, watched := q.(queue.Watcher)
	return workload.Options{TakesRequests: o.TakesRequests, Watched: watched, PollInterval: o.PollInterval}
}

// launches returns how instances are launched.
func (o *Options) launches() launcher.Options {
	return launcher.Options{
		Image: o.Image, UserData: o.UserData, Login: o.Login, Version: o.Version, MostPause: o.PolicyInterval,
	}
}

// Change sets other options, which apply from the next pass on. The change itself touches no instance; those that a
// launch would make otherwise now are outdated from then on.
func (l *Loop) Change(opts Options) { l.changed.Store(&opts) }

// Hint says that work was put on the work queue, which cannot tell of it by itself.
func (l *Loop) Hint() { l.work.Hint() }

// SetAges says how old the pool's messages are, for the records from now on.
func (l *Loop) SetAges(ages record.Ages) { l.ages.Store(&ages) }

// Retiring reports whether the options of the last pass said that the pool was removed. It is called by the
// goroutine that calls Step.
func (l *Loop) Retiring() bool { return l.opts.Retiring }

// HandBack gives the pending requests back to the queue, so that the next controller gets them at once. It
// returns how many there were.
func (l *Loop) HandBack(ctx context.Context) (count int, err error) {
	count = l.work.Pending()
	return count, l.work.HandBack(ctx)
}

// takeChange applies the options that Change has left.
func (l *Loop) takeChange() {
	opts := l.changed.Swap(nil)
	if opts == nil {
		return
	}
	l.opts = *opts
	l.launcher.Change(opts.launches())
	l.work.Change(opts.workload(l.ports.Work))
	l.set.SetInterval(opts.ActiveSetInterval)
}

const (
	// actTimeout bounds how long a pass waits for one answer of the cloud.
	actTimeout = 30 * time.Second
	// tagTimeout bounds what a pass waits for tags: that they are late harms nobody but a successor.
	tagTimeout = 5 * time.Second
	// returnTimeout is how long it is tried to take draining instances back before new ones are launched instead.
	returnTimeout = 30 * time.Second
)

// Step runs one pass, which begins at the given time.
func (l *Loop) Step(ctx context.Context, now time.Time) *record.Record {
	l.takeChange()
	l.memory.passes++
	p := &pass{Loop: l, now: now, limits: l.opts.Judge.LimitsAt(now), rec: &record.Record{
		Pool: l.ports.Pool, At: now, Number: l.memory.passes,
	}}
	l.calls.begin(p.rec)
	p.run(ctx)
	p.end(ctx)
	return p.rec
}

// told remembers what people were told last of the state of the pool.
type told struct {
	at      time.Time
	backlog pool.Backlog
	states  []pool.Instance // only ID and State are compared
	warm    int
	wants   time.Time // when a change may be told that came too soon after the last; zero: there is none
}

// leastToldGap is the shortest time between two summaries, so that a pool that changes often does not fill
// the screen.
const leastToldGap = time.Second

// due returns when it is time to tell people again.
func (t *told) due(interval time.Duration) time.Time {
	if t.wants.IsZero() {
		return t.at.Add(interval)
	}
	return t.wants
}
