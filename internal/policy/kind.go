package policy

import "cloudmaster/internal/kind"

// Kind describes a policy to the configuration.
type Kind struct {
	Name     string               // as the key policy has it
	Help     string               // one line
	Settings func() kind.Settings // its keys, with the defaults

	// Over makes this kind one that changes another policy: the key `base` of the pool names that one,
	// Over is its default, and its keys and traits are the pool's too.
	Over   string
	Traits Traits

	// New makes the policy. The settings are valid; base is nil unless Over is given.
	New func(settings kind.Settings, base Policy) (Policy, error)
}

// Traits is what the controller must know of a policy beyond its decisions.
type Traits struct {
	// TakesRequests: the work queue carries requests for servers, which the controller takes,
	// rather than jobs, which the instances take.
	TakesRequests bool
	// Drains: what is too many is shut down first and stopped when its clients have left.
	Drains bool
	// Orders is the key that names the queue of operators' orders, as manual_queue_name; empty: it takes none.
	// The queue's default name is that of the pool and the key's first word.
	Orders string
}

// Kinds are the policies that come with CloudMaster.
func Kinds() []Kind { return []Kind{FixedKind(), JobKind(), ResourceKind()} }
