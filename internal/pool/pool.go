// Package pool holds the words of CloudMaster as values: instances and their
// states, the snapshot a policy looks at, the decision it returns, and the
// limits that the core puts on a decision. It knows no clock, no logger and no
// cloud; everything else in the tree may import it.
//
// # States
//
//	launch ──▶ startup ──first status──▶ active ──too many──▶ shut_down ──drained──▶ stopping ──gone──▶ (forgotten)
//	              │                       │  ▲                   │ │
//	              │ boot deadline         │  └──needed again─────┘ │ watchdog
//	              └──────────▶ stopping ◀─┴────watchdog────────────┘
//
// startup and active instances are capacity ("counted"). shut_down instances
// still serve the clients they have and can be made active again; stopping ones
// are on their way out and are never chosen for anything.
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

// The states of an instance. Their names (see String) are written on instances
// as tags and must not change.
const (
	Unknown  State = iota // not a state: the zero value
	Startup               // launched, has not reported yet
	Active                // has reported; gets work
	ShutDown              // draining: serves what it has, gets nothing new
	Stopping              // told to end; no capacity any more
)

var stateNames = [...]string{"unknown", "startup", "active", "shut_down", "stopping"}

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

// CanBecome reports whether the edge from s to next is in the state machine of
// the package comment.
func (s State) CanBecome(next State) bool {
	switch s {
	case Startup:
		return next == Active || next == Stopping
	case Active:
		return next == ShutDown || next == Stopping
	case ShutDown:
		return next == Active || next == Stopping
	case Unknown:
		return next == Startup
	case Stopping:
		return false
	}
	return false
}

// Instance is what the controller knows of one server when a pass begins.
type Instance struct {
	ID         InstanceID
	Cloud      CloudName
	Address    string    // host:port for clients; empty when unknown
	State      State     // as we see it
	StateSince time.Time // when it entered State
	Launched   time.Time // when the cloud started it
	ActiveAt   time.Time // when it last became active; zero if it never did

	ReportedAt time.Time // when its newest status was written; zero if it never reported to this controller
	HeardAt    time.Time // when we last heard from it, or took it over: silence counts from here
	Load       float64   // 0 nothing connected, 1 at capacity; may exceed 1
	Busy       bool      // it said busy, or its load is above 0 and it said neither
	IdleSince  time.Time // since when it has reported idle without a break; zero if it is not idle
}

// Counted reports whether the instance is capacity: starting or active.
func (i *Instance) Counted() bool { return i.State == Startup || i.State == Active }

// Idle reports whether the instance is active and has told us that it does nothing.
// An instance that has not reported is not idle: we do not know.
func (i *Instance) Idle() bool {
	return i.State == Active && !i.ReportedAt.IsZero() && !i.Busy && i.Load == 0
}

// Backlog is what a work queue holds. It can be unknown, which is not zero:
// the zero value is unknown.
type Backlog struct {
	Known    bool `json:"known"`
	Visible  int  `json:"visible"`   // messages that a worker could take now
	InFlight int  `json:"in_flight"` // messages taken and neither deleted nor returned
}

// Order is what an operator wants the number of instances to be.
type Order struct {
	ID       string `json:"id"`       // of the message that it came in
	Absolute bool   `json:"absolute"` // N is the number itself, else it is added to the number
	N        int    `json:"n"`
}

// Snapshot is everything that a policy may look at. Policies must not modify it.
type Snapshot struct {
	Now       time.Time
	Pool      Name
	ListedAt  time.Time // when the list that Instances come from was asked for
	Backlog   Backlog
	BacklogAt time.Time  // when the backlog was read; zero while it is unknown
	Requests  int        // requests for a server taken from the work queue since the last decision that acted on them
	Instances []Instance // sorted by ID
	Stale     bool       // the inventory could not be read, or most are silent: nothing may shrink
	Limits    Limits     // those in force now, which Limits.Apply puts on the decision
	Orders    []Order    // in the order in which they came; they are removed when Memory is stored
	Memory    []byte     // what the policy's last decision asked to keep; nil: nothing yet
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

// Find returns the instance of that id, or nil. It relies on the order of Instances.
// (slices.BinarySearchFunc would copy them.)
func (s *Snapshot) Find(id InstanceID) *Instance {
	at := sort.Search(len(s.Instances), func(i int) bool { return s.Instances[i].ID >= id })
	if at == len(s.Instances) || s.Instances[at].ID != id {
		return nil
	}
	return &s.Instances[at]
}

// Pick returns the ids of the first n instances, in the given order, that keep
// accepts.
func (s *Snapshot) Pick(n int, keep func(*Instance) bool, order func(a, b *Instance) int) []InstanceID {
	var list []*Instance // instances are large: sorting must not move them
	for i := range s.Instances {
		if keep(&s.Instances[i]) {
			list = append(list, &s.Instances[i])
		}
	}
	slices.SortFunc(list, order)
	var out []InstanceID
	for _, i := range list[:max(0, min(n, len(list)))] {
		out = append(out, i.ID)
	}
	return out
}

// End returns the endings of the first n victims (see Limits.ByVictim) that may go.
func (s *Snapshot) End(n int, cause Cause, may func(*Instance) bool) []Ending {
	var out []Ending
	for _, id := range s.Pick(n, may, s.Limits.ByVictim(s.Now)) {
		out = append(out, s.Find(id).EndIdle(s.Now, cause))
	}
	return out
}

// SortInstances orders by ID, the order that a Snapshot promises.
func SortInstances(list []Instance) {
	slices.SortFunc(list, func(a, b Instance) int { return cmp.Compare(a.ID, b.ID) })
}

// ByVictim orders candidates for a stop: lowest load, then idle longest, then
// oldest launch, then id. Where lifetimes count, Limits.ByVictim puts those first whose are over.
func ByVictim(a, b *Instance) int {
	return cmp.Or(
		cmp.Compare(a.Load, b.Load),
		compareIdle(a.IdleSince, b.IdleSince),
		a.Launched.Compare(b.Launched),
		cmp.Compare(a.ID, b.ID),
	)
}

// compareIdle puts the longest idle first and those that are not idle last.
func compareIdle(a, b time.Time) int {
	switch {
	case a.IsZero() && b.IsZero():
		return 0
	case a.IsZero():
		return 1
	case b.IsZero():
		return -1
	}
	return a.Compare(b)
}

// ByLoadDescending orders candidates for reactivation: highest load first, then
// oldest launch, then id.
func ByLoadDescending(a, b *Instance) int {
	return cmp.Or(
		cmp.Compare(b.Load, a.Load),
		a.Launched.Compare(b.Launched),
		cmp.Compare(a.ID, b.ID),
	)
}

// ValidLoad reports whether a load may enter a record: finite and not negative.
func ValidLoad(load float64) bool {
	return load >= 0 && !math.IsInf(load, 1) // NaN fails the comparison
}
