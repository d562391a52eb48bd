package policy

import (
	"math"
	"time"

	"cloudmaster/internal/pool"
)

// Retire returns the judgement of a pool that is to have no instances any more: it launches nothing, drains
// or stops what is there as the pool's own policy would, and never stops what is at work. Lifetimes and
// the stop limit do not apply.
func Retire(j Judge) Judge {
	limits := pool.Limits{Maximum: math.MaxInt32, StopLimit: math.MaxInt32, Drain: j.Limits.Drain}
	return Judge{Policy: retiring{j.Policy}, Watchdog: j.Watchdog, Limits: limits}
}

// retiring empties a pool. It finishes drains as the policy beneath it does.
type retiring struct{ base Policy }

// Decide drains or stops every instance that may go.
func (r retiring) Decide(s *pool.Snapshot) (pool.Decision, error) {
	d := pool.Decision{}
	drained, err := r.base.Decide(draining(s))
	if err != nil {
		return d, err
	}
	d.Stop = drained.Stop
	for i := range s.Instances {
		in := &s.Instances[i]
		switch e := in.EndIdle(s.Now, pool.PoolRemoved); {
		case in.State == pool.Active && s.Limits.Drain:
			d.ShutDown = append(d.ShutDown, e)
		case in.State == pool.Startup, in.Idle():
			d.Stop = append(d.Stop, e)
		}
	}
	if n := s.Count(pool.Startup, pool.Active, pool.ShutDown); n > 0 {
		d.Because("the pool was removed from the configuration: %d instances left to end", n)
	}
	return d, nil
}

// draining is the pool as if there were only its draining instances, and nobody needed them.
func draining(s *pool.Snapshot) *pool.Snapshot {
	view := *s
	view.Requests, view.Orders, view.Memory = 0, nil, nil
	view.Backlog, view.Instances = pool.Backlog{Known: true}, nil
	for i := range s.Instances {
		if s.Instances[i].State == pool.ShutDown {
			view.Instances = append(view.Instances, s.Instances[i])
		}
	}
	return &view
}

// Next is that of the policy beneath.
func (r retiring) Next(s *pool.Snapshot) time.Time {
	if t, ok := r.base.(Timer); ok {
		return t.Next(s)
	}
	return time.Time{}
}
