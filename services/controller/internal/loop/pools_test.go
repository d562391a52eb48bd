package loop_test

import (
	"fmt"
	"testing"
	"time"

	"cloudmaster/internal/message"
	"cloudmaster/internal/policy"
	"cloudmaster/internal/pool"
	"cloudmaster/services/controller/internal/desired"
	"cloudmaster/services/controller/internal/loop"
)

// poolConfig is what a test says of its pool.
type poolConfig struct {
	Name   pool.Name
	Policy string

	Warm                                                            int
	Minimum, Maximum, StartLimit, StopLimit                         int
	MinimumLifetime, MinimumActiveTime                              time.Duration
	PolicyInterval, PollInterval, ReportInterval, ActiveSetInterval time.Duration
	WatchdogInterval, BootDeadline                                  time.Duration
	BreakerRatio                                                    float64
	StartThreshold, StopThreshold, IdleThreshold                    int
	UpperLoad, LowerLoad, QueueLoadFactor                           float64
	ShutDownInterval, ShutDownGrace                                 time.Duration
	ShutDownThreshold                                               float64
	StatusInterval                                                  time.Duration // of its workers
	Blob                                                            bool          // the active set is published
	Version                                                         string        // of the image; empty: unknown
	Rollout                                                         pool.Rollout
	MaximumLifetime                                                 time.Duration
}

// base has the defaults of the configuration, with limits that do not bite.
func base() poolConfig {
	return poolConfig{
		Name: "test", Maximum: 4, StartLimit: 10, StopLimit: 10, PolicyInterval: time.Minute,
		PollInterval:     5 * time.Second,
		WatchdogInterval: 10 * time.Minute, BootDeadline: 10 * time.Minute, BreakerRatio: 0.5,
		StartThreshold: 2, IdleThreshold: 1,
		UpperLoad: 0.75, LowerLoad: 0.25, QueueLoadFactor: 2, ShutDownInterval: time.Hour,
		ShutDownGrace:  10 * time.Second,
		StatusInterval: 30 * time.Second, ReportInterval: time.Minute, ActiveSetInterval: time.Minute,
	}
}

// desired is the pool as the controller wants it.
func (c *poolConfig) desired(t *testing.T) desired.Pool {
	t.Helper()
	limits := pool.Limits{
		Minimum: c.Minimum, Maximum: c.Maximum, StartLimit: c.StartLimit, StopLimit: c.StopLimit,
		MinimumLifetime: c.MinimumLifetime, MinimumActiveTime: c.MinimumActiveTime, Drain: c.Policy == "resource",
	}
	var decider policy.Policy = policy.Fixed{}
	var err error
	switch c.Policy {
	case "job":
		decider, err = policy.NewJob(policy.JobSettings{
			StartThreshold: c.StartThreshold, StopThreshold: c.StopThreshold, IdleThreshold: c.IdleThreshold,
		})
	case "resource":
		decider, err = policy.NewResource(policy.ResourceSettings{
			UpperLoad: c.UpperLoad, LowerLoad: c.LowerLoad, QueueLoadFactor: c.QueueLoadFactor,
			ShutDownThreshold: c.ShutDownThreshold, ShutDownInterval: c.ShutDownInterval,
			ShutDownGrace: c.ShutDownGrace,
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	version := ""
	if c.Version != "" {
		version = pool.Version(c.Version, "told")
	}
	return desired.Pool{
		Name: c.Name, Revision: fmt.Sprintf("%+v", *c), Cloud: "mem",
		Work: desired.Queue{Name: "work"}, Status: desired.Queue{Name: "status"},
		Parser: "std", Parse: message.Parsers()["std"], ServicePort: 20808, Publishes: c.Blob,
		Loop: loop.Options{
			Image: "image" + c.Version, Version: version, MaximumLifetime: c.MaximumLifetime,
			Warm: c.Warm, TakesRequests: c.Policy == "resource",
			UserData: func(pool.InstanceID) ([]byte, error) { return []byte("pool: test\n"), nil },
			Judge: policy.Judge{Policy: decider, Limits: limits, Watchdog: policy.Watchdog{
				Interval: c.WatchdogInterval, BootDeadline: c.BootDeadline, BreakerRatio: c.BreakerRatio,
			}, Rollout: c.Rollout},
			PolicyInterval: c.PolicyInterval, PollInterval: c.PollInterval,
			ReportInterval: c.ReportInterval, ActiveSetInterval: c.ActiveSetInterval,
		},
	}
}

func jobPool() poolConfig {
	p := base()
	p.Policy = "job"
	return p
}

func fibPool() poolConfig {
	p := base()
	p.Policy, p.Blob, p.QueueLoadFactor = "resource", true, 10
	p.MinimumActiveTime = 2 * time.Minute
	return p
}

func fixedPool(least, most int) poolConfig {
	p := base()
	p.Policy, p.Minimum, p.Maximum = "fixed", least, most
	return p
}
