package pool

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Cause is why an instance is drained or ends. The empty value is invalid.
type Cause string

// The causes. They are written into records, so their values must not change.
const (
	IdleSurplus   Cause = "idle_surplus"   // it is idle, and the policy needs fewer instances
	LowLoad       Cause = "low_load"       // the policy finds that fewer servers can carry the load
	OverMaximum   Cause = "over_maximum"   // there are more instances than the maximum
	Drained       Cause = "drained"        // its drain is over: it has reported that it is empty
	DrainDeadline Cause = "drain_deadline" // its drain is over: it took as long as it may
	Hung          Cause = "hung"           // it has reported, and has then been silent for too long
	NeverStarted  Cause = "never_started"  // it was launched and has never reported
	Operator      Cause = "operator"       // a person has asked for fewer instances
	PoolRemoved   Cause = "pool_removed"   // its pool is not in the configuration any more
	Warmed        Cause = "warmed"         // it was launched to be stopped, and has booted
	WarmSurplus   Cause = "warm_surplus"   // it is warm, and fewer are to be kept
	WarmOutdated  Cause = "warm_outdated"  // it is warm, and was launched with settings that have changed
	Interrupted   Cause = "interrupted"    // it has said that it is about to end, or its cloud has
	Outdated      Cause = "outdated"       // it is replaced, because a launch would make something else now
	Outside       Cause = "outside"        // it has ended or is ending, and this controller did not end it
)

// Failed reports whether the cause is a fault of the instance, which is replaced.
func (c Cause) Failed() bool { return c == Hung || c == NeverStarted }

// Ending says that an instance is to be drained or stopped, and why.
type Ending struct {
	Instance InstanceID    `json:"instance"`
	Cause    Cause         `json:"cause"`
	For      time.Duration `json:"for,omitempty"`  // how long it has been silent, idle or draining: see Detail
	Load     float64       `json:"load,omitempty"` // what it last reported
	// Reason is why, in the cloud's words; empty if it has not said.
	Reason string `json:"reason,omitempty"`
	// Drift is why it is outdated; empty for other causes.
	Drift Drift `json:"drift,omitempty"`
	// Successor has taken its place; empty if none has yet. It stops being Surge when this ending has begun.
	Successor InstanceID `json:"successor,omitempty"`
	// Unheard says that this controller has launched the instance, and that it has never reported.
	Unheard bool `json:"unheard,omitempty"`
	// Due is when it must end whatever it is doing. Zero: if it finds work first, it may finish that.
	Due time.Time `json:"-"`
}

// Detail is the evidence for the cause, for people: "silent for 12m0s". It may be empty.
func (e *Ending) Detail() string {
	long := e.For.Round(time.Second)
	switch e.Cause {
	case Hung, NeverStarted:
		return fmt.Sprintf("silent for %s", long)
	case IdleSurplus, Operator, OverMaximum, PoolRemoved:
		if e.For > 0 {
			return fmt.Sprintf("idle for %s", long)
		}
		if e.Load > 0 {
			return fmt.Sprintf("load %.2f", e.Load)
		}
	case LowLoad:
		return fmt.Sprintf("load %.2f", e.Load)
	case Interrupted:
		if e.Reason != "" {
			return fmt.Sprintf("load %.2f; the cloud says: %s", e.Load, e.Reason)
		}
		return fmt.Sprintf("load %.2f", e.Load)
	case Drained, DrainDeadline:
		return fmt.Sprintf("draining for %s, load %.2f", long, e.Load)
	case Outdated:
		return e.outdated()
	case Outside:
		return e.outside()
	case Warmed, WarmSurplus, WarmOutdated:
	}
	return ""
}

// outdated is the evidence for the ending of an outdated instance.
func (e *Ending) outdated() string {
	if e.Successor == "" {
		return string(e.Drift)
	}
	return fmt.Sprintf("%s; %s has taken its place", e.Drift, e.Successor)
}

// outside is the evidence for an ending that was not this controller's doing.
func (e *Ending) outside() string {
	var words []string
	if e.Unheard {
		words = append(words, "before it ever reported")
	}
	if e.Reason != "" {
		words = append(words, "the cloud says: "+e.Reason)
	}
	return strings.Join(words, "; ")
}

// EndIdle returns the ending of an instance that may go because it is not needed. If the instance is idle,
// the ending says for how long.
func (i *Instance) EndIdle(now time.Time, cause Cause) Ending {
	e := Ending{Instance: i.ID, Cause: cause, Load: i.Load}
	if i.Idle() && !i.IdleSince.IsZero() {
		e.For = now.Sub(i.IdleSince)
	}
	return e
}

// IDs returns the ids of the instances in a list of endings, in the same order.
func IDs(list []Ending) []InstanceID {
	ids := slices.Grow([]InstanceID(nil), len(list))
	for i := range list {
		ids = append(ids, list[i].Instance)
	}
	return ids
}
