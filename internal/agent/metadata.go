package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"cloudmaster/internal/backoff"
	"cloudmaster/internal/cloud"
	"cloudmaster/internal/pool"
)

// Metadata is what a cloud tells the machine that this process runs on.
type Metadata interface {
	// OnEC2 reports whether there is metadata to ask for. It uses no network and returns at once.
	OnEC2() bool
	// UserData returns the document that the machine was launched with; empty if there is none.
	UserData(ctx context.Context) ([]byte, error)
	InstanceID(ctx context.Context) (string, error)
	// Host returns the name or address that clients reach the machine by; with private, that of clients in its own
	// network. Empty if it has none.
	Host(ctx context.Context, private bool) (string, error)
	// Interruption says what the cloud is about to do with the machine; empty if nothing.
	Interruption(ctx context.Context) (string, error)
}

const (
	metadataPatience = 30 * time.Second // for all questions together; at boot the service may start late
	leastAskAgain    = 100 * time.Millisecond
	mostAskAgain     = 5 * time.Second
)

// identifyByMetadata asks the cloud who this instance is.
func identifyByMetadata(ctx context.Context, m Metadata) (UserData, error) {
	ctx, cancel := context.WithTimeout(ctx, metadataPatience)
	defer cancel()
	id, err := ask(ctx, "instance id", m.InstanceID)
	if err != nil {
		return UserData{}, err
	}
	doc, err := ask(ctx, "user data", m.UserData)
	if err != nil {
		return UserData{}, err
	}
	if len(doc) == 0 {
		return UserData{}, fmt.Errorf("%w (%s is not set, and instance %s was launched without)",
			ErrNoUserData, EnvUserData, id)
	}
	u, err := decode(doc, false)
	if err != nil {
		return UserData{}, fmt.Errorf("instance %s: %w; %s", id, err, byHand)
	}
	u.InstanceID = pool.InstanceID(id)
	host := func(ctx context.Context) (string, error) { return m.Host(ctx, u.Address == cloud.PrivateAddress) }
	if u.Host, err = ask(ctx, "address", host); err != nil {
		return UserData{}, err
	}
	return u, nil
}

const byHand = "to run by hand on such a machine, set AWS_EC2_METADATA_DISABLED=true"

// ask repeats a question until it is answered or ctx ends.
func ask[T any](ctx context.Context, what string, question func(context.Context) (T, error)) (T, error) {
	start := time.Now()
	var last error
	for tries := 1; ; tries++ {
		answer, err := question(ctx)
		if err == nil {
			return answer, nil
		}
		if last == nil || ctx.Err() == nil { // a try that was cut short says less than the one before
			last = err
		}
		if backoff.Wait(ctx, backoff.Delay(tries, leastAskAgain, mostAskAgain)) {
			continue
		}
		if cause := context.Cause(ctx); !errors.Is(cause, context.DeadlineExceeded) {
			return answer, fmt.Errorf("ask the cloud for this instance's %s: %w", what, cause)
		}
		return answer, fmt.Errorf("ask the cloud for this instance's %s: no answer to %d tries in %s: %w; %s",
			what, tries, time.Since(start).Round(time.Second), last, byHand)
	}
}
