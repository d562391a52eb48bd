package policy

import (
	"errors"
	"fmt"
	"iter"
	"time"

	"cloudmaster/internal/pool"
)

// ResourceSettings are the keys of the resource policy.
type ResourceSettings struct {
	UpperLoad         float64       // above it an instance has no room
	LowerLoad         float64       // the mean load below which there are too many
	QueueLoadFactor   float64       // queued requests that fill one server
	ShutDownThreshold float64       // a draining instance at or below this load may stop
	ShutDownInterval  time.Duration // a drain is over after this, whatever the load
	ShutDownGrace     time.Duration // but never sooner than this
}

// Validate returns all that is wrong with the settings.
func (r ResourceSettings) Validate() error {
	errs := []error{positive(
		setting{"target_upper_load", r.UpperLoad}, setting{"target_lower_load", r.LowerLoad}, setting{"queue_load_factor", r.QueueLoadFactor},
	)}
	if r.LowerLoad >= r.UpperLoad && r.UpperLoad > 0 {
		errs = append(errs, fmt.Errorf("target_lower_load is %v, not below target_upper_load, %v", r.LowerLoad, r.UpperLoad))
	}
	if !pool.ValidLoad(r.ShutDownThreshold) {
		errs = append(errs, fmt.Errorf("shut_down_threshold is %v, not a number from 0 up", r.ShutDownThreshold))
	}
	if r.ShutDownInterval < 0 || r.ShutDownGrace < 0 {
		errs = append(errs, fmt.Errorf("shut_down_interval is %s and shut_down_grace %s: neither may be less than 0", r.ShutDownInterval, r.ShutDownGrace))
	}
	return errors.Join(errs...)
}

// Resource is the policy for servers with connected clients. It keeps the load
// of the active ones between two targets, drains what is too many, and takes
// draining instances back before it launches new ones.
type Resource struct {
	set    ResourceSettings
	limits pool.Limits
}

// NewResource is the resource policy's Factory.
func NewResource(set Settings) (Policy, error) {
	if err := set.Resource.Validate(); err != nil {
		return nil, err
	}
	return Resource{set: set.Resource, limits: set.Limits}, nil
}

// Decide applies, in this order: no server for requests, no room, too many; and
// always finishes drains.
func (r Resource) Decide(s *pool.Snapshot) pool.Decision {
	var d pool.Decision
	switch active := s.Count(pool.Active); {
	case active == 0:
		r.fromNothing(s, &d)
	case r.full(s):
		r.moreRoom(s, active, &d)
	default:
		r.tooMany(s, active, &d)
	}
	r.finishDrains(s, &d)
	return d
}

func eachActive(s *pool.Snapshot) iter.Seq[*pool.Instance] {
	return func(yield func(*pool.Instance) bool) {
		for i := range s.Instances {
			if s.Instances[i].State == pool.Active && !yield(&s.Instances[i]) {
				return
			}
		}
	}
}

// known reports whether the instance has told us its load.
func known(i *pool.Instance) bool { return !i.ReportedAt.IsZero() && pool.ValidLoad(i.Load) }

// fromNothing starts what the queued requests need when no server is active.
func (r Resource) fromNothing(s *pool.Snapshot, d *pool.Decision) {
	if s.Requests == 0 {
		return
	}
	needed := ceil(float64(s.Requests) / r.set.QueueLoadFactor / r.set.UpperLoad)
	d.Because("%d requests and no active server: %d needed", s.Requests, needed)
	r.grow(s, needed, d)
}

// full reports whether no active instance is below the upper target and at least
// one is above it. An instance whose load we do not know might have room.
func (r Resource) full(s *pool.Snapshot) bool {
	above := false
	for i := range eachActive(s) {
		if !known(i) || i.Load < r.set.UpperLoad {
			return false
		}
		above = above || i.Load > r.set.UpperLoad
	}
	return above
}

func (r Resource) moreRoom(s *pool.Snapshot, active int, d *pool.Decision) {
	over := 0.0
	for i := range eachActive(s) {
		over += max(0, i.Load-r.set.UpperLoad)
	}
	additional := ceil(over / r.set.UpperLoad)
	d.Because("all %d active servers at or above load %v: %d more", active, r.set.UpperLoad, additional)
	r.grow(s, additional, d)
}

// grow adds n instances less those already starting: draining ones first, those
// with the highest load first, exactly as many as needed.
func (r Resource) grow(s *pool.Snapshot, n int, d *pool.Decision) {
	starting := s.Count(pool.Startup)
	if starting > 0 {
		d.Because("%d starting", starting)
	}
	n -= starting
	if n <= 0 {
		return
	}
	d.Reactivate = s.Pick(n, func(i *pool.Instance) bool { return i.State == pool.ShutDown }, pool.ByLoadDescending)
	d.Launch = n - len(d.Reactivate)
}

// tooMany drains the surplus when fewer servers could carry the load. A load that
// nobody has told us is not low.
func (r Resource) tooMany(s *pool.Snapshot, active int, d *pool.Decision) {
	if !s.Backlog.Known {
		d.Because("requests are unknown: holding")
		return
	}
	sum := 0.0
	for i := range eachActive(s) {
		if !known(i) {
			d.Because("load of %s is unknown: holding", i.ID)
			return
		}
		sum += i.Load
	}
	needed := ceil(sum / r.set.LowerLoad)
	if needed >= active || float64(needed)*r.set.UpperLoad < sum-1e-9 || s.Requests > 0 || s.Backlog.Visible > 0 {
		return
	}
	d.ShutDown = s.Pick(active-needed, func(i *pool.Instance) bool { return r.limits.Settled(s.Now, i) }, pool.ByVictim)
	d.Because("load %.2f needs %d of %d active servers", sum, needed, active)
}

// finishDrains stops draining instances that are empty, by their own word since
// the drain began, or whose time is over.
func (r Resource) finishDrains(s *pool.Snapshot, d *pool.Decision) {
	needed := make(map[pool.InstanceID]bool, len(d.Reactivate))
	for _, id := range d.Reactivate {
		needed[id] = true
	}
	empty, late := 0, 0
	for i := range s.Instances {
		in := &s.Instances[i]
		drained := s.Now.Sub(in.StateSince)
		switch {
		case in.State != pool.ShutDown || needed[in.ID] || drained < r.set.ShutDownGrace:
			continue
		case in.Load <= r.set.ShutDownThreshold && in.ReportedAt.After(in.StateSince):
			empty++
		case drained >= r.set.ShutDownInterval:
			late++
		default:
			continue
		}
		d.Stop = append(d.Stop, in.ID)
	}
	if empty > 0 {
		d.Because("%d drained", empty)
	}
	if late > 0 {
		d.Because("%d draining for %s or more", late, r.set.ShutDownInterval)
	}
}
