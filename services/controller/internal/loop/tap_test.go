package loop_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"cloudmaster/internal/activeset"
	"cloudmaster/internal/cloud"
	"cloudmaster/internal/message"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
)

var (
	errAway = errors.New("the other side is away")
	errLost = errors.New("the answer was lost")
	errDead = errors.New("this controller is dead")
)

// tap stands between controllers and everything that they call. It sees every call in order, checks after
// each what must always be true, and can make calls fail or the controller die.
type tap struct {
	b *bench

	mu     sync.Mutex
	calls  []call
	delay  map[string]time.Duration              // before answers
	broken map[string]error                      // calls that fail without effect
	lose   map[string]int                        // how many answers to come are lost, by op
	faults func(op string) (before, after error) // asked for every call; nil: none
	killAt int                                   // the call at which the controller dies; 0: never
	after  bool                                  // it dies after that call has taken effect, not before
	made   int                                   // calls of the present controller that can change something or fail
	kill   context.CancelFunc
	dead   bool
	told   map[pool.InstanceID]time.Time // when controllers have ended instances
	since  time.Time                     // when the present controller began
	heard  map[pool.InstanceID]heard     // what controllers took from the status queue
	again  map[pool.InstanceID]time.Time // when controllers last took a status that was not news
	listed time.Time                     // when the newest list that a controller got was asked for
	mayEnd func(id pool.InstanceID) bool // busy ones that may be ended all the same

	meanwhile func() // lets other things happen between the effect of a call and its answer; nil: nothing does
}

type heard struct {
	message.Status
	at time.Time
}

// call is one call as the tap has seen it.
type call struct {
	op   string // "cloud.launch"
	text string // what it was about
	err  error
}

// revive connects a new controller; kill must end it.
func (t *tap) revive(kill context.CancelFunc) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kill, t.dead, t.since = kill, false, time.Now()
}

// dieAt makes the controller die at its n-th call from now on.
func (t *tap) dieAt(n int, after bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.killAt, t.after, t.made = n, after, 0
}

func (t *tap) madeCalls() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.made
}

func (t *tap) isDead() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.dead
}

// breakDown makes calls fail without effect until heal. An op may be "cloud.launch" or "status".
func (t *tap) breakDown(op string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.broken == nil {
		t.broken = make(map[string]error)
	}
	t.broken[op] = err
}

// slow makes the answers of an op take their time.
func (t *tap) slow(op string, d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.delay = map[string]time.Duration{op: d}
}

func (t *tap) linger(op string) {
	t.mu.Lock()
	d := t.delay[op]
	t.mu.Unlock()
	time.Sleep(d)
}

func (t *tap) heal() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.broken, t.lose, t.faults = nil, nil, nil
}

// failAtRandom calls f for each call to find out what goes wrong with it. f need not be safe for concurrent
// use.
func (t *tap) failAtRandom(f func(op string) (before, after error)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.faults = f
}

// loseAnswers makes the next n calls of op take effect and fail.
func (t *tap) loseAnswers(op string, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lose = map[string]int{op: n}
}

// do makes one call.
func (t *tap) do(op, text string, f func() error) error {
	after, err := t.enter(op)
	if err == nil {
		err = f()
		if after != nil {
			err = after
		}
	}
	if errors.Is(err, errDead) {
		t.die()
	}
	t.mu.Lock()
	t.calls = append(t.calls, call{op, text, err})
	t.mu.Unlock()
	if t.meanwhile != nil {
		t.meanwhile()
	}
	return err
}

func (t *tap) die() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dead = true
	t.kill()
}

// enter decides what happens to a call: whether it fails before it has an effect, and what it returns after
// it.
func (t *tap) enter(op string) (after, before error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.dead {
		return nil, errDead
	}
	t.made++
	if t.made == t.killAt {
		if t.after {
			return errDead, nil
		}
		return nil, errDead
	}
	service, _, _ := strings.Cut(op, ".")
	for _, key := range []string{op, service} {
		if err := t.broken[key]; err != nil {
			return nil, err
		}
	}
	if t.lose[op] > 0 {
		t.lose[op]--
		return errLost, nil
	}
	if t.faults != nil {
		before, after = t.faults(op)
	}
	return after, before
}

// times returns how often an op was called.
func (t *tap) times(op string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for _, c := range t.calls {
		if c.op == op {
			n++
		}
	}
	return n
}

// changes returns the calls that changed something since the last forget: "store.put […]", "cloud.tag …".
func (t *tap) changes() (out []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.calls {
		if c.err == nil &&
			slices.Contains([]string{
				"cloud.launch", "cloud.tag", "cloud.terminate", "cloud.stop", "cloud.start",
				"store.put",
			}, c.op) {
			out = append(out, c.op+" "+c.text)
		}
	}
	return out
}

func (t *tap) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.calls = nil
}

// These functions check what must always be true.

// atMost checks that there are never more instances than the maximum, whatever their states are.
func (t *tap) atMost() {
	if n := len(t.b.present()); n > t.b.cfg.Maximum {
		t.b.t.Errorf("at %s: %d instances, the most is %d: %s", time.Since(t.b.start), n, t.b.cfg.Maximum, t.b.states())
	}
}

// unnamed checks that the active set names none of these instances, which are about to drain or end.
func (t *tap) unnamed(ctx context.Context, what string, ids []pool.InstanceID) {
	set, _ := t.b.readSet(ctx)
	for i := range set.Instances {
		if slices.Contains(ids, set.Instances[i].ID) {
			t.b.t.Errorf("at %s: %s of %s, which the active set names", time.Since(t.b.start), what,
				set.Instances[i].ID)
		}
	}
}

// unburdened checks that none of these instances has last reported that it is busy. A status that arrives in
// the same instant may not have been looked at yet.
func (t *tap) unburdened(ids []pool.InstanceID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, id := range ids {
		h := t.heard[id]
		if t.told[id].IsZero() && (h.Busy() || h.Load > t.b.cfg.ShutDownThreshold) && h.at.Before(time.Now()) &&
			(t.mayEnd == nil || !t.mayEnd(id)) {
			t.b.t.Errorf("at %s: %s is ended, which said %+v at %s", time.Since(t.b.start), id, h.Status,
				h.at.Sub(t.b.start))
		}
	}
}

// ended notes that the cloud has accepted to end these instances.
func (t *tap) ended(ids []pool.InstanceID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.told == nil {
		t.told = make(map[pool.InstanceID]time.Time)
	}
	for _, id := range ids {
		t.told[id] = time.Now()
	}
}

func (t *tap) gotList(asked time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.listed = asked
}

func (t *tap) newestList() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.listed
}

// listen remembers what a controller has been told.
func (t *tap) listen(batch []queue.Message) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.heard == nil {
		t.heard, t.again = make(map[pool.InstanceID]heard), make(map[pool.InstanceID]time.Time)
	}
	for i := range batch {
		m, err := message.ParseStd(batch[i].Body)
		s, ok := m.(message.Status)
		switch {
		case err != nil || !ok:
		case newer(s, t.heard[s.InstanceID].Status):
			t.heard[s.InstanceID] = heard{s, time.Now()}
		default:
			t.again[s.InstanceID] = time.Now()
		}
	}
}

// misled reports whether the present controller may know less of an instance than the one before, which has taken its
// newest status and left an older one on the queue. It is asked while mu is held.
func (t *tap) misled(id pool.InstanceID) bool {
	return t.heard[id].at.Before(t.since) && !t.again[id].Before(t.since)
}

func newer(a, b message.Status) bool {
	return a.Timestamp.After(b.Timestamp) || a.Timestamp.Equal(b.Timestamp) && a.Sequence > b.Sequence
}

// clean: a set that is written names none that is draining or was ended, by all that the
// controller can know: late lists, and those that fail, show a new one what its predecessor has ended.
func (t *tap) clean(data []byte) {
	set, err := activeset.Decode(data)
	if err != nil {
		t.b.t.Errorf("a set is written that cannot be read: %v", err)
	}
	states, listed := t.b.states(), t.newestList()
	for i := range set.Instances {
		id := set.Instances[i].ID
		told := t.told[id]
		shown := listed.After(told.Add(t.b.late)) &&
			(time.Since(told) > t.b.late+t.b.audit+time.Second || t.b.late == 0)
		ended := !told.IsZero() && (told.After(t.since) || shown)
		if ended || strings.Contains(states, string(id)+":shut_down") {
			t.b.t.Errorf("at %s: a set is written that names %s, ended: %v, states %s", time.Since(t.b.start), id, told,
				states)
		}
	}
}

// tapCloud passes calls to a cloud on and shows them to the tap.
type tapCloud struct {
	tap   *tap
	cloud cloud.Cloud
}

// Launch implements cloud.Cloud.
func (c tapCloud) Launch(ctx context.Context, spec cloud.Spec) (out []cloud.Instance, err error) {
	err = c.tap.do("cloud.launch", fmt.Sprint(spec.Count), func() (err error) {
		out, err = c.cloud.Launch(ctx, spec)
		c.tap.atMost()
		return err
	})
	if errors.Is(err, errLost) || errors.Is(err, errDead) {
		out = nil
	}
	return out, err
}

// List implements cloud.Cloud.
func (c tapCloud) List(ctx context.Context) (out []cloud.Instance, err error) {
	asked := time.Now()
	err = c.tap.do("cloud.list", "", func() (err error) {
		out, err = c.cloud.List(ctx)
		return err
	})
	if err == nil {
		c.tap.gotList(asked)
	}
	return out, err
}

// Tag implements cloud.Cloud.
func (c tapCloud) Tag(ctx context.Context, tags map[string]string, ids ...pool.InstanceID) error {
	return c.tap.do("cloud.tag", fmt.Sprintf("%s %v", tags[cloud.TagState], ids), func() error {
		if tags[cloud.TagState] == pool.ShutDown.String() {
			c.tap.unnamed(ctx, "the shut-down", ids)
		}
		return c.cloud.Tag(ctx, tags, ids...)
	})
}

// Terminate implements cloud.Cloud.
func (c tapCloud) Terminate(ctx context.Context, ids ...pool.InstanceID) error {
	return c.tap.do("cloud.terminate", fmt.Sprint(ids), func() error {
		c.tap.unnamed(ctx, "the end", ids)
		c.tap.unburdened(ids)
		err := c.cloud.Terminate(ctx, ids...)
		if err == nil {
			c.tap.ended(ids)
		}
		return err
	})
}

// tapQueue passes calls to a queue on and shows them to the tap.
type tapQueue struct {
	tap  *tap
	name string
	queueWithWatch
}

type queueWithWatch interface {
	queue.Queue
	queue.Watcher
}

// Receive implements queue.Queue.
func (q tapQueue) Receive(ctx context.Context, most int, wait time.Duration) (out []queue.Message, err error) {
	err = q.tap.do(q.name+".receive", "", func() (err error) {
		out, err = q.queueWithWatch.Receive(ctx, most, wait)
		return err
	})
	if err != nil {
		return nil, err
	}
	if q.name == "status" {
		q.tap.listen(out)
	}
	return out, nil
}

// Delete implements queue.Queue.
func (q tapQueue) Delete(ctx context.Context, receipts ...queue.Receipt) error {
	return q.tap.do(q.name+".delete", fmt.Sprint(len(receipts)),
		func() error { return q.queueWithWatch.Delete(ctx, receipts...) })
}

// Extend implements queue.Queue.
func (q tapQueue) Extend(ctx context.Context, receipts ...queue.Receipt) error {
	return q.tap.do(q.name+".extend", fmt.Sprint(len(receipts)),
		func() error { return q.queueWithWatch.Extend(ctx, receipts...) })
}

// Release implements queue.Queue.
func (q tapQueue) Release(ctx context.Context, receipts ...queue.Receipt) error {
	return q.tap.do(q.name+".release", fmt.Sprint(len(receipts)),
		func() error { return q.queueWithWatch.Release(ctx, receipts...) })
}

// Backlog implements queue.Queue.
func (q tapQueue) Backlog(ctx context.Context) (out pool.Backlog, err error) {
	err = q.tap.do(q.name+".backlog", "", func() (err error) {
		out, err = q.queueWithWatch.Backlog(ctx)
		return err
	})
	if err != nil {
		return pool.Backlog{}, err
	}
	return out, nil
}
