package awssetup

import (
	"context"
	"fmt"
	"time"

	"cloudmaster/internal/awsconf"
	"cloudmaster/internal/backoff"
)

// unsettled are the error codes with which IAM and EC2 answer while what was made, changed or removed moments ago is
// not known everywhere yet. Sources: IAM API Reference, "Common Errors" of the actions used here; IAM User Guide,
// "Troubleshooting IAM", "Changes that I make are not always immediately visible"; EC2 API Reference, "Eventual
// consistency in the Amazon EC2 API" and "Error codes".
var unsettled = map[string]bool{
	codeNoEntity:                      true, // a role or instance profile that was just made
	"ConcurrentModification":          true,
	"EntityTemporarilyUnmodifiable":   true, // a name that was just given up
	"DeleteConflict":                  true, // a role whose policies or profiles were just taken away
	codeNoGroup:                       true, // a security group that was just made
	"InvalidSecurityGroupID.NotFound": true,
	codeInUse:                         true, // a security group whose instances have just ended
}

// Codes that mean something in one place more.
const (
	codeNoGroup = "InvalidGroup.NotFound"
	codeInUse   = "DependencyViolation"
)

// The pauses of settled grow from the least to the most. All of them together take at most settleFor.
const (
	leastPause = 250 * time.Millisecond
	mostPause  = 5 * time.Second
	settleFor  = 45 * time.Second
)

// settled makes a call that follows another change, and makes it again while its error says that this change is not
// known everywhere yet. A call that may not be repeated must not be given to it.
func settled(ctx context.Context, call func(context.Context) error) error {
	begun := time.Now()
	for failures := 1; ; failures++ {
		err := call(ctx)
		if err == nil || !unsettled[awsconf.Code(err)] {
			return err
		}
		pause := backoff.Delay(failures, leastPause, mostPause)
		if waited := time.Since(begun); waited+pause > settleFor {
			return fmt.Errorf("still so after %s: %w", waited.Round(time.Second), err)
		}
		if !backoff.Wait(ctx, pause) {
			return context.Cause(ctx)
		}
	}
}
