package policy

import (
	"cloudmaster/internal/kind"
	"cloudmaster/internal/pool"
)

// FixedKind describes the fixed policy.
func FixedKind() Kind {
	return Kind{
		Name: "fixed", Help: "keeps the pool between its minimum and its maximum",
		Settings: func() kind.Settings { return &kind.None{} },
		New:      func(kind.Settings, Policy) (Policy, error) { return Fixed{}, nil },
	}
}

// Fixed keeps the pool between its minimum and maximum, which the limits do: it
// asks for nothing itself.
type Fixed struct{}

// Decide asks for nothing.
func (Fixed) Decide(*pool.Snapshot) (pool.Decision, error) { return pool.Decision{}, nil }
