package loop_test

import (
	"context"
	"time"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/cloud/memcloud"
	"cloudmaster/internal/message"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
	"cloudmaster/services/controller/internal/driver"
)

// crew is simulated workers as fleet is, but without goroutines and timers: each is a task that the test steps.
type crew struct {
	b        *bench
	boot     time.Duration // how long an instance boots
	scripted bool          // they take and finish jobs when the test says so

	tasks driver.Manual
	all   map[pool.InstanceID]*hand
	done  map[string]int // how often each job was done
	stuck bool           // those that boot from now on never report
}

// hand is one worker of a crew.
type hand struct {
	id   pool.InstanceID
	crew *crew
	wake *driver.Wake
	stop func()

	boots  time.Time // when it begins to work
	works  bool      // it has begun to
	bad    bool      // its image never reports
	mute   bool      // it says nothing any more and does nothing
	leave  bool      // it says that it is about to end, and takes no jobs
	load   float64
	seq    uint64
	said   time.Time // when it reported last; zero: it has something new to report
	job    *queue.Message
	doneAt time.Time // when the job is done
}

// attach makes a cloud tell the crew of its instances. The calls come from the goroutine that launches or ends them.
func (c *crew) attach(o *memcloud.Options) {
	o.OnRunning, o.OnLaunch, o.OnTerminate, o.OnStop = nil, c.launched, c.ended, c.halted
	c.boot = o.BootDelay
}

func (c *crew) launched(in cloud.Instance) {
	w := &hand{id: in.ID, crew: c, wake: driver.NewWake(), boots: time.Now().Add(c.boot), bad: in.Image == badImage}
	task := driver.Task{Name: "worker/" + string(in.ID), Wake: w.wake, Step: w.step}
	if c.takesJobs() {
		task.Watch = c.b.work.Watch
	}
	c.all[in.ID], w.stop = w, c.tasks.Start(task)
}

// halted ends the worker of an instance that is stopped: its last word is that it is about to end.
func (c *crew) halted(in cloud.Instance) {
	w := c.all[in.ID]
	w.stop()
	if w.works && !w.mute {
		w.leave = true
		w.report(c.b.t.Context(), time.Now())
	}
}

func (c *crew) ended(in cloud.Instance) { c.all[in.ID].stop() }

// takesJobs reports whether workers take jobs by themselves.
func (c *crew) takesJobs() bool { return c.b.cfg.Policy == "job" && !c.scripted }

// worker returns a worker that has booted; nil if there is none.
func (c *crew) worker(id pool.InstanceID) *hand {
	if w := c.all[id]; w != nil && w.works {
		return w
	}
	return nil
}

// isMute reports whether an instance says nothing, for whatever reason.
func (c *crew) isMute(id pool.InstanceID) bool {
	w := c.worker(id)
	return w == nil || w.mute
}

// finished returns how many different jobs were done, and how often in all.
func (c *crew) finished() (jobs, times int) {
	for _, n := range c.done {
		times += n
	}
	return len(c.done), times
}

// set changes the load of a worker, which reports it.
func (w *hand) set(load float64) {
	w.load, w.said = load, time.Time{}
	w.wake.Up()
}

// announce has the worker say whether it is about to end.
func (w *hand) announce(leave bool) {
	w.leave = leave
	w.set(w.load)
}

// step does what is due: the end of a job, the beginning of one, a report.
func (w *hand) step(ctx context.Context, now time.Time) (driver.Again, error) {
	if now.Before(w.boots) {
		return driver.Again{At: w.boots, NotBefore: w.boots}, nil
	}
	if !w.works {
		w.works, w.mute = true, w.crew.stuck || w.bad
	}
	if w.mute {
		return driver.Again{Over: true}, nil
	}
	interval := w.crew.b.cfg.StatusInterval
	if w.crew.takesJobs() {
		w.goOn(ctx, now)
	}
	if now.Sub(w.said) >= interval {
		w.report(ctx, now)
	}
	if !w.doneAt.IsZero() {
		return driver.Again{At: w.doneAt, NotBefore: w.doneAt}, nil
	}
	return driver.Again{At: w.said.Add(interval)}, nil
}

// jobTime is how long a job takes.
const jobTime = 10 * time.Second

// goOn ends the job that is done, or takes another one. It reports that it is idle between two jobs.
func (w *hand) goOn(ctx context.Context, now time.Time) {
	switch {
	case w.job == nil && w.seq > 0 && !w.leave && w.take(ctx):
		w.doneAt = now.Add(jobTime)
	case w.job != nil && !now.Before(w.doneAt):
		w.finish(ctx)
	}
}

// take takes a job from the work queue, if there is one.
func (w *hand) take(ctx context.Context) bool {
	batch, err := w.crew.b.work.Receive(ctx, 1, 0)
	if err != nil || len(batch) == 0 {
		return false
	}
	w.job = &batch[0]
	w.set(1)
	return true
}

// finish ends the job.
func (w *hand) finish(ctx context.Context) {
	w.crew.done[w.job.ID]++
	w.crew.b.noError(w.crew.b.work.Delete(ctx, w.job.Receipt))
	w.job, w.doneAt = nil, time.Time{}
	w.set(0)
}

// report says how the worker is. While it has a job it keeps it, as real workers do.
func (w *hand) report(ctx context.Context, now time.Time) {
	w.seq, w.said = w.seq+1, now
	s := message.Status{InstanceID: w.id, State: "active", Load: w.load, Timestamp: now, Sequence: w.seq}
	if w.leave {
		s.State = message.Draining
	}
	body, err := message.EncodeStatus(s)
	w.crew.b.noError(err)
	w.crew.b.noError(w.crew.b.status.Send(ctx, body))
	if w.job != nil {
		w.crew.b.noError(w.crew.b.work.Extend(ctx, w.job.Receipt))
	}
}
