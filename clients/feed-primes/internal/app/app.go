// Package app is the program feed-primes: it connects to the broker, sends the jobs that it was asked for, and prints
// what it has sent.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"

	"github.com/schollz/progressbar/v3"

	"cloudmaster/clients/feed-primes/internal/feed"
	"cloudmaster/internal/backend"
	"cloudmaster/internal/daemon"
	"cloudmaster/internal/hint"
	"cloudmaster/internal/queue"
	"cloudmaster/internal/sample/primesjob"
)

// Name is the program's name.
const Name = "feed-primes"

// policyFile has the rights that the program needs on AWS, for the advice in errors.
const policyFile = "deploy/aws/feed-primes.json"

// many is the number of jobs from which on progress is shown as a bar.
const many = 1000

// Program is feed-primes with what main decides.
type Program struct {
	Openers  backend.Openers      // the message brokers it can speak to
	Stdin    io.Reader            // jobs, if they are asked for with -
	Terminal func(io.Writer) bool // whether a writer is a terminal; nil: none is
}

// Run sends jobs until all are sent or ctx ends.
func (p Program) Run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	set, err := parse(args, stdout)
	if err != nil {
		return err
	}
	b, q, err := p.connect(ctx, set, stderr)
	if err != nil {
		return err
	}
	var hints *hint.Sender // nil sends none
	if hint.Needed(q) {
		hints = hint.New(b, hint.Options{Work: set.queue, Hints: set.hints, Log: daemon.Logger(stderr, set.flags)})
	}
	hints.Open(ctx)
	err = p.feed(ctx, set, q, hints, stdout, stderr)
	hints.Flush(ctx)
	return errors.Join(err, b.Close())
}

// errTimeout is the cause of a context that ended because --timeout was over.
var errTimeout = errors.New("the time for it is over")

// connect opens the backend, for which it waits as long as the timeout says, and the queue.
func (p Program) connect(ctx context.Context, set settings, stderr io.Writer) (backend.Backend, queue.Queue, error) {
	timed, cancel := context.WithTimeoutCause(ctx, set.timeout, errTimeout)
	defer cancel()
	b, err := backend.Open(timed, set.backend, p.Openers, backend.Options{
		Client: Name, PolicyFile: policyFile, Log: daemon.Logger(stderr, set.flags),
	})
	if err != nil {
		if context.Cause(timed) == errTimeout { //nolint:errorlint // our own, and never wrapped
			return nil, nil, fmt.Errorf("no broker at %s within %s: start the controller, "+
				"or say where the broker is with --backend: %w", backend.Redacted(set.backend), set.timeout, err)
		}
		if ctx.Err() != nil {
			return nil, nil, unfinished(ctx, 0, err)
		}
		return nil, nil, err
	}
	q, err := b.Queue(timed, set.queue)
	switch {
	case errors.Is(err, queue.ErrNotFound):
		err = fmt.Errorf("there is no queue %s at %s: start the controller or, on AWS, run controller setup, "+
			"which create it; or choose another with --queue: %w", set.queue, backend.Redacted(set.backend), err)
	case err != nil:
		err = fmt.Errorf("open queue %s: %w", set.queue, err)
	default:
		return b, q, nil
	}
	return nil, nil, errors.Join(err, b.Close())
}

// feed sends what the settings ask for.
func (p Program) feed(
	ctx context.Context, set settings, q queue.Queue, hints *hint.Sender, stdout, stderr io.Writer,
) error {
	seed := set.seed
	if seed == 0 {
		seed = rand.Uint64()
	}
	refused := 0
	sources := []feed.Source{feed.NewList(set.jobs), feed.NewRandom(set.random, set.first, set.max, seed)}
	if set.lines {
		sources = append(sources, feed.NewLines("stdin", p.Stdin, set.ceiling, func(err error) {
			refused++
			fmt.Fprintf(stderr, "%s: refused %v\n", Name, err)
		}))
	}
	tell, done := p.display(set, stdout, stderr)
	sent, err := feed.Run(ctx, q, feed.Options{Rate: set.rate, Sent: func(jobs []primesjob.Job) {
		hints.Stored(ctx)
		tell(jobs)
	}}, sources...)
	done()
	switch {
	case err != nil:
		return unfinished(ctx, sent, err)
	case refused > 0:
		return fmt.Errorf("sent %d jobs, refused %d lines", sent, refused)
	}
	return nil
}

// unfinished says how many jobs were sent when the feed ended early.
func unfinished(ctx context.Context, sent int, err error) error {
	reason := err
	if ctx.Err() != nil { // not wrapped: daemon.Main would take a wrapped stop for success
		reason = errors.New("stopped")
	}
	if doubt, ok := errors.AsType[*feed.Doubt](err); ok {
		return fmt.Errorf("sent %d jobs for certain, and of %d more some or none: %w", sent, doubt.Jobs, reason)
	}
	return fmt.Errorf("sent %d jobs: %w", sent, reason)
}

// display returns the function that shows sent jobs, and one that ends the display. Each job is a line on stdout. For
// many jobs there is a bar on stderr as well if that is a terminal; if stdout is a terminal, too, the lines are left
// out.
func (p Program) display(set settings, stdout, stderr io.Writer) (tell func([]primesjob.Job), done func()) {
	total := len(set.jobs) + set.random
	lines := func(jobs []primesjob.Job) {
		for _, job := range jobs {
			fmt.Fprintf(stdout, "sent %s\n", job.Encode())
		}
	}
	if total < many || set.lines || !p.terminal(stderr) {
		return lines, func() {}
	}
	quiet := p.terminal(stdout)
	bar := progressbar.NewOptions(total,
		progressbar.OptionSetWriter(stderr), progressbar.OptionSetDescription("sending"),
		progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionSetItsString("jobs"),
		progressbar.OptionSetPredictTime(true))
	return func(jobs []primesjob.Job) {
			_ = bar.Add(len(jobs)) // an error of the display is no reason to stop
			if !quiet {
				lines(jobs)
			}
		}, func() {
			_ = bar.Exit()
			fmt.Fprintln(stderr)
		}
}

func (p Program) terminal(w io.Writer) bool { return p.Terminal != nil && p.Terminal(w) }
