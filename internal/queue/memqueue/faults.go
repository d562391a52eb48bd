package memqueue

import (
	"math/rand/v2"
	"time"

	"cloudmaster/internal/faults"
)

// The operations that can fail; faults.Any stands for all of them. Receive counts as one call each
// time it looks for messages, so a Receive that waits can fail in the middle of its wait.
const (
	OpSend    faults.Op = "send"
	OpReceive faults.Op = "receive"
	OpExtend  faults.Op = "extend"
	OpRelease faults.Op = "release"
	OpDelete  faults.Op = "delete"
	OpBury    faults.Op = "bury"
	OpBacklog faults.Op = "backlog"
	OpWatch   faults.Op = "watch"
)

// Disturbance is how a queue misbehaves within its contract. The zero value disturbs nothing.
type Disturbance struct {
	// Duplicate is how many of the next deliveries leave their message visible, so that it is delivered
	// again at once.
	Duplicate int
	Late      time.Duration // how long after it was sent a message becomes visible
	Shuffle   *rand.Rand    // source of a random delivery order; nil means the order in which the messages were sent
}

// Disturb makes the queue misbehave from now on.
func (q *Queue) Disturb(d Disturbance) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.disturb = d
}

// Letter is a dead letter together with the reason why it became one.
type Letter struct {
	Body   string
	Reason string
}

// Letters returns the messages in a queue of dead letters, oldest first; for assertions.
func (q *Queue) Letters() []Letter {
	q.mu.Lock()
	defer q.mu.Unlock()
	out := make([]Letter, len(q.items))
	for i, it := range q.items {
		out[i] = Letter{Body: string(it.body), Reason: it.reason}
	}
	return out
}

// Bodies returns the messages that were not deleted, in the order sent; for assertions.
func (q *Queue) Bodies() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	out := make([]string, len(q.items))
	for i, it := range q.items {
		out[i] = string(it.body)
	}
	return out
}
