package cloud

import (
	"context"

	"cloudmaster/internal/pool"
)

// Stopper is what a Cloud implements as well if its instances can be stopped and started again, and not only
// ended.
//
// A stopped instance keeps its id, its tags, its disk and its place in lists (as Stopped). Its programs do not
// run, and its memory and, as a rule, its addresses are lost. It takes no capacity, so that the cloud may have
// none when it is started. It is not free: on EC2 its volumes are paid for.
//
// Instances that are not the deployment's, or are gone, are passed over by Stop, and refused by Start: as
// ErrNotFound if they never existed or are not the deployment's. What is not certain about other calls is not
// certain here: after an error that is none of this package's, the call may have taken effect.
type Stopper interface {
	// Stop stops instances. It returns when the cloud has accepted that, before they have stopped: until then they are
	// Halting. It is not an error if an instance is stopped already, or ends. It returns ErrInvalid if an instance can
	// never be stopped (on EC2: one of a spot request that is for one launch).
	Stop(ctx context.Context, ids ...pool.InstanceID) error

	// Start starts instances that are Stopped, all of them or none if it returns one of this package's errors that
	// Refused knows. They are Pending, then Running. It is not an error if an instance runs already, or begins to. It
	// returns ErrCapacity if there is no room now, and ErrNotStopped if one is still Halting.
	Start(ctx context.Context, ids ...pool.InstanceID) error
}
