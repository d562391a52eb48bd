package loop_test

import (
	"context"
	"sync"
	"time"

	"cloudmaster/internal/backoff"
	"cloudmaster/internal/cloud"
	"cloudmaster/internal/message"
	"cloudmaster/internal/pool"
)

// fleet is the simulated workers: one for every instance whose boot is over.
type fleet struct {
	b       *bench
	jobs    bool // they take jobs from the work queue
	jobTime time.Duration

	mu    sync.Mutex
	wg    sync.WaitGroup
	all   map[pool.InstanceID]*worker
	done  map[string]int // how often each job was done
	stuck bool           // those that boot from now on never report
	held  bool           // they take no jobs for now
}

// worker is what runs on one instance.
type worker struct {
	id     pool.InstanceID
	b      *bench
	cancel context.CancelFunc

	mu    sync.Mutex
	load  float64
	seq   uint64
	mute  bool // it says nothing any more and does nothing
	leave bool // it says that it is about to end
	nudge chan struct{}
}

// badImage is one whose instances never report.
const badImage = "imagebad"

func (f *fleet) boot(in cloud.Instance) {
	f.mu.Lock()
	defer f.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	w := &worker{id: in.ID, b: f.b, cancel: cancel, nudge: make(chan struct{}, 1)}
	w.mute = f.stuck || in.Image == badImage
	f.all[in.ID] = w
	run := w.serve
	if f.jobs {
		run = func(ctx context.Context) { w.takeJobs(ctx, f) }
	}
	f.wg.Go(func() { run(ctx) })
}

func (f *fleet) end(in cloud.Instance) {
	if w := f.worker(in.ID); w != nil {
		w.cancel()
	}
}

// halt ends the worker of an instance that is stopped: its last word is that it is about to end.
func (f *fleet) halt(in cloud.Instance) {
	if w := f.worker(in.ID); w != nil {
		w.cancel()
		w.announce(true)
		w.report(context.Background())
	}
}

func (f *fleet) worker(id pool.InstanceID) *worker {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.all[id]
}

func (f *fleet) close() {
	f.mu.Lock()
	for _, w := range f.all {
		w.cancel()
	}
	f.mu.Unlock()
	f.wg.Wait()
}

// setStuck says whether instances that boot from now on hang.
func (f *fleet) setStuck(stuck bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stuck = stuck
}

// hold makes workers leave jobs where they are. They report as before.
func (f *fleet) hold() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.held = true
}

func (f *fleet) isHeld() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.held
}

// load sets the load of a server.
func (f *fleet) load(id pool.InstanceID, load float64) {
	w := f.worker(id)
	if w == nil {
		f.b.t.Errorf("at %s: %s is not running; instances are %s", time.Since(f.b.start), id, f.b.states())
		return
	}
	w.mu.Lock()
	w.load = load
	w.mu.Unlock()
	select {
	case w.nudge <- struct{}{}:
	default:
	}
	f.b.pass(0)
}

// interrupt makes the first instance say that it is about to end, or not any more.
func (f *fleet) interrupt(leave bool) {
	f.load(first, f.worker(first).announce(leave))
}

// announce has the worker say from its next status on whether it is about to end. It returns its load.
func (w *worker) announce(leave bool) float64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.leave = leave
	return w.load
}

// hang makes instances silent.
func (f *fleet) hang(ids ...pool.InstanceID) {
	for _, id := range ids {
		w := f.worker(id)
		w.mu.Lock()
		w.mute = true
		w.mu.Unlock()
	}
}

func (f *fleet) isMute(id pool.InstanceID) bool {
	w := f.worker(id)
	if w == nil {
		return true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mute
}

// finished returns how many different jobs were done, and how often in all.
func (f *fleet) finished() (jobs, times int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range f.done {
		times += n
	}
	return len(f.done), times
}

// serve reports the load at every change and every status interval.
func (w *worker) serve(ctx context.Context) {
	tick := time.NewTicker(w.b.cfg.StatusInterval)
	defer tick.Stop()
	for {
		w.report(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-w.nudge:
		}
	}
}

// takeJobs does one job after the other.
func (w *worker) takeJobs(ctx context.Context, f *fleet) {
	for ctx.Err() == nil {
		w.report(ctx)
		if w.b.workers.isMute(w.id) {
			<-ctx.Done()
			return
		}
		if f.isHeld() {
			backoff.Wait(ctx, w.b.cfg.StatusInterval)
			continue
		}
		batch, err := w.b.work.Receive(ctx, 1, w.b.cfg.StatusInterval)
		if err != nil || len(batch) == 0 {
			continue
		}
		w.set(1)
		w.report(ctx)
		select {
		case <-ctx.Done():
			return
		case <-time.After(f.jobTime):
		}
		f.mu.Lock()
		if f.done == nil {
			f.done = make(map[string]int)
		}
		f.done[batch[0].ID]++
		f.mu.Unlock()
		_ = w.b.work.Delete(ctx, batch[0].Receipt)
		w.set(0)
	}
}

func (w *worker) set(load float64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.load = load
}

func (w *worker) report(ctx context.Context) {
	w.mu.Lock()
	w.seq++
	s := message.Status{InstanceID: w.id, State: "active", Load: w.load, Timestamp: time.Now(), Sequence: w.seq}
	if w.leave {
		s.State = message.Draining
	}
	mute := w.mute
	w.mu.Unlock()
	if mute {
		return
	}
	if body, err := message.EncodeStatus(s); err == nil {
		_ = w.b.status.Send(ctx, body)
	}
}
