package loop

import (
	"context"
	"slices"
	"time"

	"cloudmaster/internal/backoff"
	"cloudmaster/internal/message"
	"cloudmaster/internal/queue"
	"cloudmaster/services/controller/internal/report"
	"cloudmaster/services/controller/internal/roster"
)

const (
	intakeBatch = 1000
	intakeWait  = 20 * time.Second // SQS's longest poll
	intakeSlack = 10 * time.Second // beyond the wait; a call that hangs is a failed one
	leastPause  = 100 * time.Millisecond
	mostPause   = 5 * time.Second
	// deafAfter is how many calls in a row must fail before we count as deaf: one that is
	// repeated at once has missed nothing.
	deafAfter = 2
)

// intake takes status messages in for as long as ctx lasts. While the queue
// cannot be read the roster is deaf: nobody's silence counts, and what was said last
// may be untrue. It is so too until what waited on the queue has been taken in.
func (l *Loop) intake(ctx context.Context) error {
	l.listen(ctx)
	return nil
}

func (l *Loop) listen(ctx context.Context) {
	catchUp := time.Now() // since when; messages sent later are news
	for failures := 0; ctx.Err() == nil; {
		if l.rules() != nil { // what we took would be missing to who rules now
			failures = deafAfter
			l.roster.Deafen()
			backoff.Wait(ctx, mostPause)
			continue
		}
		batch, err := l.receive(ctx, failures == 0 && !l.roster.Deaf())
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			failures++
			if failures == deafAfter {
				l.log.ErrorContext(ctx, "status queue cannot be read; trying again, nothing shrinks", "error", err)
				l.roster.Deafen()
			}
			backoff.Wait(ctx, backoff.Delay(failures, leastPause, mostPause))
			continue
		}
		if failures >= deafAfter {
			l.log.InfoContext(ctx, "status queue can be read again", "failures", failures)
			catchUp = time.Now()
		}
		failures = 0
		l.takeIn(ctx, batch)
		if !slices.ContainsFunc(batch, func(m queue.Message) bool { return !m.SentAt.After(catchUp) }) {
			l.listening()
		}
	}
}

// receive asks for what is there, and if it may, waits for it. It always waits a little: a queue that is
// asked not to (SQS) looks in some places only, and may find nothing where there is something.
func (l *Loop) receive(ctx context.Context, mayWait bool) ([]queue.Message, error) {
	wait := time.Second
	if mayWait {
		wait = intakeWait
	}
	ctx, cancel := context.WithTimeout(ctx, wait+intakeSlack)
	defer cancel()
	return l.deps.Status.Receive(ctx, intakeBatch, wait)
}

func (l *Loop) listening() {
	if l.roster.Listening(time.Now()) {
		l.Wake()
	}
}

// takeIn enters a batch into the records, then deletes it: what is lost between
// the two is taken in again, which changes nothing.
func (l *Loop) takeIn(ctx context.Context, batch []queue.Message) {
	if len(batch) == 0 {
		return
	}
	receipts := make([]queue.Receipt, len(batch))
	wake := false
	for i := range batch {
		receipts[i] = batch[i].Receipt
		wake = l.hear(ctx, batch[i].Body) || wake
	}
	if wake {
		l.Wake()
	}
	bounded, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := l.deps.Status.Delete(bounded, receipts...); err != nil && ctx.Err() == nil {
		l.log.WarnContext(ctx, "status messages could not be deleted; they will come again", "count", len(batch), "error", err)
	}
}

// hear takes one message and reports whether a pass should look at it.
func (l *Loop) hear(ctx context.Context, body []byte) bool {
	m, err := l.parse(body)
	if err != nil {
		l.metrics.heard("unparsable")
		if ok, unsaid := l.garbage.may(time.Now()); ok {
			l.log.WarnContext(ctx, "status message cannot be parsed; dropped", "error", err, "body", message.Excerpt(body), "others_since", unsaid)
		}
		return false
	}
	if _, ok := m.(message.Hint); ok {
		l.metrics.heard("hint")
		l.poll.hinted.Store(true)
		return true
	}
	outcome := l.roster.Hear(m, time.Now())
	l.metrics.heard(outcome.String())
	if said, ok := m.(message.Log); ok {
		if outcome != roster.Outdated {
			l.report(ctx, report.Event{Kind: report.Said, Instance: said.InstanceID, Text: said.Text})
		}
		return false
	}
	if outcome == roster.Future {
		l.log.DebugContext(ctx, "status from the future; dropped", "instance", string(m.From()))
	}
	return outcome == roster.Accepted // what is unknown changes nothing before a list explains it
}

// quota spares the log: what comes by the thousand is said some times a minute, and counted.
// It belongs to one goroutine.
type quota struct {
	since  time.Time // when the minute began
	said   int       // in it
	unsaid int       // since the last that was said
}

const mostAMinute = 10

// may reports whether to say it now, and how many have not been said before.
func (q *quota) may(now time.Time) (ok bool, unsaid int) {
	if now.Sub(q.since) >= time.Minute {
		q.since, q.said = now, 0
	}
	if q.said == mostAMinute {
		q.unsaid++
		return false, 0
	}
	unsaid, q.unsaid = q.unsaid, 0
	q.said++
	return true, unsaid
}

// lookAgain is when an arrival is looked for again: depths may lag behind it.
const lookAgain = 1500 * time.Millisecond

// watchWork wakes the loop when messages arrive on the work queue, where the
// queue can tell. Elsewhere there are the poll interval and hints.
func (l *Loop) watchWork(ctx context.Context) error {
	w, ok := l.deps.Work.(queue.Watcher)
	if !ok {
		return nil
	}
	for failures := 0; ctx.Err() == nil; failures++ {
		arrivals, err := w.Watch(ctx)
		if err != nil {
			if failures == 0 && ctx.Err() == nil {
				l.log.WarnContext(ctx, "work queue cannot be watched; looking at it at intervals", "error", err)
			}
			backoff.Wait(ctx, mostPause)
			continue
		}
		l.follow(ctx, arrivals)
	}
	return nil
}

// follow wakes the loop at every arrival until ctx ends.
func (l *Loop) follow(ctx context.Context, arrivals <-chan struct{}) {
	again := time.NewTimer(lookAgain)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-arrivals:
			again.Reset(lookAgain)
		case <-again.C:
		}
		l.Wake()
	}
}
