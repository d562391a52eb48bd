package allocate

import (
	"math"
	"time"
)

const (
	// mostAllocators bounds what is believed of their number, so that one strange set cannot stop all choices from
	// counting.
	mostAllocators = 64
	// fewestClients is how many own clients reports must have confirmed before anything is learnt from them.
	fewestClients = 10
	// memory is for how many mean sessions an observation counts; with more, a new allocator is noticed later, with
	// fewer, chance disturbs the estimates.
	memory = 10
	// mostSets is for how many sets an observation counts at most, so that nothing counts for ever if clients seem
	// never to leave.
	mostSets = 1000
	// plausible is the highest load that is learnt from: a server that has a hundred times the clients it is for.
	plausible = 100
	// mostFading bounds the exponent of fading, far above what makes a difference and far below what overflows.
	mostFading = 30
)

// change is what two reports of one instance and the assignments between them tell.
type change struct {
	before, after float64 // clients connected
	own           float64 // clients that this allocator has assigned in between, less those that have probably left
	sent          float64 // the same, and those that others have told of
	seconds       float64 // from one report to the other
}

// moments are sums over changes.
//
// Of the clients that an instance had at the first report, some have left at the second one; and for each client that
// is known to have been sent there in between, all allocators together have sent more. So on average
//
//	after − before = untold × sent − leaving × stayed
//
// where stayed is for how many seconds the clients of the first report were connected, taken together. The sum of this
// over all instances is one equation for the two unknowns, untold and leaving. Another is the sum in which each
// instance is weighted with the clients that it had: clients leave where there are many, and are sent where there are
// few. Both hold on average whatever the other allocators do at random. A fit by least squares would not, because what
// is known of an instance is no exact measure of what the others did.
type moments struct {
	changes, before, own float64
	grown, sent, stayed  float64
	wGrown, wSent, wStay float64 // the same, weighted
}

// add takes in a change; stayed is computed with what is known of the share of clients that leaves in a second.
func (m *moments) add(c change, leaving float64) {
	grown, stayed := c.after-c.before, c.before*c.seconds
	if leaving > 0 {
		stayed = c.before * -math.Expm1(-leaving*c.seconds) / leaving
	}
	m.changes++
	m.before += c.before
	m.own += c.own
	m.grown += grown
	m.sent += c.sent
	m.stayed += stayed
	m.wGrown += c.before * grown
	m.wSent += c.before * c.sent
	m.wStay += c.before * stayed
}

// centered returns the moments with weights that are 0 on average: by how much an instance had more clients than most.
func (m moments) centered() moments {
	mean := m.before / max(1, m.changes)
	m.wGrown -= mean * m.grown
	m.wSent -= mean * m.sent
	m.wStay -= mean * m.stayed
	return m
}

// plus returns n and what is left of m after fading.
func (m moments) plus(n moments, left float64) moments {
	return moments{
		changes: left*m.changes + n.changes, before: left*m.before + n.before, own: left*m.own + n.own,
		grown: left*m.grown + n.grown, sent: left*m.sent + n.sent, stayed: left*m.stayed + n.stayed,
		wGrown: left*m.wGrown + n.wGrown, wSent: left*m.wSent + n.wSent, wStay: left*m.wStay + n.wStay,
	}
}

// habits are what a pool has learnt of its clients and of other allocators. The zero value has learnt nothing: it
// takes this allocator for the only one, and clients for staying.
type habits struct {
	seen    moments
	others  float64 // how many clients others send without telling, for each client that is known to be sent
	peers   float64 // how many clients the allocators that tell send while this one sends one
	leaving float64 // the share of clients that leave in a second
}

// learn takes in the changes that one active set has shown. Fading over long is how long assignments may count.
func (h *habits) learn(set moments, long time.Duration) {
	if set.changes == 0 {
		return
	}
	period := set.stayed / max(1, set.before) // about the mean time between two reports
	h.seen = h.seen.plus(set.centered(), math.Exp(-max(h.leaving*period/memory, 1.0/mostSets)))
	s := h.seen
	if s.sent < fewestClients {
		return
	}
	perClient := s.grown / s.sent
	leaving := 0.0
	if evidence := s.wStay - s.stayed/s.sent*s.wSent; evidence > 0 {
		leaving = (perClient*s.wSent - s.wGrown) / evidence
	}
	h.leaving = min(max(0, leaving), mostFading/long.Seconds())
	h.others = min(max(0, perClient+h.leaving*s.stayed/s.sent-1), mostAllocators-1)
	if s.own >= fewestClients {
		h.peers = min(max(0, s.sent/s.own-1), mostAllocators-1)
	}
}

// untold is how many clients there are for each that is known to be sent, itself included.
func (h *habits) untold() float64 { return 1 + h.others }
