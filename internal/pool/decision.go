package pool

import (
	"fmt"
	"strings"
)

// Decision is what should happen to a pool, and why. It is a value: nothing has happened yet. Logs, metrics
// and reports are all made from this one value.
type Decision struct {
	Launch     int          // new instances
	Reactivate []InstanceID // shut_down instances to make active again
	ShutDown   []Ending     // active instances to drain
	Stop       []Ending     // instances to terminate; what is in Reactivate too is stopped if there is no room for it
	Reason     string       // one sentence for the operator

	Surge   bool         // what is launched is beyond the number that the policy wants; see Instance.Surge
	Succeed []InstanceID // of these, Surge ends now: they count as all others from now on

	// Memory is what the policy wants to find in the snapshot from now on, also after a restart. It is stored
	// before anything is done. Nil means that what was stored before stays.
	Memory []byte

	// Limits.Apply fills these three. Asked is what the policy wanted. Clamps says which limits cut that, and
	// by how much. Spent is what the decision takes from the budget of the policy interval; launches up to
	// the minimum, the ends of drains, and the endings of a surplus or of hung instances cost nothing.
	Asked  Ask
	Clamps []Clamp
	Spent  Budget
}

// Limit names what cuts a decision. The empty value is invalid.
type Limit string

// The limits that a clamp can name. They are written into records, so their values must not change.
const (
	ByMinimum    Limit = "minimum"
	ByMaximum    Limit = "maximum"
	ByStartLimit Limit = "start_limit"
	ByStopLimit  Limit = "stop_limit"
	ByLifetime   Limit = "lifetime"   // minimum_lifetime or minimum_active_time
	ByStaleView  Limit = "stale_view" // what is known of the pool may be wrong, so nothing shrinks
	ByState      Limit = "state"      // the state machine does not allow what was asked for
	ByDraining   Limit = "draining"   // draining instances are reactivated before new ones are launched
)

// Clamp is one limit that changed what the policy asked for.
type Clamp struct {
	Limit Limit  `json:"limit"`
	By    int    `json:"by"`   // how many launches, reactivations or endings it cut off or added
	Text  string `json:"text"` // for people: "start limit allows 1 of 2 launches"
}

// Ask is a decision's size before limits.
type Ask struct {
	Launch     int `json:"launch"`
	Reactivate int `json:"reactivate"`
	ShutDown   int `json:"shut_down"`
	Stop       int `json:"stop"`
}

// Empty reports whether the decision changes nothing.
func (d *Decision) Empty() bool {
	return d.Launch == 0 && len(d.Reactivate) == 0 && len(d.ShutDown) == 0 && len(d.Stop) == 0
}

// ask measures the decision.
func (d *Decision) ask() Ask {
	return Ask{Launch: d.Launch, Reactivate: len(d.Reactivate), ShutDown: len(d.ShutDown), Stop: len(d.Stop)}
}

// Because adds a reason. Several reasons are joined with semicolons, in the order in which they were added.
func (d *Decision) Because(format string, args ...any) {
	if d.Reason != "" {
		d.Reason += "; "
	}
	d.Reason += fmt.Sprintf(format, args...)
}

// Clamp notes that a limit changed the decision, and by how many launches, reactivations or endings.
func (d *Decision) Clamp(limit Limit, by int, format string, args ...any) {
	d.Clamps = append(d.Clamps, Clamp{Limit: limit, By: by, Text: fmt.Sprintf(format, args...)})
}

// String returns the decision on one line: "launch 2, stop [i-1]: 6 jobs wait".
func (d *Decision) String() string {
	var parts []string
	if d.Launch > 0 {
		parts = append(parts, fmt.Sprintf("launch %d", d.Launch))
	}
	for _, act := range []struct {
		verb string
		ids  []InstanceID
	}{{"reactivate", d.Reactivate}, {"shut down", IDs(d.ShutDown)}, {"stop", IDs(d.Stop)}} {
		if len(act.ids) > 0 {
			parts = append(parts, fmt.Sprintf("%s %v", act.verb, act.ids))
		}
	}
	if len(parts) == 0 {
		parts = []string{"nothing"}
	}
	out := strings.Join(parts, ", ")
	if d.Reason != "" {
		out += ": " + d.Reason
	}
	for i, c := range d.Clamps {
		if i == 0 {
			out += " ("
		} else {
			out += "; "
		}
		out += c.Text
	}
	if len(d.Clamps) > 0 {
		out += ")"
	}
	return out
}
