package config

import (
	"time"

	"cloudmaster/internal/policy"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
)

// Keys that have a meaning beyond their section's struct.
const (
	keyClouds   = "clouds"
	keyPools    = "pools"
	keyDefaults = "defaults"
	keyReport   = "report"
	keyType     = "type"
	keyBase     = "base"
	keyImage    = "image"
	keyCloud    = "cloud"
)

// topKeys are the keys of the top level.
type topKeys struct {
	Deployment string `key:"deployment" default:"none" help:"part of the names of queues and store, and of tags"`
	Backend    string `key:"backend" help:"where queues and objects are: a backend's name or address, see below"`

	WorkerBackend string `key:"worker_backend" default:"as backend" help:"the backend's address as instances reach it"`

	OpsListen string `key:"ops_listen" default:"off" help:"HOST:PORT for /healthz, /readyz and /metrics"`
	LogLevel  string `key:"log_level" help:"debug, info, warn or error"`
	Prices    string `key:"prices" default:"a table that ships" help:"FILE with what instances cost; read at SIGHUP"`
	Report    any    `key:"report" help:"one report or a list, each as NAME or {type: NAME, …} with its keys"`
}

func (k *Kinds) topDefaults() topKeys {
	return topKeys{Backend: k.Backends[0].Name, LogLevel: "info", Report: k.Sinks[0].Name}
}

// cloudKeys are the keys of all clouds.
type cloudKeys struct {
	Type          string        `key:"type" help:"the kind of cloud, see below"`
	AuditInterval time.Duration `key:"audit_instance_interval" default:"the kind's" help:"how often instances are listed"`
}

// baseKey is the key of pools whose policy changes another one.
type baseKey struct {
	Base string `key:"base" help:"the policy that this one changes, whose keys the pool has too"`
}

// poolKeys are the keys of all pools. Those but image and cloud may also stand under defaults.
type poolKeys struct {
	Policy   string `key:"policy" help:"the kind of policy, see below"`
	Image    string `key:"image" default:"required" help:"what the instances run"`
	Cloud    string `key:"cloud" default:"required" help:"where they run: one of clouds"`
	OnRemove string `key:"on_remove" help:"what happens to the instances when the pool goes from the file: drain or leave"`

	Minimum    int `key:"minimum_number_of_instances" help:"below it instances are launched at once"`
	Maximum    int `key:"maximum_number_of_instances" help:"never launched past; what is above is stopped at once"`
	StartLimit int `key:"start_limit" help:"most launches in one policy interval"`
	StopLimit  int `key:"stop_limit" help:"most instances shut down or stopped in one policy interval"`

	Warm map[string]int `key:"warm" default:"none" help:"as {stopped: 2}: so many stay stopped, to be started quickly"`

	PolicyInterval time.Duration `key:"policy_interval" help:"how often growth and shrinkage are judged at the latest"`
	PollInterval   time.Duration `key:"poll_interval" help:"how often queues are read that cannot tell of messages (SQS)"`

	MinimumLifetime   time.Duration `key:"minimum_lifetime" help:"no stop by policy before this age"`
	MinimumActiveTime time.Duration `key:"minimum_active_time" help:"no stop and no shut-down before this time as active"`

	MaximumLifetime time.Duration `key:"maximum_lifetime" help:"older instances are replaced; 0: none is"`
	Rollout         rolloutSaid   `key:"rollout" default:"{max_unavailable: 0, max_surge: 1, paused: false}" help:"how outdated instances are replaced: how many may be missing, how many too many, and whether to wait"`

	WatchdogInterval time.Duration `key:"watchdog_interval" help:"silence that makes an instance hung; 0: none does"`

	BootDeadline time.Duration `key:"boot_deadline" default:"watchdog_interval" help:"what still starts then is replaced"`
	BreakerRatio float64       `key:"breaker_ratio" help:"share of silent instances above which the fault is ours"`

	WorkQueue   string `key:"work_queue_name" default:"<pool>-work" help:"-<deployment> is appended if there is one"`
	StatusQueue string `key:"status_queue_name" default:"<pool>-status" help:"likewise"`

	VisibilityTimeout time.Duration `key:"visibility_timeout" help:"after this silence another worker gets a job"`
	MaxDeliveries     int           `key:"max_deliveries" help:"deliveries of a job before it goes to the dead letters"`

	StatusParser   string        `key:"status_parser" help:"the form of status messages: std or lifeguard"`
	VerifySender   bool          `key:"verify_sender" help:"statuses count only from their instance, if the broker knows it"`
	StatusInterval time.Duration `key:"status_interval" help:"how often instances report when nothing changes"`
	ReportInterval time.Duration `key:"report_interval" help:"how often the summary comes when nothing changes"`

	ActiveSetType     string        `key:"active_set_type" help:"where the active set is published: none or blob"`
	ActiveSetInterval time.Duration `key:"active_set_interval" help:"how often changed loads are published at most"`
	ServicePort       int           `key:"service_port" default:"none" help:"port of instances that report no address"`

	AnyAddress bool `key:"any_address" help:"send clients also to hosts that the cloud does not know as the instance's"`

	Settings map[string]any `key:"settings" default:"none" help:"the service's own, passed on in the user data"`
}

// poolDefaults are those of docs/policies.md and docs/reference.md.
func (k *Kinds) poolDefaults() poolKeys {
	return poolKeys{
		Policy: k.Policies[0].Name, OnRemove: Leave,
		Maximum: 2, StartLimit: 1, StopLimit: 1, PolicyInterval: time.Minute, PollInterval: 5 * time.Second,
		MinimumLifetime: 5 * time.Minute, MinimumActiveTime: 2 * time.Minute,
		WatchdogInterval: 10 * time.Minute, BreakerRatio: 0.5,
		VisibilityTimeout: queue.DefaultVisibility, MaxDeliveries: queue.DefaultDeliveries,
		StatusParser: "std", VerifySender: true, StatusInterval: time.Minute, ReportInterval: time.Minute,
		ActiveSetType: ActiveSetNone, ActiveSetInterval: time.Minute,
	}
}

func (p *poolKeys) limits(drains bool) pool.Limits {
	return pool.Limits{
		Minimum: p.Minimum, Maximum: p.Maximum, StartLimit: p.StartLimit, StopLimit: p.StopLimit,
		MinimumLifetime: p.MinimumLifetime, MinimumActiveTime: p.MinimumActiveTime, Drain: drains,
	}
}

func (p *poolKeys) watchdog() policy.Watchdog {
	w := policy.Watchdog{Interval: p.WatchdogInterval, BootDeadline: p.BootDeadline, BreakerRatio: p.BreakerRatio}
	if w.BootDeadline == 0 {
		w.BootDeadline = w.Interval
	}
	return w
}

func (p *poolKeys) times() Times {
	return Times{
		PolicyInterval: p.PolicyInterval, PollInterval: p.PollInterval, StatusInterval: p.StatusInterval,
		ReportInterval: p.ReportInterval, ActiveSetInterval: p.ActiveSetInterval,
	}
}
