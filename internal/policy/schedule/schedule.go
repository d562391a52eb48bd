// Package schedule has the policy of the calendar: at certain times other limits apply to a pool, which another policy
// judges within them.
package schedule

import (
	"errors"
	"fmt"
	"time"

	"cloudmaster/internal/kind"
	"cloudmaster/internal/policy"
	"cloudmaster/internal/pool"
)

// Settings are the keys of the policy.
type Settings struct {
	Windows []Window `key:"windows" help:"times with limits of their own; the first one that is in force counts"`
}

// Validate returns all that is wrong with the windows.
func (s *Settings) Validate() error {
	_, err := s.parse()
	return err
}

func (s *Settings) parse() ([]*window, error) {
	if len(s.Windows) == 0 {
		return nil, errors.New("windows: there are none: give at least one, as " +
			`{days: mon-fri, from: "10:00", to: "18:00", timezone: Europe/Zurich, minimum: 4}`)
	}
	var out []*window
	var errs []error
	for i := range s.Windows {
		w, err := s.Windows[i].parse()
		if err != nil {
			errs = append(errs, fmt.Errorf("windows: number %d: %w", i+1, err))
		}
		out = append(out, w)
	}
	return out, errors.Join(errs...)
}

// Kind describes the policy to the configuration.
func Kind() policy.Kind {
	return policy.Kind{
		Name: "schedule", Help: "other limits at certain times, over the policy that base names",
		Settings: func() kind.Settings { return &Settings{} },
		Over:     "fixed",
		New: func(s kind.Settings, base policy.Policy) (policy.Policy, error) {
			set, ok := s.(*Settings)
			if !ok || base == nil {
				return nil, fmt.Errorf("the schedule policy cannot be made of %T over %T", s, base)
			}
			windows, err := set.parse()
			return schedule{base, windows}, err
		},
	}
}

// schedule changes the limits of a pool with time. All else is the other policy's business.
type schedule struct {
	policy.Policy

	windows []*window
}

// Limits implements policy.Limiter.
func (s schedule) Limits(now time.Time, configured pool.Limits) pool.Limits {
	if below, ok := s.Policy.(policy.Limiter); ok {
		configured = below.Limits(now, configured)
	}
	if w := s.open(now); w != nil {
		return w.limits(configured)
	}
	return configured
}

// open returns the window that counts now; nil if none is in force.
func (s schedule) open(now time.Time) *window {
	for _, w := range s.windows {
		if w.open(now) {
			return w
		}
	}
	return nil
}

// Check implements policy.Checker: each window's limits must be possible.
func (s schedule) Check(configured pool.Limits) error {
	var errs []error
	if below, ok := s.Policy.(policy.Checker); ok {
		errs = append(errs, below.Check(configured))
	}
	for i, w := range s.windows {
		l := w.limits(configured)
		switch {
		case l.Minimum < 0, l.Maximum < 0:
			errs = append(errs, fmt.Errorf("windows: number %d: minimum %d and maximum %d: neither may be less than 0",
				i+1, l.Minimum, l.Maximum))
		case l.Minimum > l.Maximum:
			errs = append(errs, fmt.Errorf("windows: number %d: in it the minimum is %d, more than the maximum, %d",
				i+1, l.Minimum, l.Maximum))
		}
	}
	return errors.Join(errs...)
}

// Decide lets the other policy decide, and says which window counts.
func (s schedule) Decide(snapshot *pool.Snapshot) (pool.Decision, error) {
	d, err := s.Policy.Decide(snapshot)
	if w := s.open(snapshot.Now); w != nil && err == nil {
		d.Because("in the window %s", w.text)
	}
	return d, err
}

// Next implements policy.Timer: limits change when a window begins or ends.
func (s schedule) Next(snapshot *pool.Snapshot) time.Time {
	var first time.Time
	if below, ok := s.Policy.(policy.Timer); ok {
		if first = below.Next(snapshot); !first.After(snapshot.Now) {
			first = time.Time{}
		}
	}
	for _, w := range s.windows {
		if at := w.next(snapshot.Now); !at.IsZero() && (first.IsZero() || at.Before(first)) {
			first = at
		}
	}
	return first
}
