// Package record has the values that say what a controller did: one for each pass of a pool, and one for
// each look at its status queue. Logs, metrics and reports are made from them and compute nothing themselves.
package record

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"cloudmaster/internal/pool"
)

// Record is all that one pass saw, decided and did.
type Record struct {
	Pool   pool.Name     `json:"pool"`
	At     time.Time     `json:"at"`     // when the pass began
	Took   time.Duration `json:"took"`   // until it ended
	Number uint64        `json:"number"` // of the pass, counted from the start of this pool in this controller

	// Blind is why nothing was decided: there is no lease, or the cloud has not been listed yet. Empty if something was.
	Blind string `json:"blind,omitempty"`

	// What was seen.
	Seen    pool.Snapshot     `json:"-"`                 // what the policy looked at
	Inputs  Inputs            `json:"inputs"`            // how old it was
	Adopted []pool.InstanceID `json:"adopted,omitempty"` // instances that ran already when this controller began
	Began   []pool.InstanceID `json:"began,omitempty"`   // instances that have reported for the first time and are active now
	Gone    []pool.Ending     `json:"gone,omitempty"`    // instances that lists do not show any more, and why they ended
	Outside []pool.Ending     `json:"outside,omitempty"` // instances that the cloud ends although this controller did not ask for it

	// What was decided. Decision is empty while Blind says why.
	Decision pool.Decision `json:"-"`
	Words    string        `json:"decision,omitempty"` // the decision on one line
	Breaker  Breaker       `json:"breaker"`
	Policy   string        `json:"policy_error,omitempty"` // why the policy could not decide
	Wait     *Wait         `json:"wait,omitempty"`         // why launches that the decision asks for wait

	// What was done.
	Launches    []Launch          `json:"launches,omitempty"`
	Reactivated []pool.InstanceID `json:"reactivated,omitempty"`
	Endings     []Ending          `json:"endings,omitempty"`
	Calls       []Call            `json:"calls,omitempty"` // all that the pass made, in order

	// How it is now.
	Instances []pool.Instance `json:"instances"`
	Tell      bool            `json:"tell,omitempty"`     // it is time to tell people how the pool is
	Failures  int             `json:"failures,omitempty"` // passes in a row that ended in an error, this one included
	Err       error           `json:"-"`
	Error     string          `json:"error,omitempty"` // what Err says
	Next      time.Time       `json:"next"`            // when the next pass is due although nothing happens
	NotBefore time.Time       `json:"not_before"`      // and not before this, whatever happens
}

// Inputs is how old what a pass saw was when it began. A negative age means that it was never read, or is unknown.
type Inputs struct {
	List     time.Duration `json:"list"`
	ListErr  string        `json:"list_error,omitempty"` // why the newest attempt to list failed
	Backlog  time.Duration `json:"backlog"`
	Statuses time.Duration `json:"statuses"`       // since the most silent counted instance was heard
	Deaf     bool          `json:"deaf,omitempty"` // statuses do not reach this controller, or not all have been taken in yet
}

// InputsOf returns how old what a snapshot holds is.
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

// Unknown is the age of what is not known.
const Unknown time.Duration = -1

// Breaker is what the watchdog saw.
type Breaker struct {
	Open    bool `json:"open,omitempty"`
	Changed bool `json:"changed,omitempty"` // it was the other way in the last pass
	Silent  int  `json:"silent,omitempty"`
	Active  int  `json:"active,omitempty"`
}

// String says for people what the breaker does.
func (b Breaker) String() string {
	if !b.Open {
		return "breaker closed: statuses return"
	}
	return fmt.Sprintf("breaker open: %d of %d instances are silent, which is likely our fault; nothing is replaced", b.Silent, b.Active)
}

// Wait is why launches wait, and until when at the latest.
type Wait struct {
	Token string    `json:"token"`
	Count int       `json:"count"` // instances of the launch that they wait for
	At    time.Time `json:"at"`    // when it was asked for
	Until time.Time `json:"until"`
}

// Launch is one request to the cloud.
type Launch struct {
	Token   string            `json:"token"`
	Asked   int               `json:"asked"`             // instances that the request is for
	Again   bool              `json:"again,omitempty"`   // the answer to an earlier request with this token was lost
	Started []pool.InstanceID `json:"started,omitempty"` // by this answer, those told of before not counted
	Open    bool              `json:"open,omitempty"`    // it is not known whether it took effect
	Reason  string            `json:"reason,omitempty"`  // class of the failure, as metrics name it
	Error   string            `json:"error,omitempty"`
}

// Act is how an instance is ended.
type Act string

// The acts.
const (
	ShutDown  Act = "shut_down"  // it drains
	Stop      Act = "stop"       // it is told to end
	StopAgain Act = "stop_again" // it was told before, and the cloud has not confirmed it
)

// Ending is one instance that this pass drained or ended.
type Ending struct {
	pool.Ending
	Act Act `json:"act"`
	// Spared is why nothing was done after all: it has reported since the snapshot was made.
	Spared bool `json:"spared,omitempty"`
	// Unpublished is that the instance was not touched, because the active set without it could not be written.
	Unpublished bool   `json:"unpublished,omitempty"`
	Error       string `json:"error,omitempty"`
}

// Call is one call to a cloud, a broker or a store.
type Call struct {
	Op    string        `json:"op"` // as "cloud.terminate"
	About string        `json:"about,omitempty"`
	Took  time.Duration `json:"took"`
	Error string        `json:"error,omitempty"`
}

// Fail adds an error to what went wrong in the pass. Nil adds nothing.
func (r *Record) Fail(err error) {
	if err != nil {
		r.Err = errors.Join(r.Err, err)
		r.Error = r.Err.Error()
	}
}

// Done lists the instances that were drained or ended for this act.
func (r *Record) Done(act Act) []Ending {
	return slices.DeleteFunc(slices.Clone(r.Endings), func(e Ending) bool { return e.Act != act || e.Spared })
}

// Intake is all that one look at a queue of messages for the controller brought: statuses, or orders.
type Intake struct {
	Pool      pool.Name
	Orders    bool // the queue is that of operators' orders
	At        time.Time
	Outcomes  map[string]int    // messages by what became of them, as metrics name it
	Said      []Said            // what instances have for the operator
	Garbage   []Garbage         // messages that could not be read: the first of each minute
	Future    []pool.InstanceID // whose clocks are too far ahead of ours
	Deaf      bool              // since this look the queue counts as unreadable
	Hears     bool              // it could not be read, and now it can
	Failures  int               // looks in a row that failed
	Err       error             // why the queue could not be read
	Undeleted error             // why messages that were taken in could not be deleted; they will come again
	Messages  int
}

// Said is a message of an instance for the operator.
type Said struct {
	Instance pool.InstanceID
	Text     string
}

// Garbage is a message that could not be read.
type Garbage struct {
	Err    error
	Body   string // its beginning
	Unsaid int    // others since the last one that was told of
}
