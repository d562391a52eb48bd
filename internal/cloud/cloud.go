// Package cloud is the port to where instances come from: EC2, local processes,
// memory.
//
// # Contract
//
// A Cloud value serves one deployment: it lists, tags and ends only instances
// that carry this deployment's tag, whoever launched them. Instances live on
// when the Cloud value, or the process that holds it, ends. A list may lag
// behind launches and terminations (on EC2 by seconds): callers keep what they launched
// as expected until it is listed.
//
// All methods may be called concurrently and honour ctx. Errors wrap the small
// set below; ask with errors.Is. Anything else is a fault that a later call may
// not meet, and leaves open whether the call took effect.
package cloud

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"cloudmaster/internal/pool"
)

// The errors that callers act on.
var (
	// ErrCapacity: the cloud has no room for (all of) these instances now.
	ErrCapacity = errors.New("no capacity")
	// ErrThrottled: too many calls; the adapter has already retried.
	ErrThrottled = errors.New("throttled")
	// ErrDenied: we may not do this.
	ErrDenied = errors.New("access denied")
	// ErrNotFound: what the call names (an image, an instance to tag) does not exist.
	ErrNotFound = errors.New("not found")
	// ErrConflict: a token was used before with other parameters.
	ErrConflict = errors.New("conflict")
	// ErrInvalid: the cloud cannot launch this specification, now or later.
	ErrInvalid = errors.New("invalid launch specification")
)

// The tags that the controller writes on instances. What must survive a restart
// of the controller is here and nowhere else.
const (
	TagDeployment = "cloudmaster:deployment"
	TagPool       = "cloudmaster:pool"
	TagState      = "cloudmaster:state"       // a pool.State's name
	TagStateSince = "cloudmaster:state-since" // RFC 3339, UTC
	TagLaunch     = "cloudmaster:launch"      // the token of the launch that the instance came of
)

// Phase is the cloud's own view of an instance's life. The zero value is invalid.
type Phase int

// The phases. Terminated instances are not listed.
const (
	PhaseUnknown Phase = iota
	Pending            // exists, not running yet
	Running
	Terminating // on its way out, by our doing or not
)

// String returns the phase in lower case.
func (p Phase) String() string {
	switch p {
	case Pending:
		return "pending"
	case Running:
		return "running"
	case Terminating:
		return "terminating"
	case PhaseUnknown:
	}
	return "unknown"
}

// Instance is one instance as its cloud tells of it.
type Instance struct {
	ID       pool.InstanceID
	Phase    Phase
	Image    string
	Address  string // host name or address that clients can reach, without port; empty when it has none
	Launched time.Time
	Tags     map[string]string // the caller may keep and change it
}

// Spec says what to launch.
type Spec struct {
	// Token makes the launch idempotent: a Launch with the token of an earlier one starts
	// nothing more and returns what the earlier one started. At most 64 characters
	// of A-Z a-z 0-9 and -.
	Token string
	Count int    // ≥ 1
	Image string // the cloud's name for what to run
	// Tags are on the instances from their first moment. TagDeployment is added by the cloud.
	Tags map[string]string
	// UserData returns what the instance with this id is told. id is empty on clouds that choose
	// the id at launch; there the instance learns its id from the cloud. At most 16 KiB.
	UserData func(id pool.InstanceID) ([]byte, error)
}

// MaxUserData is the most that an instance can be told, in bytes (EC2's limit).
const MaxUserData = 16 << 10

var tokenForm = regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`)

// Validate returns, as ErrInvalid, all that no cloud could launch. What only one
// cloud minds, that cloud checks itself.
func (s *Spec) Validate() error {
	var errs []error
	if !tokenForm.MatchString(s.Token) {
		errs = append(errs, fmt.Errorf("%w: token %q: want 1 to 64 of A-Z a-z 0-9 -", ErrInvalid, s.Token))
	}
	if s.Count < 1 {
		errs = append(errs, fmt.Errorf("%w: count is %d, less than 1", ErrInvalid, s.Count))
	}
	if s.Image == "" {
		errs = append(errs, fmt.Errorf("%w: no image", ErrInvalid))
	}
	return errors.Join(errs...)
}

// Cloud is the port.
type Cloud interface {
	// Launch starts up to Count instances and returns those it started, also when it
	// returns an error as well: fewer than asked is always ErrCapacity or another error.
	Launch(ctx context.Context, spec Spec) ([]Instance, error)

	// List returns every instance of the deployment that is not terminated, in all pools, in any order.
	List(ctx context.Context) ([]Instance, error)

	// Tag sets tags on instances, leaving others as they are. ErrNotFound if one
	// does not exist (any more); the others may or may not be tagged then.
	Tag(ctx context.Context, tags map[string]string, ids ...pool.InstanceID) error

	// Terminate ends instances. It returns when the cloud has accepted, not when they
	// are gone. Ending one that is gone, or was never there, is success.
	Terminate(ctx context.Context, ids ...pool.InstanceID) error
}
