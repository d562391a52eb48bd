// Package cloud is the port to whatever runs instances: EC2, local processes, or a simulation in
// memory.
//
// # Contract
//
// A Cloud value serves one deployment: it lists, tags and ends only instances that carry this
// deployment's tag, whoever launched them. Instances live on when the Cloud value, or its process,
// ends. A list may lag behind launches and terminations (on EC2 by seconds), so callers must
// remember what they launched until it is listed.
//
// All methods may be called concurrently, and all return when ctx ends. Errors wrap the few listed
// below; ask with errors.Is. After any other error it is unknown whether the call took effect, and
// a later call may succeed.
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
	// ErrCapacity: the cloud has no room now for some or all of these instances.
	ErrCapacity = errors.New("no capacity")
	// ErrThrottled: the cloud refused because of too many calls. The adapter has already retried.
	ErrThrottled = errors.New("throttled")
	// ErrDenied: the cloud does not allow us to do this.
	ErrDenied = errors.New("access denied")
	// ErrNotFound: something that the call names (an image, an instance to tag) does not exist.
	ErrNotFound = errors.New("not found")
	// ErrConflict: the token was used before with other parameters.
	ErrConflict = errors.New("conflict")
	// ErrInvalid: the cloud cannot launch this specification, now or later.
	ErrInvalid = errors.New("invalid launch specification")
	// ErrNotStopped: an instance that was to be started is about to stop, and has to do that first.
	ErrNotStopped = errors.New("not stopped yet")
	// ErrNotAsked: the cloud was not asked, because it has been asked too often lately.
	ErrNotAsked = errors.New("not asked")
)

// The tags that the controller writes on instances. They are the only place for what must survive a
// restart of the controller.
const (
	TagDeployment = "cloudmaster:deployment"
	TagPool       = "cloudmaster:pool"
	TagState      = "cloudmaster:state"       // the name of a pool.State
	TagStateSince = "cloudmaster:state-since" // RFC 3339, UTC
	// TagInterrupted is "true" on an instance that has said that it is about to end, and "false" once it has said
	// something else. Others do not have it.
	TagInterrupted = "cloudmaster:interrupted"
	// TagAnnounced is on an instance whose end the cloud has announced: why, in the cloud's words.
	TagAnnounced = "cloudmaster:announced"
	// TagStarted is when an instance of the warm pool was last started, as TagStateSince. Others do not have it.
	TagStarted = "cloudmaster:started"
	TagLaunch  = "cloudmaster:launch" // the token of the launch that started the instance
	// TagVersion says what the instance was launched as (pool.Version). One without it is never outdated for what it
	// was launched as.
	TagVersion = "cloudmaster:version"
	// TagSurge is "true" on an instance that was launched to take the place of an outdated one, and "false" once it has
	// taken it. Others do not have it.
	TagSurge = "cloudmaster:surge"
)

// Refused reports whether an error proves that the cloud has done nothing of what was asked. ErrThrottled does not
// prove it: the adapter has tried several times, and an earlier try may have got through. Nor does an error that is
// none of this package's.
func Refused(err error) bool {
	for _, refusal := range []error{
		ErrCapacity, ErrConflict, ErrDenied, ErrNotFound, ErrInvalid, ErrNotStopped, ErrNotAsked,
	} {
		if errors.Is(err, refusal) {
			return true
		}
	}
	return false
}

// ErrNoLogins is what clouds return for a Spec.Login that they cannot hand over.
var ErrNoLogins = fmt.Errorf("%w: this cloud cannot hand an instance a secret: put the file with its login into the "+
	"image, and its path into worker_backend", ErrInvalid)

// Phase is how far an instance's life has come, as the cloud sees it. The zero value is invalid.
type Phase int

// The phases. Terminated instances need not be listed.
const (
	PhaseUnknown Phase = iota
	Pending            // exists, but does not run yet
	Running
	Terminating // about to end, whether or not because we asked for it
	Terminated  // has ended; it is listed for a while, if the cloud can tell
	Stopped     // does not run; it stays like that, and may cost, until it is started or told to end
	Halting     // about to be stopped
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
	case Terminated:
		return "terminated"
	case Stopped:
		return "stopped"
	case Halting:
		return "halting"
	case PhaseUnknown:
	}
	return "unknown"
}

// Instance is one instance as its cloud reports it.
type Instance struct {
	ID       pool.InstanceID
	Phase    Phase
	Image    string
	Address  string // host name or address by which clients can reach it, without port; empty if it has none
	Launched time.Time
	Tags     map[string]string // the caller may keep and change it

	// Hosts are all names and addresses by which the cloud knows it, in any order; empty if the cloud knows none.
	Hosts []string

	// Where and what it is. A cloud that does not know these leaves them empty.
	Zone string // the cloud's word for a part of it that fails by itself
	// Place is where it was launched, as in Preview.Open.
	Place string
	Type  string // the cloud's word for the size of the machine
	Spot  bool   // the cloud may take it back at any time

	// Reason is why the instance ends or has ended, in the cloud's words; empty if it runs, or the cloud does not say.
	Reason string
}

// Spec says what to launch.
type Spec struct {
	// Token makes the launch idempotent: a Launch with the token of an earlier one starts nothing
	// more, and returns what the earlier one started. It has 1 to 64 characters of A-Z a-z 0-9 and -.
	Token string
	Count int    // ≥ 1
	Image string // the cloud's name for what the instances run
	// Tags are on the instances from their first moment. The cloud adds TagDeployment.
	Tags map[string]string
	// UserData returns the document that the instance with this id receives, of at most 16 KiB. On
	// clouds that choose the id only at launch, id is empty, and the instance asks the cloud for its id.
	UserData func(id pool.InstanceID) ([]byte, error)
	// Login returns what the instance with this id logs in with at its broker. The instance finds it in a file that
	// only its own user can read (Kind.LoginFile). Nil: it gets no such file. Clouds that cannot hand over a secret
	// return ErrNoLogins if it is not nil.
	Login func(id pool.InstanceID) ([]byte, error)
}

// Which of its addresses clients reach an instance by, where it has two.
const (
	PrivateAddress = "private" // that of its own network
	PublicAddress  = "public"
)

// MaxUserData is the size in bytes of the largest document that an instance can receive (EC2's limit).
const MaxUserData = 16 << 10

var tokenForm = regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`)

// Validate returns, as ErrInvalid, everything that would be wrong on any cloud. Each cloud checks
// its own further rules.
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
	// Launch starts up to Count instances and returns those that it started, even if it also returns
	// an error. If it starts fewer than Count, it always returns an error: ErrCapacity or another one.
	Launch(ctx context.Context, spec Spec) ([]Instance, error)

	// List returns every instance of the deployment, of all pools, that is not terminated, in any order.
	// A cloud that knows which instances have ended may list these too, so that they are not taken for ones that the
	// list is too late to show.
	List(ctx context.Context) ([]Instance, error)

	// Tag sets tags on instances and leaves their other tags as they are. It returns ErrNotFound if
	// one of the instances does not exist (any more); the others may then be tagged or not.
	Tag(ctx context.Context, tags map[string]string, ids ...pool.InstanceID) error

	// Terminate ends instances. It returns when the cloud has accepted the order, before the instances
	// are gone. It is not an error if an instance is gone already, or never existed.
	Terminate(ctx context.Context, ids ...pool.InstanceID) error
}
