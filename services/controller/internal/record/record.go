// Package record has the values that say what a controller did: one for each pass of a pool, and one for each
// look at its status queue. Logs, metrics and reports are made from them and compute nothing themselves.
package record

import (
	"errors"
	"fmt"
	"time"

	"cloudmaster/internal/policy"
	"cloudmaster/internal/pool"
	"cloudmaster/services/controller/internal/price"
)

// Record is everything that one pass saw, decided and did.
type Record struct {
	Pool   pool.Name     `json:"pool"`
	At     time.Time     `json:"at"`     // when the pass began
	Took   time.Duration `json:"took"`   // until it ended
	Number uint64        `json:"number"` // of the pass, counted from when this controller began with this pool

	// Blind is why nothing was decided: this controller may not hold the lease any more, or the cloud has not
	// been listed yet. It is empty if something was decided.
	Blind string `json:"blind,omitempty"`

	// What was seen.
	Seen    pool.Snapshot     `json:"-"`                 // what the policy looked at
	Inputs  Inputs            `json:"inputs"`            // how old it was
	Adopted []pool.InstanceID `json:"adopted,omitempty"` // instances that ran already when this controller began
	// instances that have reported for the first time and are active now
	Began []pool.InstanceID `json:"began,omitempty"`
	// Strangers are active instances that report an address at a host which the cloud does not know as theirs. Clients
	// are not sent there.
	Strangers []pool.InstanceID `json:"strangers,omitempty"`
	Gone      []pool.Ending     `json:"gone,omitempty"` // instances that lists do not show any more, and why they ended
	// instances that the cloud ends although this controller did not ask for it
	Outside []pool.Ending `json:"outside,omitempty"`

	// What was decided. If Blind is not empty, nothing was.
	Decision pool.Decision `json:"-"`
	Words    string        `json:"decision,omitempty"` // the decision on one line
	Breaker  Breaker       `json:"breaker"`
	Rollout  Rollout       `json:"rollout,omitzero"`
	Policy   string        `json:"policy_error,omitempty"` // why the policy could not decide
	Wait     *Wait         `json:"wait,omitempty"`         // why launches that the decision asks for wait

	// What was done.
	Launches    []Launch          `json:"launches,omitempty"`
	Starts      []Start           `json:"starts,omitempty"` // of warm instances, instead of launches
	Reactivated []pool.InstanceID `json:"reactivated,omitempty"`
	Endings     []Ending          `json:"endings,omitempty"`
	Calls       []Call            `json:"calls,omitempty"` // all calls that the pass made, in order

	// How the pool is after the pass.
	Instances []pool.Instance `json:"instances"`
	Cost      price.Cost      `json:"cost"`               // what they cost together
	Ages      Ages            `json:"ages"`               // how old its messages are
	Warm      []pool.Instance `json:"warm,omitempty"`     // those that are warm or warming, which are not in Instances
	Tell      bool            `json:"tell,omitempty"`     // it is time to tell people how the pool is
	Failures  int             `json:"failures,omitempty"` // passes in a row that ended in an error, this one included
	Err       error           `json:"-"`
	Error     string          `json:"error,omitempty"` // what Err says
	Next      time.Time       `json:"next"`            // when the next pass runs if nothing happens before
	NotBefore time.Time       `json:"not_before"`      // the next pass does not run before this, whatever happens
}

// Inputs says how old the data were that a pass began with. A negative age means that they were never read,
// or are unknown.
type Inputs struct {
	List     time.Duration `json:"list"`
	ListErr  string        `json:"list_error,omitempty"` // why the newest attempt to list failed
	Backlog  time.Duration `json:"backlog"`
	Statuses time.Duration `json:"statuses"` // since the most silent counted instance was heard
	// Deaf says that statuses do not reach this controller, or that not all that waited have been taken in
	// yet.
	Deaf bool `json:"deaf,omitempty"`
}

// InputsOf returns how old the data in a snapshot are.
func InputsOf(s *pool.Snapshot, listErr error, deaf bool) Inputs {
	in := Inputs{List: s.Now.Sub(s.ListedAt), Backlog: Unknown, Statuses: 0, Deaf: deaf}
	if listErr != nil {
		in.ListErr = listErr.Error()
	}
	if s.Backlog.Known {
		in.Backlog = s.Now.Sub(s.BacklogAt)
	}
	for i := range s.Instances {
		if s.Instances[i].Counted() {
			in.Statuses = max(in.Statuses, s.Now.Sub(s.Instances[i].HeardAt))
		}
	}
	return in
}

// Unknown is the age of data that are not known.
const Unknown time.Duration = -1

// Rollout is how far the replacement of outdated instances is.
type Rollout struct {
	policy.Rolling

	Changed bool `json:"changed,omitempty"` // its state is another one than in the last pass
	// Unknown is why it is not known what a launch would make now; empty if it is, or if the cloud was not asked.
	Unknown string `json:"unknown,omitempty"`
}

// Breaker is what the watchdog saw.
type Breaker struct {
	Open    bool `json:"open,omitempty"`
	Changed bool `json:"changed,omitempty"` // it has opened or closed since the last pass
	Silent  int  `json:"silent,omitempty"`
	Active  int  `json:"active,omitempty"`
}

// String says for people whether the breaker is open, and what follows from it.
func (b Breaker) String() string {
	if !b.Open {
		return "breaker closed: statuses return"
	}
	return fmt.Sprintf("breaker open: %d of %d instances are silent, which is likely our fault; nothing is replaced",
		b.Silent, b.Active)
}

// Wait is why launches wait, and until when at the latest: a controller before this one has launched
// instances that lists may not show yet.
type Wait struct {
	Token string    `json:"token"`
	Count int       `json:"count"` // instances of the launch that is waited for
	At    time.Time `json:"at"`    // when it was asked for
	Until time.Time `json:"until"`
}

// Launch is one request to the cloud.
type Launch struct {
	Token   string            `json:"token"`
	Asked   int               `json:"asked"`             // instances that the request is for
	Again   bool              `json:"again,omitempty"`   // the answer to an earlier request with this token was lost
	Started []pool.InstanceID `json:"started,omitempty"` // what this answer told of for the first time
	Open    bool              `json:"open,omitempty"`    // it is not known whether it took effect
	Reason  string            `json:"reason,omitempty"`  // why it failed, as a label of metrics
	Error   string            `json:"error,omitempty"`
}

// Started is what came of the start of a warm instance.
type Started string

// The outcomes of starts.
const (
	StartAccepted Started = "accepted"
	StartRefused  Started = "refused" // it stays warm, and an instance is launched in its place
	StartUnknown  Started = "unknown" // the answer was lost, and it is asked for again
	StartBooting  Started = "booting" // it was booting to be stopped, and only has to go on
)

// Start is the start of one instance of the warm pool.
type Start struct {
	Instance pool.InstanceID `json:"instance"`
	Outcome  Started         `json:"outcome"`
	Again    bool            `json:"again,omitempty"`  // the answer to an earlier request was lost
	Reason   string          `json:"reason,omitempty"` // why it failed, as a label of metrics
	Error    string          `json:"error,omitempty"`
}

// Act is how an instance is ended.
type Act string

// The acts.
const (
	ShutDown  Act = "shut_down"  // it drains
	Stop      Act = "stop"       // it is told to end
	KeepWarm  Act = "keep_warm"  // it is told to stop, so that it can be started again
	StopAgain Act = "stop_again" // it was told before, and the cloud has not confirmed it
)

// Ending is one instance that this pass drained or ended.
type Ending struct {
	pool.Ending
	Act Act `json:"act"`
	// Spared says that the instance was not ended after all, because it has reported since the snapshot was
	// made.
	Spared bool `json:"spared,omitempty"`
	// Unpublished says that the instance was not touched, because the active set without it could not be
	// written.
	Unpublished bool   `json:"unpublished,omitempty"`
	Error       string `json:"error,omitempty"`
}

// Call is one call to a cloud, a broker or a store.
type Call struct {
	Op    string        `json:"op"` // such as "cloud.terminate"
	About string        `json:"about,omitempty"`
	Took  time.Duration `json:"took"`
	Error string        `json:"error,omitempty"`
}

// Fail adds an error to those of the pass. Nil adds nothing.
func (r *Record) Fail(err error) {
	if err != nil {
		r.Err = errors.Join(r.Err, err)
		r.Error = r.Err.Error()
	}
}

// Intake is everything that one look at a queue of messages for the controller brought: statuses, or orders.
type Intake struct {
	Pool      pool.Name
	Orders    bool // the queue is that of operators' orders
	At        time.Time
	Outcomes  map[string]int    // how many messages there were of each outcome, named as in metrics
	Said      []Said            // messages of instances for the operator
	Garbage   []Garbage         // messages that do not count; only the first ten of each minute
	Future    []pool.InstanceID // their clocks are far ahead; their statuses count
	Deaf      bool              // from this look on the queue counts as one that cannot be read
	Hears     bool              // the queue could not be read before, and now it can
	Failures  int               // looks in a row that failed
	Err       error             // why the queue could not be read
	Undeleted error             // why messages that were taken in were not deleted; they will come again
	Messages  int
}

// Said is a message of an instance for the operator.
type Said struct {
	Instance pool.InstanceID
	Text     string
}

// Garbage is a message that does not count: it could not be read, or is forged.
type Garbage struct {
	Outcome string // as in Outcomes
	Err     error
	Body    string // its beginning
	Unsaid  int    // how many others there were, unreported, since the last one that was reported
}
