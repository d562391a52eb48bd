// Package backoff is how everything here waits before it tries again.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Delay returns how long to wait after so many failures in a row (≥ 1). It doubles
// from least to most; half of it is chance, so that those who failed together do not come
// back together.
func Delay(failures int, least, most time.Duration) time.Duration {
	d := most
	if doublings := max(0, failures-1); doublings < 32 && least < most>>doublings {
		d = least << doublings
	}
	return d/2 + rand.N(d/2+1)
}

// Wait waits and reports whether it did so to the end: not if ctx ended before.
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
