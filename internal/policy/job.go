package policy

import (
	"errors"
	"fmt"
	"math"

	"cloudmaster/internal/pool"
)

// JobSettings are the keys of the job policy.
type JobSettings struct {
	StartThreshold int // visible messages that are worth one instance; ≥ 1
	StopThreshold  int // stop only at this many visible messages or fewer; ≥ 0
	IdleThreshold  int // idle instances that make one of them go; ≥ 1
}

// Validate returns all that is wrong with the settings.
func (j JobSettings) Validate() error {
	var errs []error
	for _, f := range []struct {
		key          string
		value, least int
	}{
		{"start_threshold", j.StartThreshold, 1}, {"stop_threshold", j.StopThreshold, 0}, {"idle_threshold", j.IdleThreshold, 1},
	} {
		if f.value < f.least {
			errs = append(errs, fmt.Errorf("%s is %d, the least is %d", f.key, f.value, f.least))
		}
	}
	return errors.Join(errs...)
}

// Job is the policy for stateless workers that take jobs from a queue, one at a
// time. It grows on the visible backlog and shrinks on what is idle.
type Job struct {
	set    JobSettings
	limits pool.Limits
}

// NewJob is the job policy's Factory.
func NewJob(set Settings) (Policy, error) {
	if err := set.Job.Validate(); err != nil {
		return nil, err
	}
	return Job{set: set.Job, limits: set.Limits}, nil
}

// Decide launches for visible messages and stops idle instances when there are
// none. An unknown backlog changes nothing.
func (j Job) Decide(s *pool.Snapshot) pool.Decision {
	var d pool.Decision
	if !s.Backlog.Known {
		d.Because("the backlog is unknown: holding")
		return d
	}
	j.up(s, &d)
	if d.Launch == 0 && s.Backlog.Visible <= j.set.StopThreshold {
		j.down(s, &d)
	}
	return d
}

func (j Job) up(s *pool.Snapshot, d *pool.Decision) {
	counted, waiting := s.Counted(), s.Backlog.Visible
	if counted == 0 && waiting == 0 && s.Count(pool.ShutDown, pool.Stopping) == 0 && s.Backlog.InFlight > 0 {
		// No instance of ours can hold these: whoever took them is gone. Some brokers show a
		// message that nobody fetches as in flight for ever, so waiting for it to turn visible
		// would lose it.
		waiting = s.Backlog.InFlight
		d.Because("%d messages in flight that no instance holds", waiting)
	}
	if waiting < j.set.StartThreshold && (waiting == 0 || counted > 0) {
		return
	}
	needed := max(1, waiting/j.set.StartThreshold)
	if needed <= counted {
		return
	}
	d.Launch = needed - counted
	d.Because("%d messages need %d instances, %d counted", waiting, needed, counted)
}

func (j Job) down(s *pool.Snapshot, d *pool.Decision) {
	idle := 0
	for i := range s.Instances {
		if s.Instances[i].Idle() {
			idle++
		}
	}
	busy := s.Count(pool.Active) - idle
	// Messages in flight that no busy instance accounts for may come back.
	keep := max(0, s.Backlog.InFlight-busy)
	spare := idle - keep
	if spare <= 0 {
		return
	}
	n := int(math.Round(float64(spare) / float64(j.set.IdleThreshold)))
	if n == 0 {
		return
	}
	d.Stop = s.Pick(n, func(i *pool.Instance) bool { return i.Idle() && j.limits.Mature(s.Now, i) }, pool.ByVictim)
	if keep > 0 {
		d.Because("%d idle, %d kept for messages that may come back, %d to stop", idle, keep, n)
	} else {
		d.Because("%d idle, %d to stop", idle, n)
	}
	if young := n - len(d.Stop); young > 0 {
		d.Because("%d of them too young", young)
	}
}
