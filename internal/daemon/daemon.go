// Package daemon is what the main functions of all programs share: signals and exit codes, settings from flags,
// environment and file, the logger, the version, and the endpoint for health and metrics.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
)

// The exit codes of every program.
const (
	ExitOK    = 0
	ExitError = 1 // the program could not do what it was asked
	ExitUsage = 2 // it was called in the wrong way: flags, arguments or settings
)

// ErrDone ends a program early and well: help or the version was printed.
var ErrDone = errors.New("done")

// errStop is the cause of a context that a signal has ended.
type errStop struct{ sig os.Signal }

// Error names the signal.
func (e errStop) Error() string { return "stopped by signal: " + e.sig.String() }

// Stopped reports whether ctx ended because the process was asked to stop.
func Stopped(ctx context.Context) bool {
	_, ok := errors.AsType[errStop](context.Cause(ctx))
	return ok
}

// usageError wraps what was wrong in the way the program was called.
type usageError struct{ error }

// Unwrap returns what was wrong.
func (e usageError) Unwrap() error { return e.error }

// Usagef returns an error that makes Main exit with ExitUsage. It formats as fmt.Errorf does.
func Usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

// hangups says whether the program handles SIGHUP itself: see Hangups. It is one variable for the whole
// process, because signals are the process's.
var hangups atomic.Bool

// Hangups returns a channel that receives a value for each SIGHUP from now on, until ctx ends. SIGHUP does
// not stop the program any more: it asks it to read its configuration again. Several signals in a row may
// give one value.
func Hangups(ctx context.Context) <-chan struct{} {
	hangups.Store(true)
	signals, out := make(chan os.Signal, 1), make(chan struct{}, 1)
	signal.Notify(signals, syscall.SIGHUP)
	go func() {
		// A program that is stopping reads nothing again, and is not to be killed by the request either.
		defer signal.Ignore(syscall.SIGHUP)
		for {
			select {
			case <-ctx.Done():
				return
			case <-signals:
			}
			select {
			case out <- struct{}{}:
			default:
			}
		}
	}()
	return out
}

// Main runs a program and returns its exit code. ctx ends at SIGINT and SIGTERM, and at SIGHUP (the terminal
// is gone) unless the program has called Hangups. A second signal ends the process at once, as if there were
// no handler. args are those after the program's name. An error is printed to stderr, after the program's
// name. ErrDone, and errors that are only the effect of a signal, are not printed.
func Main(name string, run func(ctx context.Context, args []string, stdout, stderr io.Writer) error) int {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) { // nohup has SIGHUP ignored, and it must stay so
		signal.Notify(signals, syscall.SIGHUP)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	over := make(chan struct{})
	defer close(over)
	wg.Go(func() {
		defer signal.Stop(signals)
		for {
			select {
			case sig := <-signals:
				if sig == syscall.SIGHUP && hangups.Load() {
					continue
				}
				// Before ctx ends, so that whoever sees that can rely on the default effect of the next signal.
				signal.Stop(signals)
				cancel(errStop{sig: sig})
			case <-over:
			}
			return
		}
	})
	return exitCode(ctx, name, run(ctx, os.Args[1:], os.Stdout, os.Stderr), os.Stderr)
}

func exitCode(ctx context.Context, name string, err error, stderr io.Writer) int {
	_, stopped := errors.AsType[errStop](err)
	switch {
	case err == nil, errors.Is(err, ErrDone), stopped:
		return ExitOK
	case errors.Is(err, context.Canceled) && Stopped(ctx):
		return ExitOK
	}
	fmt.Fprintf(stderr, "%s: %v\n", name, err)
	if _, ok := errors.AsType[usageError](err); ok {
		fmt.Fprintf(stderr, "Run %q for usage.\n", name+" --help")
		return ExitUsage
	}
	return ExitError
}

// Group runs the functions side by side and returns when all have returned. The first error is returned, and ends the
// context of the other functions with that error as its cause. When a function returns nil the others go on.
func Group(ctx context.Context, fs ...func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		wg    sync.WaitGroup
		once  sync.Once
		first error
	)
	for _, f := range fs {
		wg.Go(func() {
			if err := f(ctx); err != nil {
				once.Do(func() {
					first = err
					cancel(err) // within Do, so that the cause and the returned error are the same
				})
			}
		})
	}
	wg.Wait()
	return first
}

// Version returns the revision that the binary was built from, and the version of Go.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	revision, dirty := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "-dirty"
		}
	}
	if revision == "" {
		revision = "unversioned"
	}
	return fmt.Sprintf("%.12s%s %s", revision, dirty, info.GoVersion)
}
