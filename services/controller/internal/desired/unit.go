package desired

import (
	"context"
	"sync"
	"time"

	"cloudmaster/internal/policy"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
	"cloudmaster/services/controller/internal/driver"
	"cloudmaster/services/controller/internal/intake"
	"cloudmaster/services/controller/internal/loop"
	"cloudmaster/services/controller/internal/orders"
	"cloudmaster/services/controller/internal/record"
	"cloudmaster/services/controller/internal/roster"
)

// unit is one running pool: its loop, its intake, and the tasks that run them.
type unit struct {
	parts    *Parts
	name     string
	cloud    pool.CloudName // it does not change
	hinted   string         // the name of its work queue, which hints name; it does not change
	want     Pool           // guarded by Pools.applying
	retiring bool           // the pool was removed, and its instances are being ended
	from     *unit          // the one whose place it takes, with what that knows of the pool's instances; nil: none

	machines             *machines
	work, status, orders queue.Queue
	upkeeps              struct{ work, status, orders *upkeep }

	roster *roster.Roster
	loop   *loop.Loop
	intake *intake.Intake
	book   *orders.Book
	wake   *driver.Wake

	unsubscribe   func()
	stopLoop      func()
	haltIntake    func() // ends the tasks that take messages; may be called twice
	orderFailures int    // looks at the queue of orders in a row that failed
}

func newUnit(parts *Parts, want Pool, from *unit) *unit {
	return &unit{
		parts: parts, name: string(want.Name), cloud: want.Cloud, hinted: want.Work.Name, want: want,
		wake: driver.NewWake(), from: from,
	}
}

// build makes the parts of the pool that work on its cloud and queues, once these are open and the unit whose place it
// takes has been halted.
func (u *unit) build() {
	p, w := u.parts, &u.want
	if u.orders != nil {
		u.book = orders.New(w.Name, u.orders, p.Store, p.Wait)
	}
	if u.from != nil {
		u.roster, u.loop = u.from.roster, u.from.loop
		u.roster.SetAddresses(w.ServicePort, w.AnyAddress)
		u.roster.Deafen() // what the other intake had received and not taken in comes again
		u.loop.Rewire(w.Loop, u.work, u.book, w.Publishes)
		u.from = nil
	} else {
		u.roster = roster.New(w.Cloud, roster.Options{
			ServicePort: w.ServicePort, AnyAddress: w.AnyAddress, ListLag: u.machines.ListLag,
		})
		u.loop = loop.New(w.Loop, loop.Ports{
			Pool: w.Name, Cloud: u.machines.Cloud, Inventory: u.machines.inventory, Roster: u.roster, Work: u.work,
			Store: p.Store, Publishes: w.Publishes, Orders: u.book, ListLag: u.machines.ListLag, Lead: p.Lead,
			Since: p.Now(), Now: p.Now, Token: p.Token,
		})
	}
	u.intake = intake.New(u.status, u.roster, intake.Options{
		Pool: w.Name, Parse: w.Parse, Verified: w.Verified, Changed: u.wake.Up,
		Lead: p.Lead, Wait: p.Wait, Now: p.Now,
		Pause: p.Pause,
	})
}

// start runs the pool's tasks. When the pool was removed and has no instances any more, finished is asked
// whether the unit may end.
func (u *unit) start(finished func(*unit) bool) {
	name := u.name
	u.unsubscribe = u.machines.inventory.Subscribe(u.wake.Up)
	u.upkeeps.work, u.upkeeps.status, u.upkeeps.orders = u.upkeep(u.want.Work), u.upkeep(u.want.Status),
		u.upkeep(u.want.Orders)
	stops := []func(){u.parts.Start(driver.Task{Name: "intake/" + name, Step: u.takeIn})}
	if u.book != nil {
		stops = append(stops, u.parts.Start(driver.Task{
			Name: "orders/" + name, Step: u.takeOrders, Stopped: u.handBackOrders,
		}))
	}
	u.haltIntake = sync.OnceFunc(func() {
		u.unsubscribe()
		for _, stop := range stops {
			stop()
		}
	})
	task := driver.Task{
		Name: "pool/" + name, Wake: u.wake, Stopped: u.handBack,
		Step: func(ctx context.Context, now time.Time) (driver.Again, error) {
			r := u.loop.Step(ctx, now)
			u.parts.Sink.Pass(ctx, r)
			u.upkeeps.work.check(ctx, now, r.Err)
			over := u.empty(r) && finished(u)
			return driver.Again{At: r.Next, NotBefore: r.NotBefore, Over: over}, nil
		},
	}
	if w, ok := u.work.(queue.Watcher); ok {
		task.Watch = w.Watch
		task.WatchFailed = func(ctx context.Context, err error) {
			u.parts.Log.WarnContext(ctx, "work queue cannot be watched; looking at it at intervals",
				"pool", name, "error", err)
		}
	}
	u.stopLoop = u.parts.Start(task)
}

// empty reports whether a pass of a removed pool has found that it has no instances any more.
func (u *unit) empty(r *record.Record) bool {
	return r.Decision.Reason == "" && r.Err == nil && r.Blind == "" && len(r.Instances)+len(r.Warm) == 0 &&
		!r.Inputs.Deaf && u.loop.Retiring()
}

// halt ends the pool's tasks. Its instances are not touched.
func (u *unit) halt() {
	u.haltIntake()
	u.stopLoop()
}

// withdraw empties the active set of a halted unit if nobody publishes it from now on: what it names would stay there.
func (u *unit) withdraw(ctx context.Context, publishes bool) {
	if !u.want.Publishes || publishes {
		return
	}
	if err := u.loop.Withdraw(ctx); err != nil {
		u.parts.Log.WarnContext(ctx, "the active set is not published any more, and could not be emptied: "+
			"delete it, or allocators go on sending clients", "pool", u.name, "error", err)
	}
}

// change makes the pool follow other settings, without touching anything that runs.
func (u *unit) change(want Pool) {
	u.want, u.retiring = want, false
	u.loop.Change(want.Loop)
	u.wake.Up()
}

// retire makes the pool end its instances as soon as they may end, and then itself.
func (u *unit) retire() {
	u.retiring = true
	opts := u.want.Loop
	opts.Judge, opts.TakesRequests, opts.Retiring, opts.Warm = policy.Retire(opts.Judge), false, true, 0
	u.loop.Change(opts)
	u.wake.Up()
}

// takeIn looks at the status queue once.
func (u *unit) takeIn(ctx context.Context, now time.Time) (driver.Again, error) {
	said, pause := u.intake.Step(ctx, now)
	if said.Messages > 0 || said.Err != nil || said.Hears {
		u.parts.Sink.Intake(ctx, &said)
	}
	u.upkeeps.status.check(ctx, now, said.Err)
	return again(u.parts.Now(), pause), nil
}

// takeOrders looks at the queue of orders once.
func (u *unit) takeOrders(ctx context.Context, now time.Time) (driver.Again, error) {
	if !u.leads(now) { // the orders are for the controller that leads now
		return again(u.parts.Now(), ordersPause), nil
	}
	said, news := u.book.Step(ctx, now)
	if !u.leads(u.parts.Now()) { // the look may have lasted longer than the lease
		u.handBackOrders(ctx)
	}
	pause := time.Duration(0)
	switch {
	case said.Err != nil:
		u.orderFailures++
		said.Failures, said.Deaf = u.orderFailures, u.orderFailures == 1
		pause = ordersPause
	case u.orderFailures > 0:
		said.Hears, said.Failures = true, u.orderFailures
		u.orderFailures = 0
	}
	if said.Orders = true; said.Messages > 0 || said.Err != nil || said.Hears {
		u.parts.Sink.Intake(ctx, &said)
	}
	u.upkeeps.orders.check(ctx, now, said.Err)
	if news {
		u.wake.Up()
	}
	return again(u.parts.Now(), pause), nil
}

func (u *unit) leads(now time.Time) bool {
	if u.parts.Lead == nil {
		return true
	}
	_, err := u.parts.Lead(now)
	return err == nil
}

// ordersPause is how long to wait before a queue of orders that cannot be read is tried again.
const ordersPause = 5 * time.Second

func again(now time.Time, pause time.Duration) driver.Again {
	return driver.Again{At: now.Add(pause), NotBefore: now.Add(pause)}
}

// handBack gives pending requests back to the queue, so that the next controller gets them at once.
func (u *unit) handBack(ctx context.Context) {
	if n, err := u.loop.HandBack(ctx); err != nil {
		u.parts.Log.WarnContext(ctx, "requests could not be handed back; they will come again",
			"pool", u.name, "count", n, "error", err)
	}
}

// handBackOrders gives orders that are not carried out back to the queue, so that the next controller gets them at
// once, before newer ones.
func (u *unit) handBackOrders(ctx context.Context) {
	if err := u.book.HandBack(ctx); err != nil {
		u.parts.Log.WarnContext(ctx, "orders could not be handed back; they will come again", "pool", u.name, "error",
			err)
	}
}
