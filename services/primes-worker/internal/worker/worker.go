// Package worker takes primes jobs from the work queue, one at a time, computes them, and reports the results to the
// operator.
//
// # What is promised
//
// A job's message is deleted only after the broker has stored its result. Until then the message is kept in flight by
// extending its visibility. If this process dies, the message becomes visible again and another worker takes it. So a
// job is never lost, and it is done twice only if a worker dies, or loses the broker, while it works on it. A message
// that is not a job is moved to the dead letters with the reason, and the worker goes on.
//
// When the context of Run ends no new job is begun. The current one may finish within Options.StopTimeout; after that
// it is handed back.
//
// While the broker is away the worker waits for it, and keeps the result that it has computed. Only a job that it had
// just received when the broker went away is let go: the broker may have forgotten that, and give it to another worker.
package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"cloudmaster/internal/backoff"
	"cloudmaster/internal/message"
	"cloudmaster/internal/queue"
	"cloudmaster/internal/sample/primesjob"
)

// Defaults of Options.
const (
	DefaultStopTimeout = 20 * time.Second
	DefaultPoll        = 20 * time.Second
)

// releaseTimeout is how long a worker that stops tries to hand its job back.
const releaseTimeout = 3 * time.Second

// Options of a Worker; the zero value works.
type Options struct {
	// Ceiling is the largest N that a job may ask for; 0 means primesjob.DefaultCeiling.
	Ceiling int
	// StopTimeout is how long a job may go on after the worker was told to stop; 0 means DefaultStopTimeout, and a
	// negative value that it may not go on at all.
	StopTimeout time.Duration
	// Poll is how long one look at an empty queue waits for a message; 0 means DefaultPoll.
	Poll time.Duration

	Metrics *Metrics     // nil: nothing is shown
	Log     *slog.Logger // nil discards
}

// receiver is where messages come from.
type receiver interface {
	Receive(ctx context.Context, most int, wait time.Duration) ([]queue.Message, error)
}

// keeper keeps a message in flight.
type keeper interface {
	Extend(ctx context.Context, receipts ...queue.Receipt) error
	Visibility() time.Duration
}

// settler ends a delivery in one of three ways.
type settler interface {
	Delete(ctx context.Context, receipts ...queue.Receipt) error
	Release(ctx context.Context, receipts ...queue.Receipt) error
	Bury(ctx context.Context, m queue.Message, reason string) error
}

// workQueue is what a worker needs of its work queue.
type workQueue interface {
	receiver
	keeper
	settler
}

// reporter sends what the worker reports. See agent.Agent.
type reporter interface {
	Report(load float64, activity message.Activity)
	Say(text string)
	Retract(text string)
	Flush(ctx context.Context) error
}

// ComputeFunc returns the n-th prime or, soon after ctx ends, the cause of its end.
type ComputeFunc func(ctx context.Context, n int) (uint64, error)

// Worker does the jobs of a queue. Make it with New.
type Worker struct {
	queue    workQueue
	reporter reporter
	compute  ComputeFunc
	opts     Options
	finished memory // messages whose results are stored
}

// New returns a worker that takes jobs from q.
func New(q workQueue, r reporter, compute ComputeFunc, opts Options) (*Worker, error) {
	opts.Ceiling = cmp.Or(opts.Ceiling, primesjob.DefaultCeiling)
	opts.StopTimeout = cmp.Or(opts.StopTimeout, DefaultStopTimeout)
	opts.Poll = cmp.Or(opts.Poll, DefaultPoll)
	if opts.Ceiling < 1 {
		return nil, fmt.Errorf("largest job is %d, must be at least 1", opts.Ceiling)
	}
	if opts.Poll < 0 {
		return nil, fmt.Errorf("poll is %s, less than 0", opts.Poll)
	}
	if opts.Metrics == nil {
		opts.Metrics = NewMetrics(nil)
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	return &Worker{queue: q, reporter: r, compute: compute, opts: opts}, nil
}

// Run works until ctx ends, and then returns nil. Errors of the queue do not end it.
func (w *Worker) Run(ctx context.Context) error {
	w.reporter.Report(0, message.Idle)
	idle, failures := true, 0
	for ctx.Err() == nil {
		// 0 after a job: if no other is there, the worker reports that it is idle before it waits
		var wait time.Duration
		if idle {
			wait = w.opts.Poll
		}
		got, err := w.queue.Receive(ctx, 1, wait)
		if failures = w.countFailures(ctx, failures, err); failures > 0 {
			backoff.Wait(ctx, backoff.Delay(failures, leastBackoff, mostBackoff))
		}
		for _, m := range got {
			w.handle(ctx, m)
		}
		if idle = len(got) == 0; idle {
			w.reporter.Report(0, message.Idle)
		}
	}
	return nil
}

// countFailures returns the number of failures in a row, and logs the first and the end of them.
func (w *Worker) countFailures(ctx context.Context, before int, err error) int {
	switch {
	case err != nil && ctx.Err() != nil:
		return 0 // the stop has caused the error
	case err != nil && before == 0:
		w.opts.Log.WarnContext(ctx, "work queue gives no jobs; trying again", "error", err)
	case err == nil && before > 0:
		w.opts.Log.InfoContext(ctx, "work queue gives jobs again", "failures", before)
	}
	if err == nil {
		return 0
	}
	return before + 1
}

// handle brings one delivery to its end.
func (w *Worker) handle(ctx context.Context, m queue.Message) {
	if ctx.Err() != nil { // it was received when the worker was already to stop
		w.handBack(ctx, m)
		return
	}
	ctx, cancel := withGrace(ctx, w.opts.StopTimeout)
	defer cancel()
	job, err := primesjob.Parse(m.Body, w.opts.Ceiling)
	switch {
	case err != nil:
		w.refuse(ctx, m, err)
	case w.finished.has(m):
		w.opts.Log.InfoContext(ctx, "finished job was delivered again; deleting it",
			"job", job.ID, "deliveries", m.Deliveries)
		w.opts.Metrics.count(repeated)
		w.remove(ctx, m)
	default:
		w.work(ctx, m, job)
	}
}

// work does a job. ctx ends when the job may not go on.
func (w *Worker) work(ctx context.Context, m queue.Message, job primesjob.Job) {
	w.reporter.Report(1, message.Busy)
	w.opts.Metrics.busy.Set(1)
	defer w.opts.Metrics.busy.Set(0)
	w.reporter.Say(fmt.Sprintf("Processing: %s %d", job.ID, job.N))

	held := w.hold(m)
	working, letGo := held.keep(ctx)
	err := w.result(working, job, held)
	if err == nil {
		w.finished.add(m)
		w.opts.Metrics.count(processed)
		w.remove(ctx, m)
	}
	letGo()
	switch {
	case err == nil:
	case errors.Is(err, errForgotten) || errors.Is(context.Cause(working), errForgotten):
		// It is neither deleted nor handed back, because that would end or hand on what another worker may hold.
		w.reporter.Say(fmt.Sprintf("Let go: %s %d: %v", job.ID, job.N, errForgotten))
		w.opts.Metrics.count(forgotten)
	case ctx.Err() != nil:
		w.reporter.Say(fmt.Sprintf("Handed back: %s %d", job.ID, job.N))
		w.opts.Metrics.count(handedBack)
		w.handBack(ctx, m)
	default:
		w.refuse(ctx, m, err)
	}
}

// result computes a job and returns nil when the broker has stored its result.
func (w *Worker) result(ctx context.Context, job primesjob.Job, held *hold) error {
	start := time.Now()
	prime, err := w.compute(ctx, job.N)
	if err != nil {
		return fmt.Errorf("compute: %w", err)
	}
	elapsed := time.Since(start)
	w.opts.Metrics.seconds.Observe(elapsed.Seconds())
	if err := held.sure(); err != nil {
		return err
	}
	text := fmt.Sprintf("Processed: %s %d primes (%d) in %d", job.ID, job.N, prime, int(elapsed.Seconds()))
	w.reporter.Say(text)
	if err := w.reporter.Flush(ctx); err != nil {
		w.reporter.Retract(text) // the job is handed back: whoever does it next reports it
		return err
	}
	return nil
}

// errStopTimeout is why a job is ended that was not finished in time.
var errStopTimeout = errors.New("the job was not finished within the stop timeout")

// withGrace returns a context that ends when grace has passed after the end of ctx. The caller must cancel it.
func withGrace(ctx context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		backoff.Wait(longer, grace)
		cancel(errStopTimeout)
	})
	return longer, func() {
		stop()
		cancel(nil)
	}
}
