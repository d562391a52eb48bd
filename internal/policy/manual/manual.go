// Package manual has the policy of operators: a pool has as many instances as they have ordered.
package manual

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"cloudmaster/internal/kind"
	"cloudmaster/internal/policy"
	"cloudmaster/internal/pool"
)

// Kind describes the policy to the configuration.
func Kind() policy.Kind {
	return policy.Kind{
		Name: "manual", Help: "as many instances as operators order, with controller pool scale or a message",
		Settings: func() kind.Settings { return &kind.None{} },
		Traits:   policy.Traits{Orders: "manual_queue_name"},
		New:      func(kind.Settings, policy.Policy) (policy.Policy, error) { return Manual{}, nil },
	}
}

// Manual keeps the number of instances that was ordered last. Before the first order that is the minimum.
type Manual struct{}

// memory is what the policy remembers, as JSON.
type memory struct {
	Number int `json:"number"`
}

// Decide carries out the orders that wait, one after the other, and brings the pool to the number.
func (Manual) Decide(s *pool.Snapshot) (pool.Decision, error) {
	number, err := remembered(s)
	replaced := slices.ContainsFunc(s.Orders, func(o pool.Order) bool { return o.Absolute })
	if err != nil && !replaced {
		return pool.Decision{}, err
	}
	var d pool.Decision
	if number, err = carryOut(s, number, &d); err != nil {
		return pool.Decision{}, err
	}
	// The limits may have changed since the order: they apply, and the number stays as it was ordered.
	number = within(s.Limits, number)
	switch counted := s.Counted(); {
	case counted < number:
		d.Launch = number - counted
		d.Because("%d ordered, %d counted", number, counted)
	case counted > number:
		shrink(s, counted-number, &d)
		d.Because("%d ordered, %d counted, %d to stop", number, counted, len(d.Stop))
		if rest := counted - number - len(d.Stop); rest > 0 {
			d.Because("%d are at work or too young", rest)
		}
	}
	return d, nil
}

// remembered returns the number that was ordered last.
func remembered(s *pool.Snapshot) (int, error) {
	if s.Memory == nil {
		return s.Limits.Minimum, nil
	}
	var m memory
	dec := json.NewDecoder(bytes.NewReader(s.Memory))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&m); err != nil || m.Number < 0 {
		return 0, fmt.Errorf("what the policy remembers, %s, is not of the form {\"number\": 3}: "+
			"order a number, with controller pool scale %s N", s.Memory, s.Pool)
	}
	return m.Number, nil
}

// carryOut returns the number after the orders that wait. What the limits cut off is reported and dropped.
func carryOut(s *pool.Snapshot, number int, d *pool.Decision) (int, error) {
	for _, o := range s.Orders {
		want := o.N
		if !o.Absolute {
			want += within(s.Limits, number) // an operator adjusts what there is
		}
		number = within(s.Limits, want)
		d.Because("%s", text(o))
		switch {
		case want > number:
			d.Clamp(pool.ByMaximum, want-number, "maximum %d drops %d of the order", s.Limits.Maximum, want-number)
		case want < number:
			d.Clamp(pool.ByMinimum, number-want, "minimum %d drops %d of the order", s.Limits.Minimum, number-want)
		}
	}
	if len(s.Orders) == 0 {
		return number, nil
	}
	var err error
	if d.Memory, err = json.Marshal(memory{number}); err != nil {
		return 0, fmt.Errorf("remember the number: %w", err)
	}
	return number, nil
}

func within(l pool.Limits, number int) int { return min(max(number, l.Minimum), l.Maximum) }

func text(o pool.Order) string {
	if o.Absolute {
		return fmt.Sprintf("an operator ordered %d", o.N)
	}
	return fmt.Sprintf("an operator ordered %+d", o.N)
}

// shrink ends up to n instances that do no work: those that are starting, and idle ones. Those that are at work
// follow when they are idle.
func shrink(s *pool.Snapshot, n int, d *pool.Decision) {
	d.Stop = s.End(n, pool.Operator, func(i *pool.Instance) bool {
		return (i.State == pool.Startup || i.Idle()) && s.Limits.Mature(s.Now, i)
	})
}
