package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"time"

	"cloudmaster/clients/fib-client/internal/allocate"
	"cloudmaster/clients/fib-client/internal/session"
	"cloudmaster/internal/backoff"
)

const (
	// giveUpAfter is how long the program looks for another server if it was not called with --wait.
	giveUpAfter = 5 * time.Minute

	minBackoff    = 200 * time.Millisecond
	maxBackoff    = 10 * time.Second
	minRetryAfter = time.Second // used if the allocator says less, because it has other clients as well
	maxRetryAfter = 5 * time.Minute
)

// asker is the allocator.
type asker interface {
	Ask(ctx context.Context, pool string) (allocate.Server, error)
}

// runner prints numbers over as many connections as it takes.
type runner struct {
	settings

	allocator asker // nil: the server is given
	dial      func(ctx context.Context, address string) (net.Conn, error)
	stdout    io.Writer
	notes     io.Writer

	printed  int       // numbers so far
	failures int       // since the last number
	since    time.Time // of the first of these failures
}

// unreachableError is an error of a server that the allocator has named.
type unreachableError struct{ err error }

func (e *unreachableError) Error() string { return e.err.Error() }
func (e *unreachableError) Unwrap() error { return e.err }

// outputError is an error of our own standard output.
type outputError struct{ err error }

func (e *outputError) Error() string { return "write the number: " + e.err.Error() }
func (e *outputError) Unwrap() error { return e.err }

// run prints until there were enough numbers or ctx ends, which is no error.
func (r *runner) run(ctx context.Context) error {
	for {
		err := r.converse(ctx)
		if err == nil || ctx.Err() != nil {
			return nil //nolint:nilerr // to be stopped is no error, whatever it interrupted
		}
		pause, again := r.retry(err)
		if !again {
			return r.final(err)
		}
		fmt.Fprintf(r.notes, "%s: %v; trying again in %s\n", Name, err, pause.Round(100*time.Millisecond))
		if !backoff.Wait(ctx, pause) {
			return nil
		}
	}
}

// converse finds a server and prints its numbers: nil when there were enough.
func (r *runner) converse(ctx context.Context) error {
	address, err := r.find(ctx)
	if err != nil {
		return err
	}
	conn, err := r.dial(ctx, address)
	if err != nil {
		return r.away(fmt.Errorf("connect to server %s: %w", address, err))
	}
	s := session.New(conn)
	defer s.Quit()
	for first := true; ; first = false {
		number, err := s.Next(ctx)
		if err != nil {
			return r.away(fmt.Errorf("server %s: %w", address, err))
		}
		if first && r.printed > 0 {
			fmt.Fprintf(r.notes, "%s: moved to server %s; numbers start again at 1\n", Name, address)
		}
		if _, err := fmt.Fprintln(r.stdout, number); err != nil {
			return &outputError{err: err}
		}
		r.printed++
		r.failures = 0
		if r.printed == r.count {
			return nil
		}
		if !backoff.Wait(ctx, r.interval) {
			return context.Cause(ctx)
		}
	}
}

func (r *runner) find(ctx context.Context) (address string, err error) {
	if r.allocator == nil {
		return r.server, nil
	}
	s, err := r.allocator.Ask(ctx, r.pool)
	return s.Address, err
}

// away marks an error of a server after which the allocator may name another.
func (r *runner) away(err error) error {
	if r.allocator == nil {
		return err
	}
	return &unreachableError{err: err}
}

// retry decides whether to go on after an error, and after which pause.
//
// With --wait it always goes on. Else, before the first number, the program ends if the allocator has no server, or if
// the allocator, or the server that --server names, cannot be reached. If a server that the allocator named cannot be
// reached it goes on, because the allocator may name another; if this address has asked too often, because it may ask
// again soon; and after the first number it goes on in all these cases, because servers and allocators may restart. It
// does so for up to giveUpAfter.
func (r *runner) retry(err error) (pause time.Duration, again bool) {
	if _, ours := errors.AsType[*outputError](err); ours || errors.Is(err, session.ErrProtocol) {
		return 0, false
	}
	if r.failures == 0 {
		r.since = time.Now()
	}
	r.failures++
	pause = backoff.Delay(r.failures, minBackoff, maxBackoff)
	none, _ := errors.AsType[*allocate.NoServersError](err)
	many, busy := errors.AsType[*allocate.TooManyError](err)
	switch {
	case none != nil && none.RetryAfter > 0:
		pause = told(none.RetryAfter)
	case busy && many.RetryAfter > 0:
		pause = told(many.RetryAfter)
	}
	if r.wait {
		return pause, true
	}
	_, away := errors.AsType[*unreachableError](err)
	inTime := time.Since(r.since)+pause <= giveUpAfter
	return pause, inTime && (r.printed > 0 || away || busy)
}

// told returns the pause that the allocator asks for, within reason.
func told(after time.Duration) time.Duration {
	return jitter(min(max(after, minRetryAfter), maxRetryAfter))
}

// final returns the error that the program ends with. If there is no server, it also prints the allocator's sentence as
// the one line of standard output, for people and for scripts.
func (r *runner) final(err error) error {
	none, ok := errors.AsType[*allocate.NoServersError](err)
	if !ok {
		return err
	}
	if _, err := fmt.Fprintln(r.stdout, none.Detail); err != nil {
		return &outputError{err: err}
	}
	return fmt.Errorf("pool %s has no server yet: try again later or use --wait", r.pool)
}

// jitter adds up to a tenth to a pause. It never shortens one.
func jitter(d time.Duration) time.Duration { return d + rand.N(d/10) }
