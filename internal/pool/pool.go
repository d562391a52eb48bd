// Package pool has the words of CloudMaster as values: instances and their states, the snapshot that a policy
// looks at, the decision that it returns, and the limits that the controller puts on a decision. It knows no
// clock, no logger and no cloud, and imports only the standard library, so everything else in the tree may import
// it.
//
// # States
//
//	launch ──▶ startup ──first status──▶ active ──too many──▶ shut_down ──drained──▶ stopping ──gone──▶ (forgotten)
//	              │                       │  ▲                   │ │
//	              │ boot deadline         │  └──needed again─────┘ │ watchdog
//	              └──────────▶ stopping ◀─┴────watchdog────────────┘
//
//	launch ──▶ warming ──idle──▶ warm ──needed──▶ startup        active, shut_down ──not needed──▶ warm
//
// Of a pool that keeps some instances warm, one that is not needed may be stopped instead of ended. It is warm
// until it is needed: then it is started, and is in startup like one that was launched. If too few are warm, one
// is launched only to be stopped: it is warming until it has reported that it is idle. If it reports work instead
// it is active, and if it is needed meanwhile it is in startup. A start that the cloud refuses makes the instance
// warm again.
//
// An active instance that says that it is about to end is shut down whatever the policy wants, and is not needed
// again until it says something else.
//
// Instances in startup and active are capacity ("counted"). Those in shut_down still serve the clients that they
// have, and can be made active again. Those in stopping have been told to end, and are never chosen for anything.
// Those that are warm or warming are no capacity, and policies do not see them.
package pool

import (
	"cmp"
	"math"
	"slices"
	"sort"
	"time"
)

// Name is the name of a pool, as in the configuration.
type Name string

// InstanceID is the cloud's name for one instance.
type InstanceID string

// CloudName names a cloud, as in the configuration.
type CloudName string

// State is where an instance is in its life, as the controller sees it.
// The zero value is invalid.
type State int

// The states of an instance. Their names (see String) are written on instances as tags and must not change.
const (
	Unknown  State = iota // not a state: the zero value
	Startup               // launched, and has not reported yet
	Active                // has reported, and gets work
	ShutDown              // draining: serves the clients that it has and gets no new ones
	Stopping              // told to end; not capacity any more
	Warming               // launched only to be stopped when it has booted
	Warm                  // stopped on purpose, or about to be, so that it can be started instead of a new one launched
)

var stateNames = [...]string{"unknown", "startup", "active", "shut_down", "stopping", "warming", "warm"}

// String returns the state's name as it is written in tags and reports.
func (s State) String() string {
	if s < 0 || int(s) >= len(stateNames) {
		return stateNames[Unknown]
	}
	return stateNames[s]
}

// ParseState is the inverse of String; anything else is Unknown.
func ParseState(name string) State {
	if i := slices.Index(stateNames[:], name); i > 0 {
		return State(i)
	}
	return Unknown
}

// CanBecome reports whether the state machine in the package comment allows an instance to go from s to next.
func (s State) CanBecome(next State) bool {
	switch s {
	case Startup:
		return next == Active || next == Stopping || next == Warm
	case Active:
		return next == ShutDown || next == Stopping || next == Warm
	case ShutDown:
		return next == Active || next == Stopping || next == Warm
	case Warming:
		return next == Startup || next == Active || next == Stopping || next == Warm
	case Warm:
		return next == Startup || next == Stopping
	case Unknown:
		return next == Startup || next == Warming
	case Stopping:
		return false
	}
	return false
}

// Instance is what the controller knows of one server when a pass begins.
type Instance struct {
	ID         InstanceID
	Cloud      CloudName
	Address    string    // HOST:PORT for clients; empty if unknown
	State      State     // as the controller sees it
	StateSince time.Time // when it entered State
	Launched   time.Time // when the cloud started it
	ActiveAt   time.Time // when it last became active; zero if it never did

	// What the cloud says of its machine. Clouds that do not know these leave them empty.
	Type string // the cloud's word for the size of the machine
	Zone string // the cloud's word for a part of it that fails by itself
	Spot bool   // the cloud may take it back at any time

	ReportedAt time.Time // when its newest status was written; zero if it never reported to this controller
	// HeardAt is when the controller last heard from it, or took it over. Its silence is counted from then.
	HeardAt   time.Time
	Load      float64   // 0: nothing is connected, 1: at capacity; may exceed 1
	Busy      bool      // it reported busy, or it reported neither busy nor idle and a load above 0
	IdleSince time.Time // since when every status has reported it idle; zero if it is not idle

	// Interrupted: its newest status says that it takes no new work and is about to end, because it got a signal or
	// because the cloud takes its machine back; or the cloud has announced its end. It drains, is no capacity, and is
	// not reactivated.
	Interrupted bool
	// Announced is why the cloud will end it, or may, in the cloud's words; empty if the cloud has not said. Then
	// Interrupted is true whatever its statuses say.
	Announced string

	// Drift is why it is outdated; empty if it is not. An outdated instance that drains is not reactivated.
	Drift Drift
	// Current: it is known to be of the version that is launched now. What does not say its version is neither
	// outdated nor current.
	Current bool
	Place   string // where the cloud runs it, as far as the pool's instances are to be level over places; may be empty
	// Surge: it was launched to take the place of an outdated instance, and has not taken it yet. Until then it is
	// beyond the number that the policy wants.
	Surge bool
}

// Reactivatable reports whether the instance drains and can be made active again.
func (i *Instance) Reactivatable() bool {
	return i.State == ShutDown && !i.Interrupted && i.Drift == ""
}

// Counted reports whether the instance is capacity: starting or active.
func (i *Instance) Counted() bool { return i.State == Startup || i.State == Active }

// Reserve reports whether the instance is kept to be started later, or launched for that: it is no capacity, and
// policies do not see it.
func (i *Instance) Reserve() bool { return i.State == Warm || i.State == Warming }

// Idle reports whether the instance is active and its last status said that it does nothing. An instance that
// has not reported is not idle, because nobody knows what it does.
func (i *Instance) Idle() bool {
	return i.State == Active && !i.ReportedAt.IsZero() && !i.Busy && i.Load == 0
}

// Backlog is what is on a work queue. It can be unknown, which is not the same as empty. The zero value is
// unknown.
type Backlog struct {
	Known    bool `json:"known"`
	Visible  int  `json:"visible"`   // messages that a worker could take now
	InFlight int  `json:"in_flight"` // messages taken and neither deleted nor returned
}

// Order is what an operator wants the number of instances to be.
type Order struct {
	ID       string    `json:"id"`       // tells it from all other orders of the pool
	At       time.Time `json:"at"`       // when it was sent
	Absolute bool      `json:"absolute"` // N is the number itself, else it is added to the number
	N        int       `json:"n"`
}

// Snapshot is everything that a policy may look at. Policies must not modify it.
type Snapshot struct {
	Now       time.Time
	Pool      Name
	ListedAt  time.Time // when the list that Instances come from was asked for
	Backlog   Backlog
	BacklogAt time.Time // when the backlog was read; zero while it is unknown
	// Requests is how many requests for a server have been taken from the work queue and not been served.
	Requests  int
	Instances []Instance // sorted by ID
	// Stale says that this view of the pool may be wrong, so nothing may shrink: the cloud could not be
	// listed, statuses do not arrive, too many instances are silent, or the policy's memory could not be read.
	Stale  bool
	Limits Limits  // those in force now, which Limits.Apply puts on the decision
	Orders []Order // in the order in which they came; they are removed when Memory is stored
	Memory []byte  // what the policy's last decision asked to keep; nil if it has kept nothing yet

	Version string // names what a launch would make now; empty if that is not known
	Trial   Trial  // what the last decision knew of that version
	// Unlevel: no successor is launched now for what is outdated for its place (OtherZone), because that did not help
	// lately.
	Unlevel bool
	Resting bool // launches pause, because some have failed, or wait for what lists do not show yet
	// Owed is how many outdated instances were ended before their successors were there, of which none could be
	// launched since.
	Owed int
}

// Count returns how many instances are in one of the given states.
func (s *Snapshot) Count(states ...State) int {
	n := 0
	for i := range s.Instances {
		if slices.Contains(states, s.Instances[i].State) {
			n++
		}
	}
	return n
}

// Counted returns how many instances are capacity: startup + active.
func (s *Snapshot) Counted() int { return s.Count(Startup, Active) }

// Leaving returns how many instances drain and cannot be made active again, because they are about to end or are
// outdated.
func (s *Snapshot) Leaving() int {
	n := 0
	for i := range s.Instances {
		if in := &s.Instances[i]; in.State == ShutDown && !in.Reactivatable() {
			n++
		}
	}
	return n
}

// Find returns the instance with this id, or nil. It relies on the order of Instances. It does not use
// slices.BinarySearchFunc, which would copy the instances that it compares.
func (s *Snapshot) Find(id InstanceID) *Instance {
	at := sort.Search(len(s.Instances), func(i int) bool { return s.Instances[i].ID >= id })
	if at == len(s.Instances) || s.Instances[at].ID != id {
		return nil
	}
	return &s.Instances[at]
}

// Pick returns the ids of the first n instances, in the given order, among those that keep accepts.
func (s *Snapshot) Pick(n int, keep func(*Instance) bool, order Ranking) []InstanceID {
	ranks := s.pick(n, keep, order)
	out := slices.Grow([]InstanceID(nil), len(ranks))
	for i := range ranks {
		out = append(out, s.Instances[ranks[i].at].ID)
	}
	return out
}

func (s *Snapshot) pick(n int, keep func(*Instance) bool, order Ranking) []Rank {
	var kept []int32
	for i := range s.Instances {
		if keep(&s.Instances[i]) {
			kept = append(kept, int32(i)) //nolint:gosec // nobody runs more than MaxInt32 instances
		}
	}
	ranks := make([]Rank, len(kept))
	for i, at := range kept {
		ranks[i] = order(&s.Instances[at])
		ranks[i].at = at
	}
	slices.SortFunc(ranks, Rank.compare)
	return ranks[:max(0, min(n, len(ranks)))]
}

// End returns endings for n instances, or for as many as there are, among those that may go. ByVictim says
// which go first.
func (s *Snapshot) End(n int, cause Cause, may func(*Instance) bool) []Ending {
	ranks := s.pick(n, may, s.Limits.ByVictim(s.Now))
	out := slices.Grow([]Ending(nil), len(ranks))
	for i := range ranks {
		out = append(out, s.Instances[ranks[i].at].EndIdle(s.Now, cause))
	}
	return out
}

// SortInstances sorts by ID, which is the order that a Snapshot promises.
func SortInstances(list []Instance) {
	slices.SortFunc(list, func(a, b Instance) int { return cmp.Compare(a.ID, b.ID) })
}

// ValidLoad reports whether a load is finite and not negative. Any other value that an instance reports is
// rejected.
func ValidLoad(load float64) bool {
	return load >= 0 && !math.IsInf(load, 1) // NaN fails the comparison
}
