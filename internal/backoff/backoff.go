// Package backoff decides how long to wait before something is tried again, and waits.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Delay returns how long to wait after this number of failures in a row (≥ 1). The wait begins at least and doubles
// with each failure up to most. Half of it is random, so that programs that failed at the same moment do not all
// try again at the same moment.
func Delay(failures int, least, most time.Duration) time.Duration {
	d := most
	if doublings := max(0, failures-1); doublings < 32 && least < most>>doublings {
		d = least << doublings
	}
	return d/2 + rand.N(d/2+1)
}

// Wait waits for d and returns true, or returns false as soon as ctx ends.
func Wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
