package roster

import (
	"cmp"
	"slices"
	"time"

	"cloudmaster/internal/message"
	"cloudmaster/internal/pool"
)

// stamp orders the messages of one instance.
type stamp struct {
	at  time.Time
	seq uint64
}

func (s stamp) compare(t stamp) int {
	return cmp.Or(s.at.Compare(t.at), cmp.Compare(s.seq, t.seq))
}

// stray is the newest status of an instance that is not listed, or not listed yet.
type stray struct {
	status message.Status
	since  time.Time // when the instance was first heard of
	heard  time.Time // when it was last heard of
}

// Outcome is what became of a message. The zero value is invalid.
type Outcome int

// The outcomes.
const (
	Invalid  Outcome = iota
	Accepted         // it is newer than what was known
	Outdated         // the instance has said something newer, or the same, before
	Future           // accepted, but its time is far ahead of this controller's clock, which people should know
	Unknown          // no such instance; it is kept for a while, because a list may show the instance
	// Foreign: there is no such instance. Lists have had the time to show it and do not, or there is no room
	// to keep more such statuses.
	Foreign
)

var outcomeNames = [...]string{"invalid", "accepted", "outdated", "future", "unknown", "foreign"}

// String returns the outcome's name, as metrics use it.
func (o Outcome) String() string {
	if o < 0 || int(o) >= len(outcomeNames) {
		return outcomeNames[Invalid]
	}
	return outcomeNames[o]
}

const (
	// tolerance is how far an instance's clock may be ahead of this controller's without a warning.
	tolerance = time.Minute
	// mostStrays bounds how many statuses of unknown instances are kept, so that strangers cannot fill the
	// memory.
	mostStrays = 10_000
	// mostLogged is how many log messages of each instance are remembered, to recognise duplicates.
	mostLogged = 64
)

// Hear takes a message from an instance.
func (r *Roster) Hear(m message.Message, now time.Time) Outcome {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch m := m.(type) {
	case message.Status:
		return r.hearStatus(&m, now)
	case message.Log:
		return r.hearLog(&m)
	}
	return Invalid
}

func (r *Roster) hearStatus(s *message.Status, now time.Time) Outcome {
	rec := r.records[s.InstanceID]
	if rec == nil {
		return r.hearStray(s, now)
	}
	outcome := r.accept(rec, s, now)
	if outcome == Accepted && rec.ahead > tolerance {
		return Future
	}
	return outcome
}

func (r *Roster) hearStray(s *message.Status, now time.Time) Outcome {
	old, kept := r.strays[s.InstanceID]
	switch {
	case !kept && len(r.strays) >= mostStrays:
		return Foreign
	case !kept:
		old.since = now
	case stampOf(s).compare(stampOf(&old.status)) <= 0:
		return Outdated
	}
	r.strays[s.InstanceID] = stray{status: *s, since: old.since, heard: now}
	if r.listed.Sub(old.since) > r.opts.ListLag {
		return Foreign
	}
	return Unknown
}

func stampOf(s *message.Status) stamp { return stamp{at: s.Timestamp, seq: s.Sequence} }

// accept enters a status if it is newer than what is known.
func (r *Roster) accept(rec *record, s *message.Status, now time.Time) Outcome {
	order := rec.order(s, now)
	switch {
	case order == older:
		return Outdated
	case order == unclear && !(s.Busy() || s.Load > 0):
		rec.HeardAt = now // it may be old, but the instance lives
		return Outdated
	case order == unclear: // it may be old, but to stop an instance that is at work would be worse than to wait
		rec.HeardAt = now
	default:
		rec.ahead = max(rec.ahead, s.Timestamp.Sub(now))
		rec.stamp, rec.HeardAt, rec.ReportedAt = stampOf(s), now, s.Timestamp.Add(-rec.ahead)
		// If the program was started anew on its machine, it serves again, unless the cloud has announced its end. A
		// warm one is about to stop, as it should.
		rec.Interrupted = s.Interrupted() && rec.State != pool.Warm || rec.Announced != ""
	}
	r.heard++
	rec.heardNo, rec.Load, rec.Busy = r.heard, s.Load, s.Busy()
	switch {
	case rec.atWork():
		rec.IdleSince = time.Time{}
	case rec.IdleSince.IsZero():
		rec.IdleSince = rec.ReportedAt
	}
	if s.Address != "" {
		rec.said = s.Address
	}
	return Accepted
}

// How old a status is beside the newest one that was accepted from its instance.
const (
	older = iota
	newer
	unclear // its time is earlier but its sequence later: the clock was set back, or an earlier program has sent it
)

// order finds out how old a status is beside the newest one. Messages are late by less than the tolerance, so a status
// that is earlier by more, with a later sequence, shows that the clock was set back: its times count from then on.
func (rec *record) order(s *message.Status, now time.Time) int {
	if rec.former(s) {
		if rec.ReportedAt.IsZero() { // it would pass for the first word of the new life
			return older
		}
		return unclear // its clock may have been set back since
	}
	if stampOf(s).compare(rec.stamp) > 0 {
		return newer
	}
	back := rec.stamp.at.Sub(s.Timestamp)
	switch later := s.Sequence > rec.stamp.seq; {
	case back > tolerance && (later || rec.ahead > tolerance && s.Timestamp.Sub(now) <= tolerance):
		rec.ahead = 0
		return newer
	case later:
		return unclear
	}
	return older
}

// hearLog only finds out whether the message was heard before. What an instance tells the operator is shown also if it
// is late, or if the instance is gone.
func (r *Roster) hearLog(l *message.Log) Outcome {
	rec := r.records[l.InstanceID]
	if rec == nil {
		return Unknown
	}
	this := stamp{at: l.Timestamp, seq: l.Sequence}
	if slices.Contains(rec.logged, this) {
		return Outdated
	}
	if len(rec.logged) == mostLogged {
		rec.logged = append(rec.logged[:0], rec.logged[1:]...)
	}
	rec.logged = append(rec.logged, this)
	return Accepted
}

// dropStrays forgets the unknown instances that have fallen silent. Those that go on reporting are kept, so
// that it is known since when lists should have shown them.
func (r *Roster) dropStrays(now time.Time) {
	for id, s := range r.strays {
		if now.Sub(s.heard) > r.opts.ListLag {
			delete(r.strays, id)
		}
	}
}

// adoptStray enters what an instance reported before a list or a launch told of it.
func (r *Roster) adoptStray(rec *record) {
	if s, ok := r.strays[rec.ID]; ok {
		delete(r.strays, rec.ID)
		r.accept(rec, &s.status, s.heard)
	}
}

// Heard returns how many statuses have been accepted so far. Unlike a time, this number is never the same
// before and after a status.
func (r *Roster) Heard() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.heard
}

// Listening notes that statuses reach this controller and that those that were waiting on the queue have been
// heard. It reports whether that is new.
func (r *Roster) Listening(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.listening.IsZero() {
		return false
	}
	r.listening = now
	return true
}

// Deafen notes that statuses do not reach this controller, as before the first call of Listening. Until the
// next one, no instance's silence is counted.
func (r *Roster) Deafen() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.listening = time.Time{}
}

// Deaf reports whether statuses do not reach this controller, so that what the instances reported last may be
// wrong by now.
func (r *Roster) Deaf() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.listening.IsZero()
}
