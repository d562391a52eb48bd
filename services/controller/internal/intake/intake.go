// Package intake takes the messages of a pool's instances from its status queue and enters them into the
// roster.
package intake

import (
	"context"
	"fmt"
	"slices"
	"time"

	"cloudmaster/internal/backoff"
	"cloudmaster/internal/message"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
	"cloudmaster/services/controller/internal/quota"
	"cloudmaster/services/controller/internal/record"
	"cloudmaster/services/controller/internal/roster"
)

// Queue is the status queue.
type Queue interface {
	Receive(ctx context.Context, most int, wait time.Duration) ([]queue.Message, error)
	Delete(ctx context.Context, receipts ...queue.Receipt) error
	Backlog(ctx context.Context) (pool.Backlog, error)
	Visibility() time.Duration
}

const (
	// batch is how many messages one look takes.
	batch = 1000
	// LongWait is how long a look waits for messages if Options.Wait is 0. It is the longest wait that SQS
	// allows.
	LongWait = 20 * time.Second
	// shortWait is how long a look waits while messages that were sent earlier may still be on the queue. It
	// is not 0, because SQS then asks only some of its servers and may find nothing although there are
	// messages.
	shortWait = time.Second
	// slack is how much longer than its wait a look may take before it counts as failed.
	slack = 10 * time.Second
	// The pause after looks that failed grows from leastPause to mostPause.
	leastPause, mostPause = 100 * time.Millisecond, 5 * time.Second
	// deafAfter is how many looks in a row must fail until the controller counts as deaf. After a single failure the
	// next look comes within a tenth of a second, so no message is missed for long.
	deafAfter = 2
	// callTimeout bounds a deletion of what was taken in, and a look at how much is in flight.
	callTimeout = 5 * time.Second
	// patience is how long messages are taken for ones that were waiting, going by the times that the broker gives
	// them. Looks take all that is there, so after this long no message can have been waiting all the time: the
	// broker's clock is behind.
	patience = time.Minute
)

// Options of an Intake. Pool, Parse and Changed are required.
type Options struct {
	Pool    pool.Name
	Parse   message.ParseFunc
	Changed func() // called when a pass should look at what was heard
	// Lead says until when this controller may take messages, or why it may not; nil: it always may.
	Lead func(now time.Time) (until time.Time, err error)
	// Verified says that the broker knows which instance sends a message. Then a message counts only if the broker says
	// that the instance that it names has sent it.
	Verified bool
	Wait     time.Duration    // how long a look waits for messages; 0 means LongWait
	Now      func() time.Time // the clock
	// Pause returns how long to wait after so many looks in a row that failed. Nil means backoff.Delay with
	// 100 ms to 5 s.
	Pause func(failures int) time.Duration
}

// Intake is used by one goroutine.
type Intake struct {
	opts     Options
	queue    Queue
	roster   *roster.Roster
	garbage  quota.Lines
	failures int  // looks in a row that failed
	deaf     bool // it was said that the queue cannot be read
	behind   bool // another controller may have led, and taken messages, since the last look
	// Messages that were sent before catchUp may have been waiting since before the queue could be read
	// (again). Zero: it has never been read.
	catchUp time.Time
}

// New returns the intake of a queue into a roster.
func New(q Queue, r *roster.Roster, opts Options) *Intake {
	if opts.Wait == 0 {
		opts.Wait = LongWait
	}
	if opts.Pause == nil {
		opts.Pause = func(failures int) time.Duration { return backoff.Delay(failures, leastPause, mostPause) }
	}
	return &Intake{opts: opts, queue: q, roster: r}
}

// Step takes in the messages that are there. It returns what they were, and how long to pause before the next
// look.
//
// While the queue cannot be read, the roster is deaf: nobody's silence is counted, and what instances
// reported last may be wrong by now. It stays deaf until the messages that were waiting on the queue have
// been taken in.
func (i *Intake) Step(ctx context.Context, now time.Time) (said record.Intake, pause time.Duration) {
	said = record.Intake{Pool: i.opts.Pool, At: now}
	if i.catchUp.IsZero() {
		i.catchUp = now
	}
	if !i.leads(now) {
		return said, i.stoodBack()
	}
	messages, err := i.receive(ctx)
	if ctx.Err() != nil {
		return said, 0
	}
	if err != nil {
		return said, i.failed(&said, err)
	}
	if !i.leads(i.opts.Now()) { // the look may have lasted longer than the lease; what it has received comes again
		return said, i.stoodBack()
	}
	if i.deaf {
		said.Hears, said.Failures = true, i.failures
	}
	if i.deaf || i.behind {
		i.catchUp = i.opts.Now()
	}
	i.deaf, i.behind, i.failures = false, false, 0
	i.takeIn(ctx, messages, &said)
	if i.roster.Deaf() && i.caughtUp(ctx, messages) && i.roster.Listening(i.opts.Now()) {
		i.opts.Changed()
	}
	return said, 0
}

// stoodBack leaves the messages to the controller that leads now, and returns the pause before the next look.
func (i *Intake) stoodBack() time.Duration {
	i.behind = true
	i.roster.Deafen()
	return mostPause
}

// caughtUp reports whether all has been taken in that was sent before the queue could be read: what waited on it, and
// what a controller before this one had received and may have died without taking in.
func (i *Intake) caughtUp(ctx context.Context, newest []queue.Message) bool {
	since := i.opts.Now().Sub(i.catchUp)
	waited := func(m queue.Message) bool { return !m.SentAt.After(i.catchUp) }
	if slices.ContainsFunc(newest, waited) && (len(newest) == batch || since < patience) {
		return false
	}
	if since > i.queue.Visibility() { // what was in flight has come back
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	b, err := i.queue.Backlog(ctx)
	return err == nil && b.InFlight == 0
}

func (i *Intake) leads(now time.Time) bool {
	if i.opts.Lead == nil {
		return true
	}
	_, err := i.opts.Lead(now)
	return err == nil
}

// failed counts a look that failed and returns the pause after it.
func (i *Intake) failed(said *record.Intake, err error) time.Duration {
	i.failures++
	said.Err, said.Failures = err, i.failures
	if i.failures >= deafAfter && !i.deaf {
		i.deaf = true
		said.Deaf = true
		i.roster.Deafen()
	}
	return i.opts.Pause(i.failures)
}

// receive receives messages. It waits long for them only if all that were waiting have been taken in.
func (i *Intake) receive(ctx context.Context) ([]queue.Message, error) {
	wait := min(shortWait, i.opts.Wait)
	if i.failures == 0 && !i.roster.Deaf() {
		wait = i.opts.Wait
	}
	ctx, cancel := context.WithTimeout(ctx, wait+slack)
	defer cancel()
	return i.queue.Receive(ctx, batch, wait)
}

// takeIn enters messages into the roster and then deletes them. If the deletion fails, they are taken in
// again, which changes nothing.
func (i *Intake) takeIn(ctx context.Context, messages []queue.Message, said *record.Intake) {
	if len(messages) == 0 {
		return
	}
	said.Messages, said.Outcomes = len(messages), make(map[string]int)
	receipts := make([]queue.Receipt, len(messages))
	changed := false
	for n := range messages {
		receipts[n] = messages[n].Receipt
		changed = i.hear(&messages[n], said) || changed
	}
	if changed {
		i.opts.Changed()
	}
	bounded, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := i.queue.Delete(bounded, receipts...); err != nil && ctx.Err() == nil {
		said.Undeleted = err
	}
}

// hear takes one message and reports whether a pass should look at it.
func (i *Intake) hear(from *queue.Message, said *record.Intake) bool {
	m, err := i.opts.Parse(from.Body)
	if err != nil {
		i.drop("unparsable", from, err, said)
		return false
	}
	if i.opts.Verified && from.Sender != string(m.From()) {
		i.drop("forged", from, fmt.Errorf("it names the instance %s, and the broker says that its sender is %q",
			m.From(), from.Sender), said)
		return false
	}
	outcome := i.roster.Hear(m, i.opts.Now())
	said.Outcomes[outcome.String()]++
	if line, ok := m.(message.Log); ok {
		if outcome != roster.Outdated {
			said.Said = append(said.Said, record.Said{Instance: line.InstanceID, Text: line.Text})
		}
		return false
	}
	if outcome == roster.Future {
		said.Future = append(said.Future, m.From())
	}
	// A status of an unknown instance changes nothing until a list shows the instance.
	return outcome == roster.Accepted || outcome == roster.Future
}

// drop notes a message that does not count, and why.
func (i *Intake) drop(outcome string, m *queue.Message, why error, said *record.Intake) {
	said.Outcomes[outcome]++
	if ok, unsaid := i.garbage.May(i.opts.Now()); ok {
		said.Garbage = append(said.Garbage, record.Garbage{
			Outcome: outcome, Err: why, Body: message.Excerpt(m.Body), Unsaid: unsaid,
		})
	}
}
