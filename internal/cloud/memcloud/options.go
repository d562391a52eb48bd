package memcloud

import (
	"errors"
	"fmt"
	"time"

	"cloudmaster/internal/cloud"
)

// Options are the ways in which the cloud behaves. The zero value is a cloud that does everything
// at once and never refuses.
type Options struct {
	BootDelay      time.Duration // how long a new instance is pending
	TerminateDelay time.Duration // how long an instance is terminating
	HaltDelay      time.Duration // how long an instance is halting
	ListLag        time.Duration // lists show the instances as they were so long ago
	Latency        time.Duration // how long every call takes

	Capacity int      // most instances of all deployments together; 0 means no limit
	Images   []string // the images that exist; nil means every image

	// CallRate and CallBurst limit the calls of all deployments together, like EC2's token buckets:
	// CallRate calls per second in the long run, CallBurst at once. Further calls fail with
	// cloud.ErrThrottled. A rate of 0 means no limit.
	CallRate  float64
	CallBurst int

	Place func() string // where the next instance is launched; nil: nowhere in particular

	KnowsIDs bool // Spec.UserData is called with the id of each instance, as by processcloud

	// OnLaunch, OnRunning and OnTerminate attach simulated workers. Each is called once per instance:
	// when it is launched, when its boot delay is over (by a timer, and not if the instance has ended
	// before), and when it begins to end, for whatever reason. No locks are taken during the calls, so
	// they may call the cloud. An instance that is stopped and started has several lives: OnStop is called when it
	// begins to stop, OnLaunch again when it is started, and OnRunning again when its boot delay is over.
	OnLaunch, OnRunning, OnTerminate, OnStop func(cloud.Instance)

	// Unstoppable refuses to stop instances, as EC2 does those of spot requests that are for one launch.
	Unstoppable bool
}

func (o *Options) validate() error {
	var errs []error
	for name, d := range map[string]time.Duration{
		"boot delay": o.BootDelay, "terminate delay": o.TerminateDelay,
		"halt delay": o.HaltDelay, "list lag": o.ListLag, "latency": o.Latency,
	} {
		if d < 0 {
			errs = append(errs, fmt.Errorf("%s is %s, less than 0", name, d))
		}
	}
	if o.Capacity < 0 {
		errs = append(errs, fmt.Errorf("capacity is %d, less than 0", o.Capacity))
	}
	if o.CallRate < 0 || o.CallRate > 0 && o.CallBurst < 1 {
		errs = append(errs, fmt.Errorf("call rate is %g with bursts of %d: "+
			"want a rate above 0 and bursts of 1 or more, or no rate", o.CallRate, o.CallBurst))
	}
	return errors.Join(errs...)
}
