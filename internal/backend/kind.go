package backend

import (
	"context"
	"net/url"
	"strings"
	"time"

	"cloudmaster/internal/kind"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
)

// Kind describes a kind of backend to the configuration.
type Kind struct {
	// Name is the scheme of its addresses, as nats of nats://HOST:4222; or, if there is no Form, the
	// whole address.
	Name string
	Form string // an address as an example; empty if Name is the whole address
	Help string // one line

	// Section is the section of the configuration that has its settings; empty if there are none.
	Section  string
	Settings func() kind.Settings // its keys, with the defaults; nil if there are none

	// LeaseTTL is how long the controller's lease should hold without renewal. Where renewals are free it
	// is short, so that a successor need not wait for long; where each is paid for it is longer.
	LeaseTTL time.Duration
	// Watches: queues tell by themselves that messages have arrived. Those of other backends must be looked at.
	Watches bool

	// Check returns why no backend of this kind can be at an address; nil if it takes all.
	// The error must not show what stands in front of an "@".
	Check func(address string) error
	// CheckRemote returns why programs on other machines cannot use an address as it is; nil if they always can.
	CheckRemote func(address string) error
	// CheckDeployment returns why a deployment cannot have this name there; nil if it takes all.
	CheckDeployment func(address, deployment string) error
	// CheckQueue returns what the broker cannot do of a queue's limits; nil if it can do all.
	CheckQueue func(queue.Limits) error

	// Client returns the address at which other programs on this machine reach a backend that the controller runs
	// itself. Address and settings are valid. Nil: at the address that is configured.
	Client func(address string, settings kind.Settings) (string, error)

	// Open connects to the backend, or starts it. Address and settings are valid.
	Open func(ctx context.Context, address string, settings kind.Settings, opts Options) (Opened, error)
}

// Opened is an open backend.
type Opened struct {
	Backend

	Address string // for programs on this machine
	// Run returns an error when the backend has become useless for good, and nil when ctx ends. Nil: that cannot
	// happen.
	Run func(context.Context) error
	// Logins hands out what programs log in with. Nil: the controller has none to give.
	Logins Logins
}

// Logins hands out what programs log in with at a backend that the controller runs. What it returns for the same
// arguments stays the same while the backend keeps its files.
type Logins interface {
	// Instance returns the content of a file with which one instance logs in. The backend then vouches for the
	// instance as the sender of what it sends.
	Instance(q PoolQueues, id pool.InstanceID) ([]byte, error)
	// Address returns the address for programs of this machine whose login is in the named file.
	Address(file string) string
	// Pool writes the files that the controller cannot hand over itself, and returns where they are.
	Pool(name pool.Name, q PoolQueues) (PoolFiles, error)
}

// PoolQueues are the names of a pool's queues.
type PoolQueues struct {
	Work, Status string
}

// PoolFiles are files with logins, which only their owner can read.
type PoolFiles struct {
	Worker string // for all instances of the pool; the backend cannot tell them apart
	Client string // for programs that send work and look for servers
	CA     string // the authority of the backend's certificate; empty: none is needed
}

// Takes reports whether an address is one of this kind, be it valid or not.
func (k *Kind) Takes(address string) bool {
	if k.Form == "" {
		return address == k.Name
	}
	return strings.HasPrefix(address, k.Name+"://")
}

// Addresses returns what an address of this kind looks like, in words.
func (k *Kind) Addresses() string {
	if k.Form == "" {
		return k.Name
	}
	return "an address as " + k.Form
}

// ParseAddress is url.Parse, but its errors show nothing of the address.
func ParseAddress(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, reason(err, address)
	}
	return u, nil
}

// Opens is the Open of a kind whose addresses an Opener opens.
func Opens(scheme string, open Opener) func(context.Context, string, kind.Settings, Options) (Opened, error) {
	return func(ctx context.Context, address string, _ kind.Settings, opts Options) (Opened, error) {
		b, err := Open(ctx, address, Openers{scheme: open}, opts)
		return Opened{Backend: b, Address: address}, err
	}
}
