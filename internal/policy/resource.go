package policy

import (
	"errors"
	"fmt"
	"iter"
	"time"

	"cloudmaster/internal/kind"
	"cloudmaster/internal/pool"
)

// ResourceSettings are the keys of the resource policy.
type ResourceSettings struct {
	UpperLoad         float64       `key:"target_upper_load" help:"above this load a server has no room"`
	LowerLoad         float64       `key:"target_lower_load" help:"mean load below which there are too many servers"`
	QueueLoadFactor   float64       `key:"queue_load_factor" help:"queued requests that fill one server"`
	ShutDownThreshold float64       `key:"shut_down_threshold" help:"a draining server at or below this load is stopped"`
	ShutDownInterval  time.Duration `key:"shut_down_interval" help:"a drain is over after this time, whatever the load"`
	ShutDownGrace     time.Duration `key:"shut_down_grace" help:"a drain takes at least this long"`
}

// Validate returns all that is wrong with the settings.
func (r *ResourceSettings) Validate() error {
	errs := []error{positive(
		setting{"target_upper_load", r.UpperLoad}, setting{"target_lower_load", r.LowerLoad},
		setting{"queue_load_factor", r.QueueLoadFactor},
	)}
	if r.LowerLoad >= r.UpperLoad && r.UpperLoad > 0 {
		errs = append(errs, fmt.Errorf("target_lower_load is %v, not below target_upper_load, %v",
			r.LowerLoad, r.UpperLoad))
	}
	if !pool.ValidLoad(r.ShutDownThreshold) {
		errs = append(errs, fmt.Errorf("shut_down_threshold is %v, not a number from 0 up", r.ShutDownThreshold))
	}
	if r.ShutDownInterval < 0 || r.ShutDownGrace < 0 {
		errs = append(errs, fmt.Errorf("shut_down_interval is %s and shut_down_grace %s: neither may be less than 0",
			r.ShutDownInterval, r.ShutDownGrace))
	}
	return errors.Join(errs...)
}

// ResourceKind describes the resource policy.
func ResourceKind() Kind {
	return Kind{
		Name: "resource",
		Help: "for servers with connected clients: keeps their load between two targets, drains what is too many",
		Settings: func() kind.Settings {
			return &ResourceSettings{
				UpperLoad: 0.75, LowerLoad: 0.25, QueueLoadFactor: 2, ShutDownInterval: time.Hour,
				ShutDownGrace: 10 * time.Second,
			}
		},
		Traits: Traits{TakesRequests: true, Drains: true},
		New: func(s kind.Settings, _ Policy) (Policy, error) {
			set, ok := s.(*ResourceSettings)
			if !ok {
				return nil, fmt.Errorf("the resource policy has no settings of type %T", s)
			}
			return NewResource(*set)
		},
	}
}

// Resource is the policy for servers with connected clients. It keeps the load
// of the active ones between two targets, drains what is too many, and takes
// draining instances back before it launches new ones.
type Resource struct{ settings ResourceSettings }

// NewResource returns a resource policy, or all that is wrong with its settings.
func NewResource(settings ResourceSettings) (Policy, error) {
	if err := settings.Validate(); err != nil {
		return nil, err
	}
	return Resource{settings}, nil
}

// Decide applies, in this order: no server for requests, no room, too many; and
// always finishes drains.
func (r Resource) Decide(s *pool.Snapshot) (pool.Decision, error) {
	var d pool.Decision
	switch active := s.Count(pool.Active); {
	case active == 0:
		r.fromNothing(s, &d)
	case r.full(s):
		r.moreRoom(s, active, &d)
	case homeless(s) > r.room(s)+1e-9:
		r.replace(s, &d)
	default:
		r.tooMany(s, active, &d)
	}
	r.finishDrains(s, &d)
	return d, nil
}

// Next returns when the next drain may be over by time alone.
func (r Resource) Next(s *pool.Snapshot) time.Time {
	var next time.Time
	for i := range s.Instances {
		if s.Instances[i].State != pool.ShutDown {
			continue
		}
		for _, after := range []time.Duration{r.settings.ShutDownGrace, r.settings.ShutDownInterval} {
			at := s.Instances[i].StateSince.Add(after)
			if at.After(s.Now) && (next.IsZero() || at.Before(next)) {
				next = at
			}
		}
	}
	return next
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

// homeless returns the load of the servers that are about to end: their clients will need other ones.
func homeless(s *pool.Snapshot) float64 {
	sum := 0.0
	for i := range s.Instances {
		if in := &s.Instances[i]; in.State == pool.ShutDown && in.Interrupted && known(in) {
			sum += in.Load
		}
	}
	return sum
}

// room returns how much load the active servers can take until each is at the upper target. One whose load we do not
// know might be empty.
func (r Resource) room(s *pool.Snapshot) float64 {
	sum := 0.0
	for i := range eachActive(s) {
		if sum += r.settings.UpperLoad; known(i) {
			sum -= min(i.Load, r.settings.UpperLoad)
		}
	}
	return sum
}

// fromNothing starts what the queued requests, and the clients of servers that are about to end, need when no server is
// active.
func (r Resource) fromNothing(s *pool.Snapshot, d *pool.Decision) {
	load := homeless(s)
	if s.Requests == 0 && load == 0 {
		return
	}
	needed := ceil((float64(s.Requests)/r.settings.QueueLoadFactor + load) / r.settings.UpperLoad)
	d.Because("%d requests and no active server: %d needed", s.Requests, needed)
	if load > 0 {
		d.Because("a load of %.2f is on servers that are about to end", load)
	}
	r.grow(s, needed, d)
}

// replace starts what the clients of servers that are about to end need beside the room that there is.
func (r Resource) replace(s *pool.Snapshot, d *pool.Decision) {
	load, room := homeless(s), r.room(s)
	additional := ceil((load - room) / r.settings.UpperLoad)
	d.Because("a load of %.2f is on servers that are about to end, and there is room for %.2f: %d more", load, room,
		additional)
	r.grow(s, additional, d)
}

// full reports whether no active instance is below the upper target and at least
// one is above it. An instance whose load we do not know might have room.
func (r Resource) full(s *pool.Snapshot) bool {
	above := false
	for i := range eachActive(s) {
		if !known(i) || i.Load < r.settings.UpperLoad {
			return false
		}
		above = above || i.Load > r.settings.UpperLoad
	}
	return above
}

func (r Resource) moreRoom(s *pool.Snapshot, active int, d *pool.Decision) {
	over := homeless(s)
	for i := range eachActive(s) {
		over += max(0, i.Load-r.settings.UpperLoad)
	}
	additional := ceil(over / r.settings.UpperLoad)
	d.Because("all %d active servers at or above load %v: %d more", active, r.settings.UpperLoad, additional)
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
	d.Reactivate = s.Pick(n, (*pool.Instance).Reactivatable, pool.ByLoadDescending)
	d.Launch = n - len(d.Reactivate)
}

// tooMany drains the surplus when fewer servers could carry the load. A load that
// nobody has told us is not low.
func (r Resource) tooMany(s *pool.Snapshot, active int, d *pool.Decision) {
	if !s.Backlog.Known {
		d.Because("requests are unknown: holding")
		return
	}
	sum := homeless(s)
	for i := range eachActive(s) {
		if !known(i) {
			d.Because("load of %s is unknown: holding", i.ID)
			return
		}
		sum += i.Load
	}
	needed := ceil(sum / r.settings.LowerLoad)
	if needed >= active || float64(needed)*r.settings.UpperLoad < sum-1e-9 || s.Requests > 0 || s.Backlog.Visible > 0 {
		return
	}
	d.ShutDown = s.End(active-needed, pool.LowLoad, func(i *pool.Instance) bool { return s.Limits.Settled(s.Now, i) })
	d.Because("load %.2f needs %d of %d active servers", sum, needed, active)
}

// finishDrains stops draining instances that are empty, by their own word since
// the drain began, or whose time is over, also if they are wanted back: there may be no room for them.
func (r Resource) finishDrains(s *pool.Snapshot, d *pool.Decision) {
	empty, late := 0, 0
	for i := range s.Instances {
		in := &s.Instances[i]
		drained := s.Now.Sub(in.StateSince)
		end := pool.Ending{
			Instance: in.ID, For: drained, Load: in.Load, Due: in.StateSince.Add(r.settings.ShutDownInterval),
		}
		switch {
		case in.State != pool.ShutDown || drained < r.settings.ShutDownGrace:
			continue
		case in.Load <= r.settings.ShutDownThreshold && in.ReportedAt.After(in.StateSince):
			end.Cause = pool.Drained
			empty++
		case drained >= r.settings.ShutDownInterval:
			end.Cause = pool.DrainDeadline
			late++
		default:
			continue
		}
		d.Stop = append(d.Stop, end)
	}
	if empty > 0 {
		d.Because("%d drained", empty)
	}
	if late > 0 {
		d.Because("%d draining for %s or more", late, r.settings.ShutDownInterval)
	}
}
