package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"syscall"
	"time"

	"cloudmaster/integration/sample"
	"cloudmaster/internal/backoff"
)

const (
	kills      = 5
	killedJobs = 12 // enough that some are always under way while the kills go on
	killedSize = 400_000_000
	longestRun = 2 * time.Second // of a controller between its start and its kill
	longestOut = time.Second     // between its kill and its next start
)

// controllerKilledOften kills the controller, and its broker with it, at random moments while jobs are taken, worked on
// and reported. Each job still has one result.
func (d *director) controllerKilledOften(ctx context.Context) error {
	seed := uint64(time.Now().UnixNano())
	if d.seed != 0 {
		seed = d.seed
	}
	d.narrate("%d jobs; the controller is killed %d times at random moments (--seed %d)", killedJobs, kills, seed)
	var list []string
	for i := range killedJobs {
		list = append(list, strconv.Itoa(100+i)+"|"+strconv.Itoa(killedSize))
	}
	if err := d.feed(ctx, list...); err != nil {
		return err
	}
	if _, err := d.workingOn(ctx, 0, "100"); err != nil {
		return err
	}
	dice := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // moments need not be secret
	for range kills {
		if err := d.killOnce(ctx, dice); err != nil {
			return err
		}
	}
	if err := d.expect(ctx, "all jobs are done", func() (string, bool) {
		visible, ok1 := d.metric(ctx, `cloudmaster_backlog_messages{kind="visible",pool="primes"}`)
		inFlight, ok2 := d.metric(ctx, `cloudmaster_backlog_messages{kind="in_flight",pool="primes"}`)
		return fmt.Sprintf("%.0f visible, %.0f in flight", visible, inFlight),
			ok1 && ok2 && visible+inFlight == 0 && len(sample.Processed(d.reports())) == d.fed
	}); err != nil {
		return err
	}
	return d.doneOnce(ctx)
}

// killOnce lets the controller run for a while, kills it, and starts it again after a pause.
func (d *director) killOnce(ctx context.Context, dice *rand.Rand) error {
	if !backoff.Wait(ctx, time.Duration(dice.Int64N(int64(longestRun)))) {
		return context.Cause(ctx)
	}
	if err := d.killController(); err != nil {
		return err
	}
	if !backoff.Wait(ctx, time.Duration(dice.Int64N(int64(longestOut)))) {
		return context.Cause(ctx)
	}
	return d.startController(ctx)
}

// serverInterrupted tells a server to end that has a client, as a cloud does that takes its machine back. Nobody is
// sent to it any more, and another one takes its place while it still serves.
func (d *director) serverInterrupted(ctx context.Context) error {
	d.narrate("a client is connected; its server gets SIGTERM")
	client, err := d.connectedClient(ctx)
	if err != nil {
		return err
	}
	victim := slices.Min(ids(d.activeSet(ctx)))
	pid, err := d.pid(victim)
	if err != nil {
		return err
	}
	mark := d.controller.Mark()
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop %s: %w", victim, err)
	}
	if err := d.reported(ctx, "the controller knows why", mark,
		"fib Shutting down instance "+victim+" (interrupted"); err != nil {
		return err
	}
	if err := d.reported(ctx, "it is replaced", mark, "fib Started instance"); err != nil {
		return err
	}
	if err := d.expect(ctx, "the other one is in the active set", func() (string, bool) {
		now := ids(d.activeSet(ctx))
		return fmt.Sprintf("%v", now), len(now) == 1 && now[0] != victim
	}); err != nil {
		return err
	}
	if err := client.Stop(); err != nil {
		return err
	}
	return d.reported(ctx, "the first one ends by itself", mark, "fib Instance "+victim+" is gone (interrupted")
}

// killController kills the controller and keeps what it has reported.
func (d *director) killController() error {
	if err := d.controller.Kill(); err != nil {
		return fmt.Errorf("kill the controller: %w", err)
	}
	d.before = append(d.before, d.controller.Output(0)...)
	return nil
}

// reports returns what all controllers of the play have reported.
func (d *director) reports() []string { return slices.Concat(d.before, d.controller.Output(0)) }

// doneOnce checks that in the whole play no job was lost or done twice. The one whose worker was killed was not
// finished by it.
func (d *director) doneOnce(ctx context.Context) error {
	return d.expect(ctx, "every job has one result", func() (string, bool) {
		results := sample.Processed(d.reports())
		once := 0
		for _, r := range results {
			if len(r) == 1 {
				once++
			}
		}
		return fmt.Sprintf("%d jobs, %d with one result", len(results), once),
			once == len(results) && once == d.fed
	})
}
