package loop

import (
	"time"

	"cloudmaster/internal/message"
	"cloudmaster/internal/policy"
	"cloudmaster/internal/pool"
)

// Options are what the configuration says of a pool.
type Options struct {
	Name   pool.Name
	Image  string
	Cloud  string
	Policy string
	Made   policy.Policy // goes over the policy that is named and its settings here; may be nil

	Minimum, Maximum, StartLimit, StopLimit      int
	PolicyInterval, PollInterval                 time.Duration
	MinimumLifetime, MinimumActiveTime           time.Duration
	WatchdogInterval, BootDeadline               time.Duration
	BreakerRatio                                 float64
	StartThreshold, StopThreshold, IdleThreshold int
	UpperLoad, LowerLoad, QueueLoadFactor        float64
	ShutDownThreshold                            float64
	ShutDownInterval, ShutDownGrace              time.Duration
	WorkQueue, StatusQueue                       string
	MaxDeliveries                                int
	StatusParser                                 string
	StatusInterval, ReportInterval               time.Duration
	ActiveSetType                                string
	ActiveSetInterval                            time.Duration
	ServicePort                                  int
	TakesRequests                                bool // as the resource policy does
}

// The types of active set.
const (
	ActiveSetNone = "none"
	ActiveSetBlob = "blob"
)

// Requests reports whether the work queue carries requests for servers.
func (p *Options) Requests() bool { return p.TakesRequests || p.Policy == "resource" }

// PublishesActiveSet reports whether the pool's active set is written.
func (p *Options) PublishesActiveSet() bool { return p.ActiveSetType == ActiveSetBlob }

// Parser returns the pool's status parser.
func (p *Options) Parser() message.ParseFunc { return message.Parsers()[p.StatusParser] }

// Limits returns what the core applies to every decision about the pool.
func (p *Options) Limits() pool.Limits {
	return pool.Limits{
		Minimum: p.Minimum, Maximum: p.Maximum, StartLimit: p.StartLimit, StopLimit: p.StopLimit,
		MinimumLifetime: p.MinimumLifetime, MinimumActiveTime: p.MinimumActiveTime, Drain: p.Requests(),
	}
}

// Judge returns the pool's judgement, or all that is wrong with its settings.
func (p *Options) Judge() (policy.Judge, error) {
	decider, err := p.decider()
	return policy.Judge{
		Policy: decider, Limits: p.Limits(),
		Watchdog: policy.Watchdog{Interval: p.WatchdogInterval, BootDeadline: p.BootDeadline, BreakerRatio: p.BreakerRatio},
	}, err
}

func (p *Options) decider() (policy.Policy, error) {
	switch {
	case p.Made != nil:
		return p.Made, nil
	case p.Policy == "job":
		return policy.NewJob(policy.JobSettings{
			StartThreshold: p.StartThreshold, StopThreshold: p.StopThreshold, IdleThreshold: p.IdleThreshold,
		})
	case p.Policy == "resource":
		return policy.NewResource(policy.ResourceSettings{
			UpperLoad: p.UpperLoad, LowerLoad: p.LowerLoad, QueueLoadFactor: p.QueueLoadFactor,
			ShutDownThreshold: p.ShutDownThreshold, ShutDownInterval: p.ShutDownInterval, ShutDownGrace: p.ShutDownGrace,
		})
	}
	return policy.Fixed{}, nil
}
