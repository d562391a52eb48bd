package cloud

import (
	"context"
	"log/slog"
	"time"

	"cloudmaster/internal/kind"
	"cloudmaster/internal/pool"
)

// Kind describes a kind of cloud to the configuration.
type Kind struct {
	Name         string               // as the key type of a cloud has it
	Help         string               // one line
	Settings     func() kind.Settings // a cloud's keys, with the defaults
	PoolSettings func() kind.Settings // the keys that a pool has on such a cloud, with the defaults; nil: none

	AuditInterval time.Duration // the default of how often instances are listed
	ListLag       time.Duration // how far lists may be behind launches; 0: as far as callers assume anyway
	// Remote: instances run on other machines, so that they need an address of the backend
	// that is valid there.
	Remote bool
	// Stops: instances can be stopped and started again (Stopper).
	Stops bool
	// LoginFile is where an instance finds what Spec.Login has returned, as the name of a file that may begin with a
	// variable of the instance's environment. Empty: the cloud cannot hand over secrets.
	LoginFile string

	// PublicAddress reports whether clients are sent to the public addresses of a pool's instances. pool are the
	// pool's settings on the cloud. Nil: instances have one address each.
	PublicAddress func(settings, pool kind.Settings) bool

	// PricePerHour returns what each instance costs in USD, and whether that is known. Nil: it depends on the instance.
	PricePerHour func(settings kind.Settings) (usd float64, known bool)

	// Identity is the kind of backend that knows instances of this cloud as senders by itself, and names them by their
	// ids; empty if none does.
	Identity string

	// Events reports whether what a cloud with these settings says by itself can reach a queue of the backend at an
	// address. Nil: it never can.
	Events func(settings kind.Settings, backend string) bool
	// ParseEvent reads a message of that queue as a cloud with these settings understands it. Nil if Events is.
	ParseEvent func(settings kind.Settings, body []byte) (Event, error)

	// Made returns a text that is the same for pools whose instances are made alike, beside image, type, place and
	// price. If it changes, running instances are outdated (pool.OtherSettings). own are the pool's settings on the
	// cloud. Nil: nothing but image and user data makes instances differ.
	Made func(settings kind.Settings, deployment string, name pool.Name, own kind.Settings) string

	// CheckPool returns all, joined, that stands against running a pool on a cloud with these settings.
	// Each error begins with its key and a colon, or says by itself what it is about.
	CheckPool func(settings kind.Settings, deployment string, p PoolSpec) error
	// Open opens a cloud. The settings are valid.
	Open func(ctx context.Context, opts OpenOptions) (Opened, error)
}

// PoolSpec is what a cloud must know of a pool.
type PoolSpec struct {
	Name        pool.Name
	Image       string
	ServicePort int           // the port that clients reach; 0: none is configured
	Warm        int           // stopped instances that are kept to be started
	Settings    kind.Settings // those of Kind.PoolSettings; nil if the kind has none
}

// OpenOptions says what to open. Deployment may be empty; all else is required but where it says otherwise.
type OpenOptions struct {
	Deployment string
	Name       pool.CloudName
	Settings   kind.Settings
	// Backend is the address of the deployment's queues, for clouds that are in the same place by default.
	Backend string
	// Pool returns what a pool has set for itself, or false if there is no such pool. It is asked at each
	// launch, by any goroutine, because pools come, change and go while the cloud is open.
	Pool   func(pool.Name) (kind.Settings, bool)
	Client string // who we are: the program's name
	// PolicyFile is where the rights stand that Client needs, for the advice in errors; empty: nowhere.
	PolicyFile string
	Log        *slog.Logger
	// Count is called once for each call to the cloud, for metrics; may be nil.
	Count func(service, operation string, err error)
	// Changed is called when the cloud knows by itself that an instance has ended; may be nil.
	Changed func()
}

// Opened is a cloud that must be closed. Instances live on.
type Opened interface {
	Cloud
	Close() error
}
