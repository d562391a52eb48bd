package program

import (
	"context"
	"errors"
	"time"
)

// Sight is what Until has seen.
type Sight struct {
	Text string
	Err  error // why it was not what was expected; nil if it was
}

var errNotSeen = errors.New("not seen in time")

// Until calls look again and again, until it returns true, the time is over, or ctx ends.
func Until(ctx context.Context, timeout time.Duration, look func() (string, bool)) Sight {
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		text, ok := look()
		if ok {
			return Sight{Text: text}
		}
		select {
		case <-ctx.Done():
			return Sight{Text: text, Err: context.Cause(ctx)}
		case <-deadline.C:
			return Sight{Text: text, Err: errNotSeen}
		case <-tick.C:
		}
	}
}
