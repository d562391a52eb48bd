package memcloud

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/pool"
)

// instance is one instance, with the moments at which its phase changes. The phase itself is not
// stored: it follows from the time at which somebody looks.
type instance struct {
	cloud.Instance

	userData []byte
	running  time.Time // when it has booted
	ending   time.Time // when it begins to end; zero as long as it is not ended
	gone     time.Time // when it has ended; zero as long as ending is

	// lives are when it was started, stopped and started again, beside the first start; oldest first.
	lives []life
}

// phase returns the instance's phase at a moment; ok is false if it does not exist then.
func (in *instance) phase(at time.Time) (cloud.Phase, bool) {
	switch {
	case at.Before(in.Launched), in.over(at):
		return cloud.PhaseUnknown, false
	case !in.ending.IsZero() && !at.Before(in.ending):
		return cloud.Terminating, true
	}
	for i := range slices.Backward(in.lives) {
		if phase, ok := in.lives[i].phase(at); ok {
			return phase, true
		}
	}
	if at.Before(in.running) {
		return cloud.Pending, true
	}
	return cloud.Running, true
}

// over reports whether the instance is gone at a moment.
func (in *instance) over(at time.Time) bool { return !in.gone.IsZero() && !at.Before(in.gone) }

// tell returns the instance as a value that belongs to the caller.
func (in *instance) tell(phase cloud.Phase) cloud.Instance {
	out := in.Instance
	out.Phase = phase
	out.Tags = maps.Clone(in.Tags)
	return out
}

// tellNow is tell with the instance's phase at a moment, or with Terminating if it is gone by then.
func (in *instance) tellNow(at time.Time) cloud.Instance {
	if phase, ok := in.phase(at); ok {
		return in.tell(phase)
	}
	return in.tell(cloud.Terminating)
}

// viewLocked returns the instances that exist at a moment and for which keep is true.
func (a *Account) viewLocked(at time.Time, keep func(*instance) bool) []cloud.Instance {
	var out []cloud.Instance
	for _, in := range a.present {
		if phase, ok := in.phase(at); ok && keep(in) {
			out = append(out, in.tell(phase))
		}
	}
	return out
}

// forgetLocked removes from present those that no list can show any more. This keeps long
// simulations fast.
func (a *Account) forgetLocked(now time.Time) {
	a.present = slices.DeleteFunc(a.present, func(in *instance) bool { return in.over(now.Add(-a.opts.ListLag)) })
}

// addLocked adds one new instance.
func (a *Account) addLocked(
	now time.Time, spec *cloud.Spec, deployment string, id pool.InstanceID, doc []byte,
) *instance {
	a.launched++
	in := &instance{
		Instance: cloud.Instance{
			ID: id, Image: spec.Image, Address: fmt.Sprintf("%s.mem.internal", id),
			Launched: now, Tags: maps.Clone(spec.Tags),
		},
		userData: slices.Clone(doc), running: now.Add(a.opts.BootDelay),
	}
	if a.opts.Place != nil {
		in.Place = a.opts.Place()
	}
	if in.Tags == nil {
		in.Tags = map[string]string{}
	}
	in.Tags[cloud.TagDeployment] = deployment
	a.present = append(a.present, in)
	a.byID[id] = in
	return in
}

// endLocked begins to end the instances that match, except those that end already, and returns them.
func (a *Account) endLocked(now time.Time, takes time.Duration, match func(*instance) bool) []cloud.Instance {
	var out []cloud.Instance
	for _, in := range a.present {
		if !match(in) || in.over(now) {
			continue
		}
		first := in.ending.IsZero()
		if gone := now.Add(takes); first || gone.Before(in.gone) {
			in.gone = gone
		}
		if first {
			in.ending = now
			out = append(out, in.tell(cloud.Terminating))
		}
	}
	return out
}

// tell calls a hook for each instance. The caller must not have the lock, because the hook may call the cloud.
func (a *Account) tell(hook func(cloud.Instance), list []cloud.Instance) {
	if hook == nil {
		return
	}
	for _, in := range list {
		in.Tags = maps.Clone(in.Tags)
		hook(in)
	}
}

// boot arranges the calls of OnRunning. It uses a timer instead of a goroutine, so that nothing is
// left behind when a test, or its synctest bubble, ends before the timer fires.
func (a *Account) boot(list []cloud.Instance) {
	if a.opts.OnRunning == nil || len(list) == 0 {
		return
	}
	a.mu.Lock()
	lives := make(map[pool.InstanceID]int, len(list)) // an instance that is stopped meanwhile does not run
	for i := range list {
		lives[list[i].ID] = len(a.byID[list[i].ID].lives)
	}
	a.mu.Unlock()
	time.AfterFunc(a.opts.BootDelay, func() {
		a.mu.Lock()
		var up []cloud.Instance
		for _, started := range list {
			in := a.byID[started.ID]
			if in.ending.IsZero() && len(in.lives) == lives[in.ID] {
				up = append(up, in.tell(cloud.Running))
			}
		}
		a.mu.Unlock()
		a.tell(a.opts.OnRunning, up)
	})
}
