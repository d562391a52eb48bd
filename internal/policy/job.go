package policy

import (
	"fmt"
	"math"

	"cloudmaster/internal/kind"
	"cloudmaster/internal/pool"
)

// JobSettings are the keys of the job policy.
type JobSettings struct {
	StartThreshold int `key:"start_threshold" help:"visible messages that are worth one instance; at least 1"`
	StopThreshold  int `key:"stop_threshold" help:"stop instances only at this many visible messages or fewer"`
	IdleThreshold  int `key:"idle_threshold" help:"idle instances for each one that is stopped; at least 1"`
}

// Validate returns all that is wrong with the settings.
func (j *JobSettings) Validate() error {
	return atLeast(
		whole{"start_threshold", j.StartThreshold, 1}, whole{"stop_threshold", j.StopThreshold, 0},
		whole{"idle_threshold", j.IdleThreshold, 1},
	)
}

// JobKind describes the job policy.
func JobKind() Kind {
	return Kind{
		Name:     "job",
		Help:     "for workers that take jobs from the work queue: grows with the jobs that wait, stops what is idle",
		Settings: func() kind.Settings { return &JobSettings{StartThreshold: 2, IdleThreshold: 1} },
		New: func(s kind.Settings, _ Policy) (Policy, error) {
			set, ok := s.(*JobSettings)
			if !ok {
				return nil, fmt.Errorf("the job policy has no settings of type %T", s)
			}
			return NewJob(*set)
		},
	}
}

// Job is the policy for stateless workers that take jobs from a queue, one at a
// time. It grows on the visible backlog and shrinks on what is idle.
type Job struct{ settings JobSettings }

// NewJob returns a job policy, or all that is wrong with its settings.
func NewJob(settings JobSettings) (Policy, error) {
	if err := settings.Validate(); err != nil {
		return nil, err
	}
	return Job{settings}, nil
}

// Decide launches for visible messages and stops idle instances when there are
// none. An unknown backlog changes nothing.
func (j Job) Decide(s *pool.Snapshot) (pool.Decision, error) {
	var d pool.Decision
	if !s.Backlog.Known {
		d.Because("the backlog is unknown: holding")
		return d, nil
	}
	j.up(s, &d)
	if d.Launch == 0 && s.Backlog.Visible <= j.settings.StopThreshold {
		j.down(s, &d)
	}
	return d, nil
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
	if waiting < j.settings.StartThreshold && (waiting == 0 || counted > 0) {
		return
	}
	needed := j.needed(waiting)
	if needed <= counted {
		return
	}
	d.Launch = needed - counted
	d.Because("%d messages need %d instances, %d counted", waiting, needed, counted)
}

// needed is how many instances so many messages need, of which there is at least one.
func (j Job) needed(waiting int) int { return max(1, waiting/j.settings.StartThreshold) }

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
	n := int(math.Round(float64(spare) / float64(j.settings.IdleThreshold)))
	if s.Backlog.Visible > 0 { // for these messages instances would be launched again
		n = min(n, s.Counted()-j.needed(s.Backlog.Visible))
	}
	if n <= 0 {
		return
	}
	d.Stop = stopIdle(s, n, pool.IdleSurplus)
	if keep > 0 {
		d.Because("%d idle, %d kept for messages that may come back, %d to stop", idle, keep, n)
	} else {
		d.Because("%d idle, %d to stop", idle, n)
	}
	if young := n - len(d.Stop); young > 0 {
		d.Because("%d of them too young", young)
	}
}

// stopIdle returns the endings of up to n idle instances whose lifetimes are over.
func stopIdle(s *pool.Snapshot, n int, cause pool.Cause) []pool.Ending {
	return s.End(n, cause, func(i *pool.Instance) bool { return i.Idle() && s.Limits.Mature(s.Now, i) })
}
