// Package config is the controller's configuration: what may be in the file, what is assumed when it is
// not, and every complaint about it at once. It knows policies, clouds, backends and reports only by
// their kinds, which describe themselves.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"cloudmaster/internal/backend"
	"cloudmaster/internal/cloud"
	"cloudmaster/internal/kind"
	"cloudmaster/internal/message"
	"cloudmaster/internal/policy"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
	"cloudmaster/services/controller/internal/price"
	"cloudmaster/services/controller/internal/report"
)

// Config is the whole configuration, defaults filled in and validated.
type Config struct {
	File       string // where it was read from
	Deployment string
	Backend    Backend
	// WorkerBackend is the backend's address as instances reach it; empty means the controller's own.
	WorkerBackend string
	OpsListen     string
	LogLevel      string
	Reports       []Report
	Prices        *price.Table
	Clouds        map[pool.CloudName]Cloud
	Pools         map[pool.Name]Pool
}

// Backend is where queues and objects are.
type Backend struct {
	Address  string
	Kind     backend.Kind
	Settings kind.Settings
}

// Cloud configures one cloud.
type Cloud struct {
	Name          pool.CloudName
	Kind          cloud.Kind
	AuditInterval time.Duration
	Settings      kind.Settings
}

// Report configures one report.
type Report struct {
	Kind     report.SinkKind
	Settings kind.Settings
}

// Pool configures one pool.
type Pool struct {
	Name     pool.Name
	Image    string
	Cloud    pool.CloudName
	OnRemove string // what happens to the instances when the pool goes from the file: Drain or Leave

	Policy   Policy
	Limits   pool.Limits // that the core applies to every decision
	Rollout  pool.Rollout
	Watchdog policy.Watchdog
	Times    Times
	Warm     int     // stopped instances that are kept to be started
	Queues   []Queue // work, status, and orders if the policy takes any

	MaximumLifetime time.Duration // instances that are as old are replaced; 0: none is

	StatusParser string
	VerifySender bool   // where the broker knows who sends, statuses count only from the instance that they name
	ActiveSet    string // ActiveSetNone or ActiveSetBlob
	ServicePort  int
	AnyAddress   bool // clients are sent to whatever address an instance reports

	OnCloud  kind.Settings  // what the pool's kind of cloud takes from pools; nil if nothing
	Settings map[string]any // the service's own, passed on in the user data
}

// Times are how often things happen.
type Times struct {
	PolicyInterval    time.Duration // judging, at the latest; the window of the start and stop limits
	PollInterval      time.Duration // looking at work queues that cannot tell of messages by themselves
	StatusInterval    time.Duration // instances' reports when nothing changes
	ReportInterval    time.Duration // the summary when nothing changes
	ActiveSetInterval time.Duration // publishing loads, at most
}

// Policy is a pool's policy.
type Policy struct {
	Kind     policy.Kind
	Settings kind.Settings
	Base     *Policy // the policy that this one changes; nil for most kinds
}

// Queue is one of a pool's queues.
type Queue struct {
	Use    Use
	Key    string // of the configuration, that names it
	Name   string
	Limits queue.Limits
}

// Use is what a queue carries.
type Use string

// The uses of a pool's queues.
const (
	Work   Use = "work"   // jobs, or requests for servers
	Status Use = "status" // statuses and log messages of instances
	Orders Use = "orders" // of operators

	// Those of the deployment's own queues.
	Hints  Use = "hints"  // from programs that have sent work
	Events Use = "events" // what clouds say of instances
)

// What can happen to the instances of a pool that goes from the file.
const (
	Drain = "drain"
	Leave = "leave"
)

// The types of active set.
const (
	ActiveSetNone = "none"
	ActiveSetBlob = "blob"
	activeSetS3   = "s3" // the old name of blob
)

// Traits are those of the policy and of the one that it changes.
func (p *Policy) Traits() policy.Traits {
	traits := p.Kind.Traits
	if p.Base != nil {
		base := p.Base.Traits()
		traits.TakesRequests = traits.TakesRequests || base.TakesRequests
		traits.Drains = traits.Drains || base.Drains
		traits.Orders = cmp.Or(traits.Orders, base.Orders)
	}
	return traits
}

// New makes the policy, or returns all that is wrong with its settings.
func (p *Policy) New() (policy.Policy, error) {
	if p.Kind.New == nil {
		return nil, fmt.Errorf("there is no policy %q", p.Kind.Name)
	}
	var base policy.Policy
	wrong := p.Settings.Validate()
	if p.Base != nil {
		var err error
		base, err = p.Base.New()
		wrong = errors.Join(wrong, err)
	}
	if wrong != nil {
		return nil, wrong
	}
	return p.Kind.New(p.Settings, base)
}

// Judge returns the pool's judgement, or all that is wrong with its policy's settings.
func (p *Pool) Judge() (policy.Judge, error) {
	decider, err := p.Policy.New()
	if err != nil {
		return policy.Judge{}, err
	}
	return policy.Judge{Policy: decider, Limits: p.Limits, Watchdog: p.Watchdog, Rollout: p.Rollout}, nil
}

// Queue returns the pool's queue for a use; false if it has none.
func (p *Pool) Queue(use Use) (Queue, bool) {
	return find(p.Queues, func(q *Queue) bool { return q.Use == use })
}

// Parser returns the pool's status parser.
func (p *Pool) Parser() message.ParseFunc { return message.Parsers()[p.StatusParser] }

// PublishesActiveSet reports whether the pool's active set is written.
func (p *Pool) PublishesActiveSet() bool { return p.ActiveSet == ActiveSetBlob }
