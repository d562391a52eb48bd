package pool

import (
	"fmt"
	"strings"
)

// Decision is what should happen to a pool, and why. It is a value: nothing has
// happened yet. Logs, metrics and reports all read this one value.
type Decision struct {
	Launch     int          // new instances
	Reactivate []InstanceID // shut_down instances to make active again
	ShutDown   []InstanceID // active instances to drain
	Stop       []InstanceID // instances to terminate
	Reason     string       // one sentence for the operator

	// Asked is what the policy wanted before limits; Clamps says which limits bit;
	// Spent is what it takes from the policy interval's budget: no launch that the
	// minimum demands, no end of a drain, of a surplus or of a hung instance.
	// All are filled by Limits.Apply.
	Asked  Ask
	Clamps []string
	Spent  Budget
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

// Because adds a reason; several are joined in the order given.
func (d *Decision) Because(format string, args ...any) {
	if d.Reason != "" {
		d.Reason += "; "
	}
	d.Reason += fmt.Sprintf(format, args...)
}

func (d *Decision) clamp(format string, args ...any) {
	d.Clamps = append(d.Clamps, fmt.Sprintf(format, args...))
}

// String is the decision on one line: "launch 2, stop [i-1]: 6 jobs wait".
func (d *Decision) String() string {
	var parts []string
	if d.Launch > 0 {
		parts = append(parts, fmt.Sprintf("launch %d", d.Launch))
	}
	for _, act := range []struct {
		verb string
		ids  []InstanceID
	}{{"reactivate", d.Reactivate}, {"shut down", d.ShutDown}, {"stop", d.Stop}} {
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
	if len(d.Clamps) > 0 {
		out += " (" + strings.Join(d.Clamps, "; ") + ")"
	}
	return out
}
