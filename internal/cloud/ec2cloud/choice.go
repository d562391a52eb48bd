package ec2cloud

import (
	"fmt"
	"maps"
	"strings"
	"time"
)

// choice is one way in which EC2 may make an instance: there may be capacity for one and none for another.
type choice struct {
	number int // in the configured order
	kind   string
	subnet string // empty: EC2 chooses
	spot   bool
}

// String says for people what is chosen.
func (c choice) String() string {
	var words []string
	if c.spot {
		words = append(words, "spot")
	}
	words = append(words, c.kind)
	if c.subnet != "" {
		words = append(words, "in "+c.subnet)
	}
	return strings.Join(words, " ")
}

// place is what capacity belongs to, for all pools of a cloud.
func (c choice) place() choice {
	c.number = 0
	return c
}

// choices are all that a launch may use, in the order of preference: spot before its replacement on demand; then each
// type in all subnets, before the next type.
func (l *Launch) choices(spot bool) []choice {
	var out []choice
	add := func(spot bool) {
		for _, t := range l.InstanceTypes {
			for _, s := range l.Subnets {
				out = append(out, choice{number: len(out), kind: t, subnet: s, spot: spot})
			}
		}
	}
	if spot {
		add(true)
	}
	if !spot || l.Fallback {
		add(false)
	}
	return out
}

// restTime is how long a choice is not asked for again after it had no capacity. Karpenter waits as long.
// Source: Karpenter documentation, "Unavailable offerings".
const restTime = 3 * time.Minute

// rest says that a choice had no capacity.
type rest struct {
	least int       // for so many instances, and so for more
	until time.Time // when it is asked again
	why   string    // EC2's code
}

// rests are the choices that had no capacity lately. The zero value is empty.
type rests struct{ by map[choice]rest }

// of returns the rest of a choice that keeps it from being asked for so many instances.
func (r *rests) of(c choice, least int, now time.Time) (rest, bool) {
	at, found := r.by[c.place()]
	return at, found && least >= at.least && now.Before(at.until)
}

// refuse notes that a choice has no capacity for so many instances. It reports whether that is news.
func (r *rests) refuse(c choice, least int, why string, now time.Time) bool {
	if r.by == nil {
		r.by = make(map[choice]rest)
	}
	old, found := r.by[c.place()]
	resting := found && now.Before(old.until)
	if resting {
		least = min(least, old.least)
	}
	r.by[c.place()] = rest{least: least, until: now.Add(restTime), why: why}
	return !resting
}

// clear forgets what is known of a choice, because it had capacity.
func (r *rests) clear(c choice) { delete(r.by, c.place()) }

// roomFor forgets what is known of the choices for which an instance of ours leaves room: those that could have made
// it, and those that were refused because the account has enough of something.
func (r *rests) roomFor(gone sight) {
	maps.DeleteFunc(r.by, func(c choice, at rest) bool {
		same := c.kind == gone.kind && c.spot == gone.spot && (c.subnet == "" || c.subnet == gone.subnet)
		return same || strings.Contains(at.why, "Limit") || strings.Contains(at.why, "Count")
	})
}

// String says for people until when the choice rests.
func (r rest) String() string {
	return fmt.Sprintf("%s; it is asked again from %s", r.why, r.until.UTC().Format(time.TimeOnly))
}
