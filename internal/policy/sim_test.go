package policy_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"cloudmaster/internal/policy"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/pool/pooltest"
)

var simSeeds = flag.Int("sim.seeds", 50, "how many seeds the simulation runs")

// The simulation carries out what the judge decides: the pool changes, and it works off a generated load, in
// steps of simulated time. Launches and stops take time. There are no goroutines and no clock.
const (
	simStep     = 5 * time.Second
	simInterval = time.Minute // policy_interval, after which budgets are full again
	simWatchdog = 5 * time.Minute
)

// TestSimRandomLoad runs with a load that comes and goes at random, and with servers that hang.
func TestSimRandomLoad(t *testing.T) {
	t.Parallel()
	for name, load := range map[string]func(rng *rand.Rand) workload{"job": newJobs, "resource": newClients} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			turns := 0
			forSeeds(t, *simSeeds, func(rng *rand.Rand) error {
				w := newWorld(t, rng, load(rng))
				w.faults = rng.IntN(2) == 0
				if err := w.run(time.Hour, true); err != nil {
					return err
				}
				turns += w.turns()
				// Every change of direction needs a launch and a stop, and an instance runs at least for its
				// lifetimes.
				lives := w.judge.Limits.Maximum * int(time.Hour/lifetimes.MinimumLifetime)
				if got := w.turns(); got > lives {
					return fmt.Errorf("%d changes of direction in an hour, want at most %d: %v", got, lives, w.moves)
				}
				return w.comesToRest()
			})
			t.Logf("changes of direction in an hour, mean: %.1f", float64(turns)/float64(*simSeeds))
		})
	}
}

// TestSimSteadyLoad runs with a constant load: each job or client that ends is replaced at once, so once the
// pool has found its size it must not change any more.
func TestSimSteadyLoad(t *testing.T) {
	t.Parallel()
	for name, load := range map[string]func(rng *rand.Rand) workload{"job": newJobs, "resource": newClients} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			forSeeds(t, *simSeeds, func(rng *rand.Rand) error {
				w := newWorld(t, rng, load(rng))
				w.load.hold(1 + rng.IntN(4*w.judge.Limits.Maximum))
				if err := w.run(30*time.Minute, true); err != nil {
					return err
				}
				w.moves = nil
				if err := w.run(2*time.Hour, true); err != nil {
					return err
				}
				if w.turns() > 1 {
					return fmt.Errorf("thrashes under steady load: %v", w.moves)
				}
				return w.comesToRest()
			})
		})
	}
}

// workload is the work that the servers do.
type workload interface {
	policy(tb testing.TB, limits *pool.Limits) policy.Policy
	hold(n int)               // from now on keep n jobs or clients in the system, without random arrivals
	arrive(w *world)          // new work
	serve(w *world)           // work goes on for a step
	lose(w *world, s *server) // a server is gone
	see(s *pool.Snapshot)     // fills in the backlog
	left() int                // work in the system
}

type server struct {
	pool.Instance
	ready time.Time   // end of boot, or of stopping
	ends  []time.Time // of the job, or of each client's session
	hung  bool
}

type world struct {
	rng     *rand.Rand
	now     time.Time
	judge   policy.Judge
	load    workload
	servers []*server
	budget  pool.Budget
	refill  time.Time
	made    int
	faults  bool
	moves   []int // what the policy did: > 0 for growth, < 0 for shrinkage
}

func newWorld(tb testing.TB, rng *rand.Rand, load workload) *world {
	tb.Helper()
	limits := lifetimes
	limits.Minimum, limits.StartLimit, limits.StopLimit = rng.IntN(3), 1+rng.IntN(2), 1
	limits.Maximum = limits.Minimum + 2 + rng.IntN(6)
	w := &world{rng: rng, now: pooltest.Now, load: load}
	w.judge = policy.Judge{
		Policy: load.policy(tb, &limits), Limits: limits,
		Watchdog: policy.Watchdog{Interval: simWatchdog, BreakerRatio: 0.5},
	}
	return w
}

// run lets a time pass, with or without the arrival of new work.
func (w *world) run(d time.Duration, arrivals bool) error {
	for end := w.now.Add(d); w.now.Before(end); w.now = w.now.Add(simStep) {
		if arrivals {
			w.load.arrive(w)
		}
		w.age()
		w.load.serve(w)
		w.report()
		if err := w.pass(); err != nil {
			return fmt.Errorf("after %s: %w", w.now.Sub(pooltest.Now), err)
		}
	}
	return nil
}

// comesToRest stops the arrival of work and waits, for a bounded time, until the pool is at its minimum.
func (w *world) comesToRest() error {
	w.faults = false
	w.load.hold(0)
	for range 100 {
		if w.load.left() == 0 {
			break
		}
		if err := w.run(10*time.Minute, false); err != nil {
			return err
		}
	}
	limits := w.judge.Limits
	bound := limits.MinimumLifetime + limits.MinimumActiveTime + simWatchdog +
		time.Duration(limits.Maximum+2)*simInterval
	if err := w.run(bound, false); err != nil {
		return err
	}
	if s := w.snapshot(); s.Counted() != limits.Minimum || len(s.Instances) != limits.Minimum || w.load.left() > 0 {
		return fmt.Errorf("%s after the last work: %d counted, %d in all, %d left to do, want the minimum, %d", bound,
			s.Counted(), len(s.Instances), w.load.left(), limits.Minimum)
	}
	return nil
}

// age ends boots and stops whose time is over, and sometimes makes one server hang.
func (w *world) age() {
	w.servers = slices.DeleteFunc(w.servers, func(s *server) bool {
		return s.State == pool.Stopping && !w.now.Before(s.ready)
	})
	for _, s := range w.servers {
		if s.State == pool.Startup && !w.now.Before(s.ready) && !s.hung {
			s.State, s.StateSince, s.ActiveAt = pool.Active, w.now, w.now
		}
	}
	anyHung := slices.ContainsFunc(w.servers, func(s *server) bool { return s.hung })
	if w.faults && !anyHung && len(w.servers) > 0 && w.rng.IntN(120) == 0 {
		w.servers[w.rng.IntN(len(w.servers))].hung = true
	}
}

// report does what status messages do: it brings what is known of each instance up to date.
func (w *world) report() {
	for _, s := range w.servers {
		if s.hung || s.State == pool.Startup || s.State == pool.Stopping {
			continue
		}
		s.ReportedAt, s.HeardAt = w.now, w.now
		s.Busy = len(s.ends) > 0
		if s.Busy {
			s.IdleSince = time.Time{}
		} else if s.IdleSince.IsZero() {
			s.IdleSince = w.now
		}
	}
}

func (w *world) snapshot() *pool.Snapshot {
	s := &pool.Snapshot{Now: w.now}
	for _, srv := range w.servers {
		s.Instances = append(s.Instances, srv.Instance)
	}
	w.load.see(s)
	return s
}

func (w *world) pass() error {
	if !w.now.Before(w.refill) {
		w.budget = pool.Budget{Starts: w.judge.Limits.StartLimit, Stops: w.judge.Limits.StopLimit}
		w.refill = w.now.Add(simInterval)
	}
	s := w.snapshot()
	d, v := w.judge.Decide(s, w.budget)
	if err := invariants(w.judge, s, w.budget, &d, v); err != nil {
		return fmt.Errorf("%w: %s", err, &d)
	}
	w.budget.Starts -= d.Spent.Starts
	w.budget.Stops -= d.Spent.Stops
	return w.act(&d, v)
}

func (w *world) act(d *pool.Decision, v policy.Verdict) error {
	grown := len(d.Reactivate) + d.Launch
	for _, s := range w.servers {
		switch {
		case slices.Contains(d.Reactivate, s.ID):
			s.State, s.StateSince, s.ActiveAt = pool.Active, w.now, w.now
		case slices.Contains(pool.IDs(d.ShutDown), s.ID):
			s.State, s.StateSince = pool.ShutDown, w.now
			grown--
		case slices.Contains(pool.IDs(d.Stop), s.ID):
			hung := slices.Contains(pool.IDs(v.Hung), s.ID)
			if len(s.ends) > 0 && !hung {
				return fmt.Errorf("stops %s, which is busy: %s", s.ID, d)
			}
			if s.Counted() { // replacing a hung instance is not growth
				grown--
			}
			w.load.lose(w, s)
			s.State, s.StateSince, s.ready = pool.Stopping, w.now, w.now.Add(10*time.Second)
		}
	}
	for range d.Launch {
		w.launch()
	}
	if grown != 0 && len(v.Hung) == 0 {
		w.moves = append(w.moves, grown)
	}
	if n := w.capacity(); n > w.judge.Limits.Maximum {
		return fmt.Errorf("%d instances, maximum %d: %s", n, w.judge.Limits.Maximum, d)
	}
	return nil
}

func (w *world) launch() {
	w.made++
	boot := time.Duration(10+w.rng.IntN(90)) * time.Second
	w.servers = append(w.servers, &server{
		Instance: pool.Instance{
			ID:    pool.InstanceID(fmt.Sprintf("i-%06d", w.made)),
			State: pool.Startup, StateSince: w.now, Launched: w.now, HeardAt: w.now,
		},
		ready: w.now.Add(boot),
	})
}

func (w *world) capacity() int {
	n := 0
	for _, s := range w.servers {
		if s.State != pool.Stopping {
			n++
		}
	}
	return n
}

// turns counts how often growth was followed by shrinkage, or the reverse.
func (w *world) turns() int {
	n := 0
	for i := range w.moves {
		if i > 0 && (w.moves[i] > 0) != (w.moves[i-1] > 0) {
			n++
		}
	}
	return n
}

// jobs is a workload of jobs that wait in a queue and take one worker each.
type jobs struct {
	waiting  int
	inFlight int
	every    int // on average, work arrives once in so many steps
	held     int
}

func newJobs(rng *rand.Rand) workload { return &jobs{every: 1 + rng.IntN(8)} }

func (j *jobs) policy(tb testing.TB, limits *pool.Limits) policy.Policy {
	tb.Helper()
	return newJob(tb, jobDefaults)
}

func (j *jobs) hold(n int) { j.held = n }

func (j *jobs) arrive(w *world) {
	switch {
	case j.held > 0:
		j.waiting = j.held - j.inFlight
	case w.rng.IntN(240) == 0:
		j.waiting += w.rng.IntN(40) // a batch arrives at once
	case w.rng.IntN(j.every) == 0:
		j.waiting++
	}
}

func (j *jobs) serve(w *world) {
	for _, s := range w.servers {
		if s.hung || s.State != pool.Active {
			continue
		}
		if len(s.ends) > 0 && !w.now.Before(s.ends[0]) {
			s.ends = nil
			j.inFlight--
			if j.held > 0 {
				j.waiting++
			}
		}
		if len(s.ends) == 0 && j.waiting > 0 {
			s.ends = []time.Time{w.now.Add(time.Duration(2+w.rng.IntN(60)) * time.Second)}
			j.waiting, j.inFlight = j.waiting-1, j.inFlight+1
		}
	}
}

func (j *jobs) lose(_ *world, s *server) {
	j.waiting, j.inFlight = j.waiting+len(s.ends), j.inFlight-len(s.ends)
	s.ends = nil
}

func (j *jobs) see(s *pool.Snapshot) {
	s.Backlog = pool.Backlog{Known: true, Visible: j.waiting, InFlight: j.inFlight}
}

func (j *jobs) left() int { return j.waiting + j.inFlight }

// clients is a workload of clients. Each connects to the active server with the least load and adds a tenth
// to it, or sends a request for a server and comes back later.
type clients struct {
	connected int
	waiting   []time.Time // when each tries again
	requests  int
	every     int
	held      int
}

func newClients(rng *rand.Rand) workload { return &clients{every: 1 + rng.IntN(12)} }

func (c *clients) policy(tb testing.TB, limits *pool.Limits) policy.Policy {
	tb.Helper()
	limits.Drain = true
	return newResource(tb, resourceDefaults)
}

func (c *clients) hold(n int) { c.held = n }

func (c *clients) arrive(w *world) {
	switch {
	case c.held > 0:
		c.replace(w.now)
	case w.rng.IntN(c.every) == 0:
		c.waiting = append(c.waiting, w.now)
	}
}

// replace adds clients until there are as many as hold has asked for.
func (c *clients) replace(now time.Time) {
	for c.left() < c.held {
		c.waiting = append(c.waiting, now)
	}
}

func (c *clients) serve(w *world) {
	c.requests = 0
	for _, s := range w.servers {
		if !s.hung {
			n := len(s.ends)
			s.ends = slices.DeleteFunc(s.ends, func(end time.Time) bool { return !w.now.Before(end) })
			c.connected -= n - len(s.ends)
		}
	}
	c.replace(w.now)
	again := c.waiting[:0]
	for _, at := range c.waiting {
		switch s := w.leastLoaded(); {
		case w.now.Before(at):
			again = append(again, at)
		case s != nil:
			s.ends = append(s.ends, w.now.Add(time.Duration(30+w.rng.IntN(600))*time.Second))
			c.connected++
		default:
			c.requests++
			again = append(again, w.now.Add(30*time.Second))
		}
	}
	c.waiting = again
	for _, s := range w.servers {
		if !s.hung {
			s.Load = float64(len(s.ends)) / 10
		}
	}
}

func (w *world) leastLoaded() *server {
	var best *server
	for _, s := range w.servers {
		if s.State == pool.Active && (best == nil || len(s.ends) < len(best.ends)) {
			best = s
		}
	}
	return best
}

func (c *clients) lose(_ *world, s *server) {
	c.connected -= len(s.ends)
	s.ends = nil
}

func (c *clients) see(s *pool.Snapshot) { s.Requests, s.Backlog = c.requests, visible(0) }

func (c *clients) left() int { return c.connected + len(c.waiting) }
