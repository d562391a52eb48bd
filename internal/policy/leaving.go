package policy

import (
	"slices"

	"cloudmaster/internal/pool"
)

// interrupted returns the endings of the active instances that are about to end by their own or the cloud's word, less
// those that are hung, which are sorted by instance as the snapshot is. That word is enough also when the view of the
// pool is stale: they take no new clients and no new jobs, or not for long.
func interrupted(s *pool.Snapshot, hung []pool.Ending) []pool.Ending {
	var out []pool.Ending
	for i := range s.Instances {
		in := &s.Instances[i]
		switch {
		case len(hung) > 0 && in.ID == hung[0].Instance:
			hung = hung[1:]
		case leaves(in):
			e := pool.Ending{Instance: in.ID, Cause: pool.Interrupted, Load: in.Load, Reason: in.Announced}
			out = append(out, e)
		}
	}
	return out
}

func leaves(i *pool.Instance) bool { return i.State == pool.Active && i.Interrupted }

func anyLeaves(s *pool.Snapshot) bool {
	for i := range s.Instances { // instances are large: they are not copied to be looked at
		if leaves(&s.Instances[i]) {
			return true
		}
	}
	return false
}

// without returns the instances of a snapshot as policy and limits see them: those that are hung as stopping, and those
// that are to be shut down because they are about to end as draining from now on. Both lists are sorted by instance.
func without(s *pool.Snapshot, hung []pool.Ending) []pool.Instance {
	if len(hung) == 0 && !anyLeaves(s) {
		return s.Instances
	}
	out := slices.Clone(s.Instances)
	for i := range out {
		in := &out[i]
		switch {
		case len(hung) > 0 && in.ID == hung[0].Instance:
			in.State, hung = pool.Stopping, hung[1:]
		case leaves(in):
			in.State, in.StateSince = pool.ShutDown, s.Now
		}
	}
	return out
}
