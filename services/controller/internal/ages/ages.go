// Package ages looks from time to time how old the messages of all pools are: those on the work queues, and the dead
// letters. It warns before a broker forgets them.
//
// Nothing waits for these looks, because a broker may take long, or want money, for what is of interest within days.
package ages

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"time"

	"cloudmaster/internal/backoff"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
	"cloudmaster/services/controller/internal/record"
)

const (
	// Every is the time between two looks. On AWS each queue in a look costs 0.00001 USD.
	Every = 15 * time.Minute
	// first is when the first look is made, by when the pools should run.
	first = 30 * time.Second
	// patience bounds how long one look waits for its answer.
	patience = time.Minute
	// gap is the least time between two warnings about one queue.
	gap = 24 * time.Hour
)

// threshold is the age from which on people are warned, of messages that are forgotten after the given time: 10 days
// of SQS's 14.
func threshold(retention time.Duration) time.Duration { return retention / 7 * 5 }

// Options of Run. All fields are required.
type Options struct {
	Queues func() map[pool.Name]string  // the work queues of the pools that run
	Tell   func(pool.Name, record.Ages) // called for each of them after each look
	Ages   queue.Ager
	Now    func() time.Time
	Log    *slog.Logger
}

// Run looks until ctx ends.
func Run(ctx context.Context, opts Options) error {
	w := watcher{Options: opts, said: make(map[string]time.Time)}
	for pause := first; backoff.Wait(ctx, pause); pause = Every {
		w.look(ctx)
	}
	return nil
}

// watcher remembers what people were told.
type watcher struct {
	Options

	failed bool                 // the last look failed, and the log says so
	said   map[string]time.Time // when people were warned last, by queue
}

// look asks once, for all queues together.
func (w *watcher) look(ctx context.Context) {
	queues := w.Queues()
	if len(queues) == 0 {
		return
	}
	var names []string
	for _, name := range slices.Sorted(maps.Values(queues)) {
		names = append(names, name, queue.DeadLetters(name))
	}
	bounded, cancel := context.WithTimeoutCause(ctx, patience, errPatience)
	defer cancel()
	ages, err := w.Ages.Ages(bounded, names...)
	if ctx.Err() != nil {
		return
	}
	w.tellFailure(ctx, err)
	now := w.Now()
	for _, name := range slices.Sorted(maps.Keys(queues)) {
		work, dead := queues[name], queue.DeadLetters(queues[name])
		w.Tell(name, record.Ages{At: now, Work: ages[work], Dead: ages[dead]}) // after an error all are unknown
		w.warn(ctx, name, work, ages[work], "have the pool work them off: see why its instances do not take them, "+
			"or raise maximum_number_of_instances")
		w.warn(ctx, name, dead, ages[dead], "look at these dead letters now: send again what is still to be done, "+
			"and keep elsewhere what is still wanted")
	}
}

var errPatience = errors.New("the answer did not come within a minute")

// tellFailure says once that ages cannot be read, and once that they can be again.
func (w *watcher) tellFailure(ctx context.Context, err error) {
	switch {
	case err != nil && !w.failed:
		w.Log.WarnContext(ctx, "it cannot be read how old messages are, so nobody is warned before the broker forgets "+
			"them; trying again", "error", err)
	case err == nil && w.failed:
		w.Log.InfoContext(ctx, "it can be read again how old messages are")
	}
	w.failed = err != nil
}

// warn says that a queue is about to forget messages, once a day while it is. If our clock was set back, it says so
// again.
func (w *watcher) warn(ctx context.Context, name pool.Name, queued string, age queue.Age, next string) {
	if !age.Known {
		return
	}
	if age.Retention == 0 || age.Oldest < threshold(age.Retention) {
		delete(w.said, queued)
		return
	}
	now := w.Now()
	if last, said := w.said[queued]; said {
		if ago := now.Sub(last); ago >= 0 && ago < gap {
			return
		}
	}
	w.said[queued] = now
	lost := now.Add(age.Retention - age.Oldest).UTC().Format(time.RFC3339)
	if age.AtLeast {
		lost += " at the latest"
	}
	w.Log.WarnContext(ctx, "messages are about to be lost, because their queue forgets what is too old",
		"pool", string(name), "queue", queued, "oldest", record.Text(age), "lost", lost, "next_step", next)
}
