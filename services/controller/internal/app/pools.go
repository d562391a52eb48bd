package app

import (
	"cloudmaster/internal/policy"
	"cloudmaster/services/controller/internal/config"
	"cloudmaster/services/controller/internal/loop"
)

// loopConfig is a pool of the configuration as its loop takes it.
func loopConfig(p *config.Pool) (loop.Options, error) {
	decider, err := p.Policy.New()
	if err != nil {
		return loop.Options{}, err
	}
	o := loop.Options{
		Name: p.Name, Image: p.Image, Cloud: string(p.Cloud), Policy: p.Policy.Kind.Name, Made: decider,
		TakesRequests: p.Policy.Traits().TakesRequests,
		Minimum:       p.Limits.Minimum, Maximum: p.Limits.Maximum,
		StartLimit: p.Limits.StartLimit, StopLimit: p.Limits.StopLimit,
		MinimumLifetime: p.Limits.MinimumLifetime, MinimumActiveTime: p.Limits.MinimumActiveTime,
		WatchdogInterval: p.Watchdog.Interval, BootDeadline: p.Watchdog.BootDeadline, BreakerRatio: p.Watchdog.BreakerRatio,
		PolicyInterval: p.Times.PolicyInterval, PollInterval: p.Times.PollInterval, StatusInterval: p.Times.StatusInterval,
		ReportInterval: p.Times.ReportInterval, ActiveSetInterval: p.Times.ActiveSetInterval,
		StatusParser: p.StatusParser, ActiveSetType: p.ActiveSet, ServicePort: p.ServicePort,
	}
	if r, ok := p.Policy.Settings.(*policy.ResourceSettings); ok {
		o.ShutDownInterval, o.ShutDownGrace = r.ShutDownInterval, r.ShutDownGrace
	}
	return o, nil
}
