// Package desired makes the pools run that should run. Apply starts, changes and removes pools in a running
// controller without ending instances of pools that stay.
package desired

import (
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
	Verified    bool // a status counts only if the broker says that the instance that it names has sent it
	ServicePort int
	AnyAddress  bool // clients are sent to whatever address an instance reports
	Publishes   bool // whether its active set is written
	OnRemove    OnRemove
}

// Machines is an opened cloud.
type Machines struct {
	Cloud   cloud.Cloud
	ListLag time.Duration // how far its lists may be behind; 0 means roster.DefaultListLag
	Audit   time.Duration // how often it is listed
	// ParseEvent reads what such a cloud says by itself; nil: it says nothing.
	ParseEvent func(body []byte) (cloud.Event, error)
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
	Post   Post
	Sink   report.Sink
	Forget func(pool.Name) // called for each pool that does not run any more; nil: nobody is told
	Now    func() time.Time
	Token  func() string // random text, different each time
	// Pause returns how long to wait before a queue that cannot be read is tried again. Nil: a random time.
	Pause func(failures int) time.Duration
	Wait  time.Duration // how long a look at a status queue waits; 0 means 20 s
	Log   *slog.Logger
}

// Pools are the running pools. The methods may be called from any goroutine.
type Pools struct {
	parts Parts

	applying sync.Mutex // locked for as long as it takes to change which pools run
	posted   bool       // the tasks of the deployment's own queues were started; guarded by applying

	mu     sync.Mutex                   // locked for moments only
	clouds map[pool.CloudName]*machines // guarded by mu
	units  map[pool.Name]*unit          // guarded by mu; changed only while applying is locked, too
}

// machines is a cloud that is in use, with its list of instances.
type machines struct {
	Machines

	inventory *inventory.Inventory
	listed    bool         // the inventory's task has been started
	checks    *driver.Wake // asks for a look for instances that are about to end

	notedMu sync.Mutex
	noted   map[pool.InstanceID]string // what was said of instances that go on; guarded by notedMu
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
	if err := p.openAll(ctx, plan.fresh); err != nil {
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
	p.startPost()
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
		used[u.cloud] = true
	}
	for _, name := range slices.Sorted(maps.Keys(used)) {
		if m := p.clouds[name]; !m.listed {
			m.listed = true
			m.inventory.Subscribe(p.noticeStrays(name, m.inventory))
			p.parts.Start(m.inventory.Task(m.Cloud))
			if from, ok := m.Cloud.(cloud.Checker); ok {
				p.parts.Start(p.check(name, m, from))
			}
		}
	}
}

// leave ends a pool's tasks. Its instances run on.
func (p *Pools) leave(ctx context.Context, u *unit) {
	u.halt()
	p.remove(u)
	var ids []pool.InstanceID
	now := p.parts.Now()
	for _, in := range append(u.roster.Instances(now), u.roster.Reserve(now)...) { // warm ones cost, too
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

// openAll opens what new pools need. A cloud that cannot be opened is said once, for all its pools.
func (p *Pools) openAll(ctx context.Context, fresh []*unit) error {
	var errs []error
	broken := make(map[pool.CloudName]bool)
	for _, u := range fresh {
		if broken[u.want.Cloud] {
			continue
		}
		err := p.open(ctx, u)
		broken[u.want.Cloud] = err != nil && u.machines == nil
		errs = append(errs, err)
	}
	return errors.Join(errs...)
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
	m := &machines{
		Machines: opened, checks: driver.NewWake(), noted: make(map[pool.InstanceID]string),
		inventory: inventory.New(name, inventory.Options{
			Interval: opened.Audit, Wake: wake, Now: p.parts.Now, Log: p.parts.Log,
		}),
	}
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
			var ids []pool.InstanceID
			for _, in := range v.Latest().Instances[name] {
				if in.Phase != cloud.Terminated {
					ids = append(ids, in.ID)
				}
			}
			if len(ids) == 0 {
				continue
			}
			said[name] = true
			p.parts.Log.Warn("instances run for a pool that is not in the configuration of this cloud; "+
				"nobody keeps or ends them", "cloud", string(where), "pool", string(name), "instances", ids)
		}
	}
}

func (p *Pools) runsOn(name pool.Name, where pool.CloudName) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	u := p.units[name]
	return u != nil && u.cloud == where
}
