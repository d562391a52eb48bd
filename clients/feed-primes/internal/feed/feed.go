// Package feed sends jobs from a source to the work queue, in batches and at a rate.
package feed

import (
	"context"
	"fmt"

	"golang.org/x/time/rate"

	"cloudmaster/internal/sample/primesjob"
)

// batch is how many jobs are sent in one call. It is large enough that the time of a call hardly counts, and small
// enough that an error leaves it open for only a few jobs whether they were sent.
const batch = 1000

// sender is what is needed of the work queue.
type sender interface {
	Send(ctx context.Context, bodies ...[]byte) error
}

// Source gives jobs.
type Source interface {
	// Next returns from 1 to most jobs, and none at the end. It waits for the first job only.
	Next(ctx context.Context, most int) ([]primesjob.Job, error)
}

// Options of Run; the zero value works.
type Options struct {
	Rate float64                    // jobs per second; 0 means as fast as the queue takes them
	Sent func(jobs []primesjob.Job) // told when the broker has stored them; may be nil
}

// Doubt is the error of a failed send. It is not known how many of the jobs the broker has stored.
type Doubt struct {
	Jobs int // in the batch
	Err  error
}

// Error says what went wrong.
func (d *Doubt) Error() string { return d.Err.Error() }

// Unwrap returns the queue's error.
func (d *Doubt) Unwrap() error { return d.Err }

// Run sends all jobs of the sources, one source after the other, and returns how
// many the broker has confirmed. A failed send is a *Doubt.
func Run(ctx context.Context, queue sender, opts Options, sources ...Source) (sent int, err error) {
	most, limit := pace(opts.Rate)
	for _, source := range sources {
		for {
			jobs, err := source.Next(ctx, most)
			if err != nil {
				return sent, err
			}
			if len(jobs) == 0 {
				break
			}
			if err := limit.WaitN(ctx, len(jobs)); err != nil {
				return sent, fmt.Errorf("wait for the next job's turn: %w", context.Cause(ctx))
			}
			if err := send(ctx, queue, jobs); err != nil {
				return sent, err
			}
			sent += len(jobs)
			if opts.Sent != nil {
				opts.Sent(jobs)
			}
		}
	}
	return sent, nil
}

// pace returns the size of batches and the limiter that spaces them, so that about ten are sent each second.
func pace(perSecond float64) (most int, limit *rate.Limiter) {
	if perSecond <= 0 {
		return batch, rate.NewLimiter(rate.Inf, 0)
	}
	most = min(max(1, int(perSecond/10)), batch)
	return most, rate.NewLimiter(rate.Limit(perSecond), most)
}

func send(ctx context.Context, queue sender, jobs []primesjob.Job) error {
	bodies := make([][]byte, len(jobs))
	for i, j := range jobs {
		bodies[i] = j.Encode()
	}
	if err := queue.Send(ctx, bodies...); err != nil {
		return &Doubt{Jobs: len(jobs), Err: err}
	}
	return nil
}
