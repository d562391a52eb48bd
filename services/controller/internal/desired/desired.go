// Package desired makes the pools run that should run. Apply starts, changes and removes pools in a running
// controller without touching instances that stay.
package desired

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"cloudmaster/internal/blob"
	"cloudmaster/internal/cloud"
	"cloudmaster/internal/message"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
	"cloudmaster/services/controller/internal/driver"
	"cloudmaster/services/controller/internal/inventory"
	"cloudmaster/services/controller/internal/loop"
	"cloudmaster/services/controller/internal/report"
)

// OnRemove says what happens to the instances of a pool that should not run any more.
type OnRemove string

// What can happen to them.
const (
	Leave OnRemove = "leave" // they run on, and no controller starts or ends any
	Drain OnRemove = "drain" // they are drained, or stopped when they are idle
)

// Queue names a queue and its limits.
type Queue struct {
	Name   string
	Limits queue.Limits
}

// Pool is one pool that should run.
type Pool struct {
	Name     pool.Name
	Revision string // two pools with the same revision are the same
	Cloud    pool.CloudName
	Loop     loop.Options
	Work     Queue
	Status   Queue
	Orders   Queue // for operators' orders; no name if the policy takes none

	Parser      string // name of the format of status messages
	Parse       message.ParseFunc
	ServicePort int
	Publishes   bool // whether its active set is written
	OnRemove    OnRemove
}

// identity is what cannot change while a pool's tasks run. If it is changed, they are ended and started anew, which
// does not touch the pool's instances, nor what is known of them.
type identity struct {
	work, status, orders Queue
	port                 int
	publishes            bool
}

func (p *Pool) identity() identity {
	return identity{p.Work, p.Status, p.Orders, p.ServicePort, p.Publishes}
}

// misfits returns what cannot change from p to next, joined, because instances that run were launched with it.
func (p *Pool) misfits(next *Pool) error {
	var errs []error
	for _, f := range []struct{ what, was, is, why string }{
		{"cloud", string(p.Cloud), string(next.Cloud), "run there"},
		{"work queue", p.Work.Name, next.Work.Name, "take their work from it"},
		{"status queue", p.Status.Name, next.Status.Name, "report to it"},
		{"status parser", p.Parser, next.Parser, "write for it"},
	} {
		if f.was != f.is {
			errs = append(errs, fmt.Errorf("pool %s: its %s cannot change from %s to %s while it runs, because its "+
				"instances %s: remove the pool first (on_remove: drain), and add it again when they have ended",
				p.Name, f.what, f.was, f.is, f.why))
		}
	}
	return errors.Join(errs...)
}

// Machines is an opened cloud.
type Machines struct {
	Cloud   cloud.Cloud
	ListLag time.Duration // how far its lists may be behind; 0 means roster.DefaultListLag
	Audit   time.Duration // how often it is listed
}

// Store is where active sets, launch journals and what policies remember are kept.
type Store interface {
	Get(ctx context.Context, key string, have blob.Version) (blob.Object, error)
	Put(ctx context.Context, key string, data []byte, last blob.Version) (blob.Version, error)
}

// Parts is what pools run on. All parts are required, except where a comment says what nil or 0 means.
type Parts struct {
	// Start runs a task until it is stopped; stop returns when it has ended.
	Start func(task driver.Task) (stop func())
	// OpenCloud opens a cloud. The cloud must call changed when it finds out by itself that an instance has
	// ended.
	OpenCloud func(ctx context.Context, name pool.CloudName, changed func()) (Machines, error)
	OpenQueue func(ctx context.Context, name string, limits queue.Limits) (queue.Queue, error)
	Store     Store
	// Lead says until when this controller may act, or why it may not; nil: it always may.
	Lead   func(now time.Time) (until time.Time, err error)
	Sink   report.Sink
	Forget func(pool.Name) // called for each pool that does not run any more; nil: nobody is told
	Now    func() time.Time
	Token  func() string // random text, different each time
	// Pause returns how long to wait before a status queue that cannot be read is tried again. Nil: a random time.
	Pause func(failures int) time.Duration
	Wait  time.Duration // how long a look at a status queue waits; 0 means 20 s
	Log   *slog.Logger
}

// Pools are the running pools. The methods may be called from any goroutine.
type Pools struct {
	parts Parts

	applying sync.Mutex // locked for as long as it takes to change which pools run

	mu     sync.Mutex                   // locked for moments only
	clouds map[pool.CloudName]*machines // guarded by mu
	units  map[pool.Name]*unit          // guarded by mu; changed only while applying is locked, too
}

// machines is a cloud that is in use, with its list of instances.
type machines struct {
	Machines

	inventory *inventory.Inventory
	listed    bool // the inventory's task has been started
}

// New returns Pools of which none runs yet.
func New(parts Parts) *Pools {
	return &Pools{parts: parts, clouds: make(map[pool.CloudName]*machines), units: make(map[pool.Name]*unit)}
}

// Changes says what Apply did. The lists are sorted.
type Changes struct {
	Added, Changed, Restarted, Removed, Draining []pool.Name
}

// Empty reports whether there was nothing to do.
func (c *Changes) Empty() bool {
	return len(c.Added)+len(c.Changed)+len(c.Restarted)+len(c.Removed)+len(c.Draining) == 0
}

// Apply makes exactly the wanted pools run. Whatever new pools need is opened first. If that fails, nothing
// is changed, and the error says why.
func (p *Pools) Apply(ctx context.Context, want []Pool) (Changes, error) {
	p.applying.Lock()
	defer p.applying.Unlock()
	plan, err := p.plan(want)
	if err != nil {
		return Changes{}, err
	}
	var errs []error
	for _, u := range plan.fresh {
		errs = append(errs, p.open(ctx, u))
	}
	if err := errors.Join(errs...); err != nil {
		return Changes{}, err
	}
	for _, u := range plan.fresh {
		if u.from != nil {
			u.from.halt()
			u.from.withdraw(ctx, u.want.Publishes)
		}
		u.build()
	}
	for _, u := range plan.leaves {
		p.leave(ctx, u)
	}
	for u, now := range plan.changes {
		u.change(now)
	}
	for _, u := range plan.drains {
		u.retire()
		p.parts.Log.InfoContext(ctx, "pool was removed from the configuration: its instances are drained",
			"pool", string(u.want.Name))
	}
	p.enter(plan.fresh)
	for _, u := range plan.fresh {
		u.start(p.finished)
	}
	p.list()
	return plan.said, nil
}

// enter adds units to those that run.
func (p *Pools) enter(fresh []*unit) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, u := range fresh {
		p.units[u.want.Name] = u
	}
}

// remove takes a unit out of those that run.
func (p *Pools) remove(u *unit) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.units, u.want.Name)
}

// list starts the inventories of the clouds that are in use. It comes after enter, so that no instance is
// taken for one of an unknown pool.
func (p *Pools) list() {
	p.mu.Lock()
	defer p.mu.Unlock()
	used := make(map[pool.CloudName]bool)
	for _, u := range p.units {
		used[u.want.Cloud] = true
	}
	for _, name := range slices.Sorted(maps.Keys(used)) {
		if m := p.clouds[name]; !m.listed {
			m.listed = true
			m.inventory.Subscribe(p.noticeStrays(name, m.inventory))
			p.parts.Start(m.inventory.Task(m.Cloud))
		}
	}
}

// plan is what Apply is going to do.
type plan struct {
	fresh   []*unit // to be opened and started; some of them in the place of another one
	leaves  []*unit
	drains  []*unit
	changes map[*unit]Pool
	said    Changes
}

// plan compares what should run with what runs. The error says what cannot be done.
func (p *Pools) plan(want []Pool) (plan, error) {
	out := plan{changes: make(map[*unit]Pool)}
	named := make(map[pool.Name]bool)
	var errs []error
	byName := func(a, b Pool) int { return cmp.Compare(a.Name, b.Name) }
	for _, w := range slices.SortedFunc(slices.Values(want), byName) {
		named[w.Name] = true
		u := p.units[w.Name]
		if u != nil {
			errs = append(errs, u.want.misfits(&w))
		}
		switch {
		case u == nil:
			out.fresh = append(out.fresh, newUnit(&p.parts, w, nil))
			out.said.Added = append(out.said.Added, w.Name)
		case u.want.identity() != w.identity():
			out.fresh = append(out.fresh, newUnit(&p.parts, w, u))
			out.said.Restarted = append(out.said.Restarted, w.Name)
		case u.want.Revision != w.Revision || u.retiring:
			out.changes[u] = w
			out.said.Changed = append(out.said.Changed, w.Name)
		}
	}
	errs = append(errs, p.shared(want, named))
	for _, name := range slices.Sorted(maps.Keys(p.units)) {
		switch u := p.units[name]; {
		case named[name], u.retiring:
		case u.want.OnRemove == Drain:
			out.drains = append(out.drains, u)
			out.said.Draining = append(out.said.Draining, name)
		default:
			out.leaves = append(out.leaves, u)
			out.said.Removed = append(out.said.Removed, name)
		}
	}
	return out, errors.Join(errs...)
}

// shared returns which queues two pools would read. Each would take what the other one should hear.
func (p *Pools) shared(want []Pool, named map[pool.Name]bool) error {
	var errs []error
	readers := make(map[string]pool.Name)
	for _, name := range slices.Sorted(maps.Keys(p.units)) {
		if u := p.units[name]; !named[name] && (u.retiring || u.want.OnRemove == Drain) {
			for _, q := range u.want.queues() {
				readers[q] = name
			}
		}
	}
	for _, w := range want {
		for _, q := range w.queues() {
			if other, taken := readers[q]; taken {
				errs = append(errs,
					fmt.Errorf("pool %s: its queue %s is still read by the pool %s, whose instances are "+
						"being drained: wait until it has none, or give that pool on_remove: leave", w.Name, q, other))
			}
		}
	}
	return errors.Join(errs...)
}

// queues returns the names of the pool's queues.
func (p *Pool) queues() []string {
	return slices.DeleteFunc([]string{p.Work.Name, p.Status.Name, p.Orders.Name},
		func(q string) bool { return q == "" })
}

// leave ends a pool's tasks. Its instances run on.
func (p *Pools) leave(ctx context.Context, u *unit) {
	u.halt()
	p.remove(u)
	var ids []pool.InstanceID
	for _, in := range u.roster.Instances(p.parts.Now()) {
		ids = append(ids, in.ID)
	}
	p.parts.Log.WarnContext(ctx,
		"pool was removed from the configuration: its instances run on, and nobody keeps or ends them; "+
			"with on_remove: drain they would be drained", "pool", string(u.want.Name), "instances", ids)
	p.forget(u.want.Name)
}

// finished removes a pool that has no instances any more and should not run. It reports whether it did. It is
// called by the pool's own task, and an Apply that is going on may be waiting for that task, so finished must
// not wait for the Apply: it returns false, and is tried again later.
func (p *Pools) finished(u *unit) bool {
	if !p.applying.TryLock() {
		return false
	}
	defer p.applying.Unlock()
	if p.units[u.want.Name] != u || !u.retiring {
		return false // it was wanted again in the meantime
	}
	u.haltIntake()
	p.remove(u)
	p.parts.Log.Info("pool that was removed has no instances any more", "pool", string(u.want.Name))
	p.forget(u.want.Name)
	return true
}

func (p *Pools) forget(name pool.Name) {
	if p.parts.Forget != nil {
		p.parts.Forget(name)
	}
}

// open opens the cloud and the queues that a pool needs.
func (p *Pools) open(ctx context.Context, u *unit) error {
	m, err := p.machines(ctx, u.want.Cloud)
	if err != nil {
		return err
	}
	u.machines = m
	for _, q := range []struct {
		what string
		name Queue
		to   *queue.Queue
	}{{"work", u.want.Work, &u.work}, {"status", u.want.Status, &u.status}, {"orders", u.want.Orders, &u.orders}} {
		if q.name.Name == "" {
			continue
		}
		opened, err := p.parts.OpenQueue(ctx, q.name.Name, q.name.Limits)
		if err != nil {
			return fmt.Errorf("pool %s: open %s queue: %w", u.want.Name, q.what, err)
		}
		*q.to = opened
	}
	return nil
}

// machines returns a cloud with its inventory, and opens it if it is not in use yet.
func (p *Pools) machines(ctx context.Context, name pool.CloudName) (*machines, error) {
	if m := p.clouds[name]; m != nil {
		return m, nil
	}
	wake := driver.NewWake()
	opened, err := p.parts.OpenCloud(ctx, name, wake.Up)
	if err != nil {
		return nil, fmt.Errorf("open cloud %s: %w", name, err)
	}
	m := &machines{Machines: opened, inventory: inventory.New(name, inventory.Options{
		Interval: opened.Audit, Wake: wake, Now: p.parts.Now, Log: p.parts.Log,
	})}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clouds[name] = m
	return m, nil
}

// Wake makes a pool run a pass soon. It does nothing if the pool does not run.
func (p *Pools) Wake(name pool.Name) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if u := p.units[name]; u != nil {
		u.wake.Up()
	}
}

// Ready returns which clouds have not been listed yet or could not be listed last; nil if there are none.
func (p *Pools) Ready() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(p.clouds)) {
		switch l := p.clouds[name].inventory.Latest(); {
		case !p.clouds[name].listed: // it was opened for a pool that was refused for another reason
		case l.Err != nil:
			errs = append(errs, fmt.Errorf("cloud %s: %w", name, l.Err))
		case l.At.IsZero():
			errs = append(errs, fmt.Errorf("cloud %s has not been listed yet", name))
		}
	}
	return errors.Join(errs...)
}

// noticeStrays returns a function that warns of instances in a cloud whose pool does not run on that cloud,
// once for each such pool. No controller cares for these instances, so they run until an operator ends them.
func (p *Pools) noticeStrays(where pool.CloudName, v *inventory.Inventory) func() {
	said := make(map[pool.Name]bool)
	return func() { // an inventory calls it from one goroutine
		for _, name := range slices.Sorted(maps.Keys(v.Latest().Instances)) {
			if said[name] || p.runsOn(name, where) {
				continue
			}
			said[name] = true
			var ids []pool.InstanceID
			for _, in := range v.Latest().Instances[name] {
				ids = append(ids, in.ID)
			}
			p.parts.Log.Warn("instances run for a pool that is not in the configuration of this cloud; "+
				"nobody keeps or ends them", "cloud", string(where), "pool", string(name), "instances", ids)
		}
	}
}

func (p *Pools) runsOn(name pool.Name, where pool.CloudName) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	u := p.units[name]
	return u != nil && u.want.Cloud == where
}
