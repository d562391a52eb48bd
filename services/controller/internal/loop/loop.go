// Package loop is the control loop of one pool. A pass observes, decides, limits,
// acts and reports, in that order, once, with no way back up.
//
// A pass runs when something has happened (a status message, messages on the work
// queue, a changed inventory), when something is due (a limit refills, a drain ends), and at the latest
// every policy interval. A work queue that cannot tell of messages is looked at every poll
// interval, and when a hint on the status queue says so. Passes of one pool never overlap.
//
// Every pass starts from what the cloud lists. Acts are ordered and idempotent, so
// that a crash between any two of them leaves a state that the next pass, of this or another
// controller, repairs: an instance leaves the published active set before it is
// marked shut_down or ended, and joins it after it is marked active.
package loop

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"time"

	"cloudmaster/internal/backoff"
	"cloudmaster/internal/blob"
	"cloudmaster/internal/cloud"
	"cloudmaster/internal/daemon"
	"cloudmaster/internal/message"
	"cloudmaster/internal/policy"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
	"cloudmaster/services/controller/internal/inventory"
	"cloudmaster/services/controller/internal/report"
	"cloudmaster/services/controller/internal/roster"
)

// provider is the part of a cloud that a loop needs: listing is the inventory's business.
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

// receiver takes messages from a queue.
type receiver interface {
	Receive(ctx context.Context, most int, wait time.Duration) ([]queue.Message, error)
	Delete(ctx context.Context, receipts ...queue.Receipt) error
}

// workQueue is the pool's work queue: its depth, and for some policies its messages.
type workQueue interface {
	receiver
	Extend(ctx context.Context, receipts ...queue.Receipt) error
	Release(ctx context.Context, receipts ...queue.Receipt) error
	Visibility() time.Duration
	Backlog(ctx context.Context) (pool.Backlog, error)
}

// store is where the active set is published and the launch journal kept.
type store interface {
	Get(ctx context.Context, key string, have blob.Version) (blob.Object, error)
	Put(ctx context.Context, key string, data []byte, last blob.Version) (blob.Version, error)
}

// Deps is what a loop works with. All are required.
type Deps struct {
	Cloud     provider
	Inventory lister
	Work      workQueue
	Status    receiver
	Store     store
	ListLag   time.Duration // how far the cloud's lists may be behind; 0 means roster.DefaultListLag. A few seconds need no launch journal
	Rules     func() error  // says why we may not act now: another controller may rule; nil: we always may
	UserData  func(pool.InstanceID) ([]byte, error)
	Report    report.Reporter
	Metrics   *Metrics
	Log       *slog.Logger
}

// Loop is the control loop of one pool.
type Loop struct {
	cfg     Options
	deps    Deps
	log     *slog.Logger
	judge   policy.Judge
	parse   message.ParseFunc
	metrics *poolMetrics
	roster  *roster.Roster
	set     publisher
	journal journal
	poll    poll
	wake    chan struct{}

	garbage quota // of status messages; the intake's

	// What follows belongs to the goroutine that runs passes.
	budget    budget
	heard     uint64 // statuses that the newest snapshot knows of
	backlog   pool.Backlog
	requests  requests
	launch    intent
	summary   summaryState
	breaker   bool
	heldUntil time.Time // launches wait for what a predecessor has launched; zero: the present pass holds none back
	lastWords string    // of the newest decision, to log changes only
	lastError string    // of the newest pass that failed, to log changes only
	due       time.Time // when the next pass is due without anything happening
	failures  int       // passes in a row that ended in an error
}

// New returns the loop of a pool, or all that is wrong with its configuration. Run runs it.
func New(cfg Options, deps Deps) (*Loop, error) {
	judge, err := cfg.Judge()
	if err != nil {
		return nil, fmt.Errorf("pool %s: %w", cfg.Name, err)
	}
	deps.ListLag = cmp.Or(deps.ListLag, roster.DefaultListLag)
	l := &Loop{
		cfg: cfg, deps: deps, log: deps.Log.With("pool", string(cfg.Name)), judge: judge, parse: cfg.Parser(),
		metrics: deps.Metrics.forPool(cfg.Name),
		roster:  roster.New(pool.CloudName(cfg.Cloud), roster.Options{ServicePort: cfg.ServicePort, ListLag: deps.ListLag}),
		wake:    make(chan struct{}, 1),
	}
	l.set = newPublisher(cfg, deps.Store)
	l.journal = newJournal(cfg.Name, deps.Store, deps.ListLag)
	l.poll.on, l.poll.interval = !watches(deps.Work), cfg.PollInterval
	l.budget = newBudget(cfg.StartLimit, cfg.StopLimit, cfg.PolicyInterval)
	return l, nil
}

// Wake asks for a pass soon. It never blocks.
func (l *Loop) Wake() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Run takes in status messages and runs passes until ctx ends. Whatever fails is
// logged and tried again; it returns nil.
func (l *Loop) Run(ctx context.Context) error {
	return daemon.Group(ctx, l.intake, l.watchWork, l.passes)
}

const (
	// leastGap lets what happens in a burst be judged together. It is part of every
	// reaction, so it is short.
	leastGap = 50 * time.Millisecond
	// After passes that failed in a row the pause grows: up to mostGap before a pass that
	// something has asked for, up to mostBackoff before one that only tries again.
	mostGap, mostBackoff = time.Second, 10 * time.Second
	// callTimeout bounds what a pass waits for one answer of the broker or the store,
	// actTimeout for one of the cloud.
	callTimeout, actTimeout = 5 * time.Second, 30 * time.Second
)

// passes runs a pass whenever there is a reason.
func (l *Loop) passes(ctx context.Context) error {
	defer l.handBack(ctx)
	l.due = time.Now()
	for {
		timer := time.NewTimer(time.Until(l.due))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-l.wake:
			timer.Stop()
		case <-timer.C:
		}
		if ctx.Err() != nil {
			return nil
		}
		l.pass(ctx)
		if !backoff.Wait(ctx, min(l.backoff(), mostGap)) {
			return nil
		}
	}
}

// handBack leaves the requests that are held to the next controller, at once.
func (l *Loop) handBack(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	if err := l.requests.release(ctx, l.deps.Work); err != nil {
		l.log.WarnContext(ctx, "requests could not be handed back; they will come again", "count", l.requests.count(), "error", err)
	}
}

// backoff is the pause after a pass: longer the more have failed in a row.
func (l *Loop) backoff() time.Duration {
	return min(leastGap<<min(max(0, l.failures-1), 12), mostBackoff)
}

// pass runs one step and logs its error, once however often it repeats. After a
// failure the next pass is not left to the policy interval.
func (l *Loop) pass(ctx context.Context) {
	start := time.Now()
	err := l.step(ctx, start)
	l.metrics.passed(time.Since(start), err)
	switch {
	case err == nil:
		if l.failures > 0 {
			l.log.InfoContext(ctx, "passes succeed again", "failures", l.failures)
		}
		l.failures, l.lastError = 0, ""
	case ctx.Err() != nil:
	default:
		l.failures++
		if text := lasting(err); text != l.lastError || l.failures%100 == 0 {
			l.lastError = text
			l.log.ErrorContext(ctx, "pass failed; the next one tries again", "error", err, "failures", l.failures)
		}
		if again := time.Now().Add(l.backoff()); again.Before(l.due) {
			l.due = again
		}
	}
}

// rules returns nil as long as no other controller can have taken our place.
func (l *Loop) rules() error {
	if l.deps.Rules == nil {
		return nil
	}
	return l.deps.Rules()
}

// step is one pass at the given time.
func (l *Loop) step(ctx context.Context, now time.Time) error {
	l.due, l.heldUntil = now.Add(l.cfg.PolicyInterval), time.Time{}
	if err := l.rules(); err != nil {
		return err
	}
	s, ok, observed := l.observe(ctx, now)
	if !ok {
		return observed
	}
	left := l.budget.left(now)
	d, verdict := l.judge.Decide(&s, left)
	if shrinks := len(d.ShutDown)+len(d.Stop) > 0; shrinks && !l.poll.fresh { // never on what may be over
		observed = errors.Join(observed, l.readWork(ctx, now, true))
		s = l.snapshot(now)
		d, verdict = l.judge.Decide(&s, left)
	}
	l.explain(ctx, &d, verdict)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := l.rules(); err != nil { // to observe may have taken its time
		return err
	}
	acted := l.act(ctx, &s, &d, verdict.Hung)
	held := l.requests.count()
	settled := l.requests.settle(ctx, l.deps.Work, &d, acted == nil && l.heldUntil.IsZero())
	l.poll.ended(held - l.requests.count())
	published := l.publish(ctx, nil)
	l.tell(ctx, now)
	l.schedule(&d, left, now)
	return errors.Join(observed, acted, settled, published)
}

// explain logs a decision when it differs from the last.
func (l *Loop) explain(ctx context.Context, d *pool.Decision, v policy.Verdict) {
	l.metrics.decided(d, v)
	if v.Breaker != l.breaker {
		l.breaker = v.Breaker
		text := "breaker closed: statuses return"
		if v.Breaker {
			text = fmt.Sprintf("breaker open: %d of %d instances are silent, which is likely our fault; nothing is replaced", v.Silent, v.Active)
		}
		l.log.WarnContext(ctx, "breaker changed", "open", v.Breaker, "silent", v.Silent, "active", v.Active)
		l.report(ctx, report.Event{Kind: report.Noticed, Text: text})
	}
	words := d.String()
	if words == l.lastWords {
		return // nothing new, or what failed in the last pass
	}
	l.lastWords = words
	level := slog.LevelDebug
	if !d.Empty() {
		level = slog.LevelInfo
	}
	l.log.LogAttrs(ctx, level, "decision", slog.String("decision", words),
		slog.Int("launch", d.Launch), slog.Any("reactivate", d.Reactivate), slog.Any("shut_down", d.ShutDown), slog.Any("stop", d.Stop),
		slog.Any("asked", d.Asked), slog.Any("clamps", d.Clamps), slog.Any("backlog", l.backlog), slog.Int("requests", l.requests.count()))
}

// callIDs are what AWS calls one request, and the host that answered it.
var callIDs = regexp.MustCompile(`(Request|Host)ID: [^,]*`)

// lasting is what an error says, without what is another at every repetition.
func lasting(err error) string { return callIDs.ReplaceAllString(err.Error(), "") }

// schedule moves the next pass forward to what is due before the policy interval is over.
func (l *Loop) schedule(d *pool.Decision, left pool.Budget, now time.Time) {
	sooner := func(at time.Time) {
		if at.After(now) && at.Before(l.due) {
			l.due = at
		}
	}
	if len(d.Clamps) > 0 && (left.Starts < l.cfg.StartLimit || left.Stops < l.cfg.StopLimit || !d.Empty()) {
		sooner(l.budget.refill(now))
	}
	for _, in := range l.roster.Instances(now) {
		if in.State == pool.ShutDown {
			sooner(in.StateSince.Add(l.cfg.ShutDownGrace))
			sooner(in.StateSince.Add(l.cfg.ShutDownInterval))
		}
	}
	sooner(l.launch.notBefore)
	sooner(l.heldUntil)
	sooner(l.poll.due())
	sooner(l.poll.again)
	sooner(l.requests.extendAt)
	sooner(l.set.due)
	sooner(l.summary.due)
}

// report completes and sends an event.
func (l *Loop) report(ctx context.Context, e report.Event) {
	e.At, e.Pool = time.Now(), l.cfg.Name
	l.deps.Report.Report(ctx, e)
}
