package cloud

import (
	"context"

	"cloudmaster/internal/pool"
)

// Event is what a cloud says of instances by itself, beside its lists. The instances may be those of others.
type Event struct {
	Says      Saying
	Instances []pool.InstanceID
	Reason    string // in the cloud's words
}

// Saying is what an Event means. The zero value is invalid.
type Saying int

// The sayings.
const (
	Ends    Saying = iota + 1 // it is about to end, or may soon fail: it should be replaced before
	Changed                   // its state has changed, which the next list shows
	Look                      // a Check now would find something
	Noted                     // it goes on, and people should know
	Ignored                   // nobody need know
)

// Checker is an additional ability that a Cloud may have: it finds instances that are about to end without having been
// told to.
type Checker interface {
	// Check returns what there is to say now, of Ends and Noted, also if it has been said before. An error means that
	// not all could be found; what was found is returned beside it.
	Check(ctx context.Context) ([]Event, error)
}
