// Package config is the controller's configuration: what may be in the file,
// what is assumed when it is not, and every complaint about it at once.
package config

import (
	"time"

	"cloudmaster/internal/cloud/processcloud"
	"cloudmaster/internal/message"
	"cloudmaster/internal/policy"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
)

// Config is the whole configuration, defaults filled in and validated.
type Config struct {
	File       string `mapstructure:"-"` // where it was read from
	Deployment string `mapstructure:"deployment"`
	Backend    string `mapstructure:"backend"` // "embedded", or an address for backend.Open
	// WorkerBackend is the backend's address as instances reach it; empty means the
	// controller's own.
	WorkerBackend string           `mapstructure:"worker_backend"`
	Broker        Broker           `mapstructure:"broker"`
	OpsListen     string           `mapstructure:"ops_listen"`
	LogLevel      string           `mapstructure:"log_level"`
	Report        []string         `mapstructure:"report"`
	Clouds        map[string]Cloud `mapstructure:"clouds"`
	Pools         map[string]Pool  `mapstructure:"pools"`
}

// Embedded is the backend that the controller runs itself.
const Embedded = "embedded"

// Broker configures the embedded message broker.
type Broker struct {
	Listen   string `mapstructure:"listen"`
	StoreDir string `mapstructure:"store_dir"`
}

// Cloud configures one cloud: what all have, and what those of its type have.
type Cloud struct {
	Type          string        `mapstructure:"type"`
	AuditInterval time.Duration `mapstructure:"audit_instance_interval"`
	Process       `mapstructure:",squash"`
	EC2           `mapstructure:",squash"`
}

// The types of cloud.
const (
	ProcessCloud = "process" // instances are local processes
	EC2Cloud     = "ec2"
)

// Process is what a cloud of local processes has.
type Process struct {
	BinDir         string        `mapstructure:"bin_dir"`
	StateDir       string        `mapstructure:"state_dir"`
	Host           string        `mapstructure:"host"`
	TerminateGrace time.Duration `mapstructure:"terminate_grace"`
	Capacity       int           `mapstructure:"capacity"`
}

// Pool configures one pool. Its keys, less image and cloud, may also stand under defaults.
type Pool struct {
	Name pool.Name `mapstructure:"-"`

	Policy string `mapstructure:"policy"`
	Image  string `mapstructure:"image"`
	Cloud  string `mapstructure:"cloud"`
	// OnRemove is what happens to the pool's instances when it goes from the configuration of a running controller.
	OnRemove string `mapstructure:"on_remove"`

	Minimum           int           `mapstructure:"minimum_number_of_instances"`
	Maximum           int           `mapstructure:"maximum_number_of_instances"`
	StartLimit        int           `mapstructure:"start_limit"`
	StopLimit         int           `mapstructure:"stop_limit"`
	PolicyInterval    time.Duration `mapstructure:"policy_interval"`
	PollInterval      time.Duration `mapstructure:"poll_interval"`
	MinimumLifetime   time.Duration `mapstructure:"minimum_lifetime"`
	MinimumActiveTime time.Duration `mapstructure:"minimum_active_time"`
	WatchdogInterval  time.Duration `mapstructure:"watchdog_interval"`
	BootDeadline      time.Duration `mapstructure:"boot_deadline"`
	BreakerRatio      float64       `mapstructure:"breaker_ratio"`

	StartThreshold int `mapstructure:"start_threshold"`
	StopThreshold  int `mapstructure:"stop_threshold"`
	IdleThreshold  int `mapstructure:"idle_threshold"`

	UpperLoad         float64       `mapstructure:"target_upper_load"`
	LowerLoad         float64       `mapstructure:"target_lower_load"`
	QueueLoadFactor   float64       `mapstructure:"queue_load_factor"`
	ShutDownThreshold float64       `mapstructure:"shut_down_threshold"`
	ShutDownInterval  time.Duration `mapstructure:"shut_down_interval"`
	ShutDownGrace     time.Duration `mapstructure:"shut_down_grace"`

	WorkQueue         string        `mapstructure:"work_queue_name"`
	StatusQueue       string        `mapstructure:"status_queue_name"`
	VisibilityTimeout time.Duration `mapstructure:"visibility_timeout"`
	MaxDeliveries     int           `mapstructure:"max_deliveries"`
	StatusParser      string        `mapstructure:"status_parser"`
	StatusInterval    time.Duration `mapstructure:"status_interval"`
	ReportInterval    time.Duration `mapstructure:"report_interval"`

	ActiveSetType     string        `mapstructure:"active_set_type"`
	ActiveSetInterval time.Duration `mapstructure:"active_set_interval"`
	ServicePort       int           `mapstructure:"service_port"`

	Machine `mapstructure:",squash"` // over its cloud's; only on EC2

	Settings map[string]any `mapstructure:"settings"` // the service's own, passed on in the user data
}

// The types of active set.
const (
	ActiveSetNone = "none"
	ActiveSetBlob = "blob"
	activeSetS3   = "s3" // the old name of blob
)

// What can happen to the instances of a pool that is removed.
const (
	OnRemoveLeave = "leave" // they run on, and nobody keeps or ends them
	OnRemoveDrain = "drain" // they are drained or stopped, never one that is at work
)

// defaults of the top level.
func defaults() *Config {
	return &Config{
		Backend:  Embedded,
		Broker:   Broker{Listen: "127.0.0.1:4222", StoreDir: "var/jetstream"},
		LogLevel: "info",
		Report:   []string{"console"},
	}
}

// poolDefaults are those of docs/policies.md and docs/formats.md.
func poolDefaults() Pool {
	return Pool{
		Policy: "fixed", OnRemove: OnRemoveLeave, Maximum: 2, StartLimit: 1, StopLimit: 1, PolicyInterval: time.Minute, PollInterval: 5 * time.Second,
		MinimumLifetime: 5 * time.Minute, MinimumActiveTime: 2 * time.Minute,
		WatchdogInterval: 10 * time.Minute, BreakerRatio: 0.5,
		StartThreshold: 2, IdleThreshold: 1,
		UpperLoad: 0.75, LowerLoad: 0.25, QueueLoadFactor: 2, ShutDownInterval: time.Hour, ShutDownGrace: 10 * time.Second,
		VisibilityTimeout: queue.DefaultVisibility, MaxDeliveries: queue.DefaultDeliveries,
		StatusParser: "std", StatusInterval: time.Minute, ReportInterval: time.Minute,
		ActiveSetType: ActiveSetNone, ActiveSetInterval: time.Minute,
	}
}

// cloudDefaults are those of a cloud of the type; process if it is none.
func cloudDefaults(kind string) Cloud {
	if kind == EC2Cloud {
		return Cloud{AuditInterval: time.Minute, EC2: EC2{Machine: Machine{Market: OnDemand}}}
	}
	return Cloud{Type: ProcessCloud, AuditInterval: 2 * time.Second, Process: Process{
		BinDir: processcloud.DefaultBinDir, StateDir: processcloud.DefaultStateDir,
		Host: processcloud.DefaultHost, TerminateGrace: processcloud.DefaultGrace,
	}}
}

// Policies are the policies by the name that the configuration gives them.
func Policies() map[string]policy.Kind {
	out := make(map[string]policy.Kind)
	for _, k := range policy.Kinds() {
		out[k.Name] = k
	}
	return out
}

// Limits returns what the core applies to every decision about the pool.
func (p *Pool) Limits() pool.Limits {
	return pool.Limits{
		Minimum: p.Minimum, Maximum: p.Maximum, StartLimit: p.StartLimit, StopLimit: p.StopLimit,
		MinimumLifetime: p.MinimumLifetime, MinimumActiveTime: p.MinimumActiveTime, Drain: p.Requests(),
	}
}

// Judge returns the pool's judgement, or all that is wrong with its settings.
func (p *Pool) Judge() (policy.Judge, error) {
	decider, err := p.decider()
	if err != nil {
		return policy.Judge{}, err
	}
	return policy.Judge{
		Policy: decider, Limits: p.Limits(),
		Watchdog: policy.Watchdog{Interval: p.WatchdogInterval, BootDeadline: p.BootDeadline, BreakerRatio: p.BreakerRatio},
	}, nil
}

// decider makes the pool's policy.
func (p *Pool) decider() (policy.Policy, error) {
	switch p.Policy {
	case "job":
		return policy.NewJob(policy.JobSettings{
			StartThreshold: p.StartThreshold, StopThreshold: p.StopThreshold, IdleThreshold: p.IdleThreshold,
		})
	case "resource":
		return policy.NewResource(policy.ResourceSettings{
			UpperLoad: p.UpperLoad, LowerLoad: p.LowerLoad, QueueLoadFactor: p.QueueLoadFactor,
			ShutDownThreshold: p.ShutDownThreshold, ShutDownInterval: p.ShutDownInterval, ShutDownGrace: p.ShutDownGrace,
		})
	}
	return policy.Fixed{}, nil
}

// Requests reports whether the pool's work queue carries requests for a server,
// which the controller takes, rather than jobs, which its workers take.
func (p *Pool) Requests() bool { return p.Policy == "resource" }

// Parser returns the pool's status parser.
func (p *Pool) Parser() message.ParseFunc { return message.Parsers()[p.StatusParser] }

// PublishesActiveSet reports whether the pool's active set is written.
func (p *Pool) PublishesActiveSet() bool { return p.ActiveSetType == ActiveSetBlob }
