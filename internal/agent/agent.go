// Package agent is what every managed instance runs beside its real work. It finds out which instance this is, reports
// the instance's status to the controller, and sends its log messages to the operator.
//
// Nothing here ever stops the real work. While the broker is away, log messages are kept up to a bound; beyond it the
// oldest are dropped, and their number is reported later. Of statuses only the newest is kept. What could not be sent
// is sent again, so a message may arrive twice; sequences grow in the order in which messages were made.
package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"cloudmaster/internal/backoff"
	"cloudmaster/internal/message"
	"cloudmaster/internal/pool"
)

// Defaults of Options.
const (
	DefaultInterval     = time.Minute
	DefaultFlushTimeout = 5 * time.Second
	DefaultOutbox       = 1000
)

// Options of an Agent; the zero value works.
type Options struct {
	Interval     time.Duration // between statuses when nothing changes
	FlushTimeout time.Duration // how long Run may go on sending after its context ended
	Outbox       int           // log messages kept while they cannot be sent
	Address      string        // host:port for clients, part of every status
	Log          *slog.Logger  // nil discards
}

// sender is the status queue.
type sender interface {
	Send(ctx context.Context, bodies ...[]byte) error
}

// ErrStopped means that Run has returned: nothing is sent any more.
var ErrStopped = errors.New("agent has stopped")

// Agent speaks for one instance.
type Agent struct {
	id    pool.InstanceID
	queue sender
	opts  Options
	wake  chan struct{} // cap 1: there is something to send

	mu       sync.Mutex
	logs     []message.Log  // guarded by mu; oldest first
	dropped  int            // guarded by mu; log messages dropped over the bound and not yet reported
	status   message.Status // guarded by mu
	told     bool           // guarded by mu; Report has set the status
	draining bool           // guarded by mu; Drain was called
	dirty    bool           // guarded by mu; status is to be sent
	sequence uint64         // guarded by mu; of the newest message made
	sent     uint64         // guarded by mu; the broker has stored the entries up to this number
	put      uint64         // guarded by mu; number of the newest entry: a log message, or a change of status
	stopped  bool           // guarded by mu; Run has returned
	progress chan struct{}  // guarded by mu; closed and renewed when sent or stopped changes
	unsaid   []string       // guarded by mu; texts that Retract took back while they were being sent
	sending  bool           // guarded by mu
}

// New returns an agent that speaks for the instance on its pool's status queue. It sends while Run runs, which may be
// called once. Options below zero are taken as zero.
func New(status sender, id pool.InstanceID, opts Options) *Agent {
	opts.Interval = cmp.Or(max(opts.Interval, 0), DefaultInterval)
	opts.FlushTimeout = cmp.Or(max(opts.FlushTimeout, 0), DefaultFlushTimeout)
	opts.Outbox = cmp.Or(max(opts.Outbox, 0), DefaultOutbox)
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	return &Agent{
		id: id, queue: status, opts: opts,
		wake: make(chan struct{}, 1), progress: make(chan struct{}),
	}
}

// Report sets the instance's status. It is sent at once if it differs from the last one, and again every interval.
func (a *Agent) Report(load float64, activity message.Activity) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.told && a.status.Load == load && a.status.Activity == activity {
		return
	}
	a.status.Load, a.status.Activity = load, activity
	a.told, a.dirty = true, true
	a.put++
	a.poke()
}

// Drain says in this and every further status that the instance takes no new work and is about to end. The controller
// then sends it no more clients and replaces it. It is sent at once, or with the first Report.
func (a *Agent) Drain() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.draining {
		return
	}
	a.draining = true
	if a.told {
		a.dirty = true
		a.put++
		a.poke()
	}
}

// Say queues a log message for the operator.
func (a *Agent) Say(text string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sequence++
	a.logs = append(a.logs, message.Log{InstanceID: a.id, Text: text, Timestamp: time.Now(), Sequence: a.sequence})
	a.trimLocked()
	a.put++
	a.poke()
}

// Retract takes back what was said: it is not sent again unless it was stored already, or is being stored just now.
func (a *Agent) Retract(text string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.sending {
		a.unsaid = append(a.unsaid, text)
	}
	a.logs = slices.DeleteFunc(a.logs, func(l message.Log) bool { return l.Text == text })
}

// trimLocked drops the oldest log messages over the bound.
func (a *Agent) trimLocked() {
	if over := len(a.logs) - a.opts.Outbox; over > 0 {
		a.logs = a.logs[over:]
		a.dropped += over
	}
}

// Flush returns nil when the broker has stored all that was said and reported before the call. It returns ctx's error
// if ctx ends first, and ErrStopped if Run has returned. A caller that wants its last messages stored must end Run's
// context only after Flush.
func (a *Agent) Flush(ctx context.Context) error {
	a.mu.Lock()
	want := a.put
	a.mu.Unlock()
	for {
		a.mu.Lock()
		done, stopped, progress := a.sent >= want, a.stopped, a.progress
		a.mu.Unlock()
		switch {
		case done:
			return nil
		case stopped:
			return fmt.Errorf("flush status messages: %w", ErrStopped)
		}
		select {
		case <-progress:
		case <-ctx.Done():
			return fmt.Errorf("flush status messages: %w", context.Cause(ctx))
		}
	}
}

// poke wakes Run. One token is enough, because Run sends everything there is.
func (a *Agent) poke() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// Run sends until ctx ends, and then for at most the flush timeout what is left. It always returns nil; if messages
// could not be sent the log says so.
func (a *Agent) Run(ctx context.Context) error {
	beat := time.NewTicker(a.opts.Interval)
	defer beat.Stop()
	var retry <-chan time.Time // nil unless the broker is away
	failures := 0
	for {
		select {
		case <-ctx.Done():
			a.drain(ctx)
			return nil
		case <-beat.C:
			a.markDirty()
		case <-a.wake:
			if retry != nil {
				continue // the retry will send this too
			}
		case <-retry:
		}
		failures = a.attempt(ctx, failures)
		retry = nil
		if failures > 0 {
			retry = time.After(backoff.Delay(failures, leastBackoff, mostBackoff))
		}
	}
}

// attempt sends, logs when the broker goes away and when it comes back, and returns the number of failures in a row.
func (a *Agent) attempt(ctx context.Context, failures int) int {
	err := a.send(ctx)
	switch {
	case err != nil && ctx.Err() != nil:
		return failures // cut short by the stop; drain sends it again
	case err != nil && failures == 0:
		a.opts.Log.WarnContext(ctx, "status queue does not take messages; keeping them", "error", err)
	case err == nil && failures > 0:
		a.opts.Log.InfoContext(ctx, "status queue takes messages again", "failures", failures)
	}
	if err != nil {
		return failures + 1
	}
	return 0
}

// drain sends what is left, within the flush timeout.
func (a *Agent) drain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.opts.FlushTimeout)
	defer cancel()
	var err error
	for failures := 0; !a.stop(ctx.Err() != nil); {
		if err = a.send(ctx); err == nil {
			continue // with what was said meanwhile
		}
		failures++
		select {
		case <-ctx.Done():
		case <-time.After(backoff.Delay(failures, leastBackoff, mostBackoff)):
		}
	}
	if err != nil {
		a.opts.Log.WarnContext(ctx, "gave up on the last status messages", "error", err)
	}
}

// stop marks the agent as stopped if nothing is left to send, or if force is set, and reports whether it did.
func (a *Agent) stop(force bool) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stopped = force || len(a.logs) == 0 && a.dropped == 0 && !a.dirty
	if a.stopped {
		a.signalLocked()
	}
	return a.stopped
}

// signalLocked wakes all who wait in Flush.
func (a *Agent) signalLocked() {
	close(a.progress)
	a.progress = make(chan struct{})
}

const (
	leastBackoff = 50 * time.Millisecond
	mostBackoff  = 5 * time.Second
)

func (a *Agent) markDirty() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.dirty = a.told
}

// batch is what one call of Send carries.
type batch struct {
	bodies  [][]byte
	logs    []message.Log // in bodies
	dropped int           // reported in bodies
	status  bool          // in bodies
	put     uint64        // number of the newest entry when it was made
	err     error         // what could not be encoded, if anything
}

// send sends the log messages and, last, the status. After an error all of them are kept.
func (a *Agent) send(ctx context.Context) error {
	b := a.take()
	if b.err != nil {
		a.opts.Log.ErrorContext(ctx, "status message cannot be encoded; dropped", "error", b.err)
	}
	if len(b.bodies) > 0 {
		if err := a.queue.Send(ctx, b.bodies...); err != nil {
			a.giveBack(b)
			return fmt.Errorf("send %d status messages: %w", len(b.bodies), err)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sending, a.unsaid = false, nil
	a.sent = max(a.sent, b.put)
	a.signalLocked()
	return nil
}

// take removes all that is to be sent and encodes it.
func (a *Agent) take() batch {
	a.mu.Lock()
	defer a.mu.Unlock()
	b := batch{logs: a.logs, dropped: a.dropped, status: a.dirty, put: a.put}
	a.logs, a.dropped, a.dirty = nil, 0, false
	a.sending = true
	for _, l := range b.logs {
		b.add(message.EncodeLog(l))
	}
	if b.dropped > 0 {
		text := fmt.Sprintf("%d log messages were dropped while the broker was away", b.dropped)
		a.sequence++
		b.add(message.EncodeLog(message.Log{InstanceID: a.id, Text: text, Timestamp: time.Now(), Sequence: a.sequence}))
	}
	if b.status {
		a.sequence++
		s := a.status
		s.InstanceID, s.State, s.Address = a.id, pool.Active.String(), a.opts.Address
		if a.draining {
			s.State = message.Draining
		}
		s.Timestamp, s.Sequence = time.Now(), a.sequence
		b.add(message.EncodeStatus(s))
	}
	return b
}

// add appends a body that could be encoded.
func (b *batch) add(body []byte, err error) {
	if err != nil {
		b.err = errors.Join(b.err, err)
		return
	}
	b.bodies = append(b.bodies, body)
}

// giveBack puts what was not sent back in front of what was said since.
func (a *Agent) giveBack(b batch) {
	a.mu.Lock()
	defer a.mu.Unlock()
	kept := slices.DeleteFunc(b.logs, func(l message.Log) bool { return slices.Contains(a.unsaid, l.Text) })
	a.sending, a.unsaid = false, nil
	a.logs = append(kept, a.logs...)
	a.dropped += b.dropped
	a.dirty = a.dirty || b.status
	a.trimLocked()
}
