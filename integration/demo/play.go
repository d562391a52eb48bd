package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"cloudmaster/integration/program"
)

// row is one line of the table at the end.
type row struct {
	act, expected, seen string
	ok                  bool
}

// director plays the acts on a stage, and remembers what it saw.
type director struct {
	*stage
	act  string
	rows []row
	cast cast

	fed    int      // jobs sent in all acts
	before []string // what the controllers that were killed have reported
}

var errFailed = errors.New("FAIL")

// play plays all acts. It returns an error if an act saw something else than was expected.
func play(ctx context.Context, opts options, out io.Writer) (err error) {
	s, err := newStage(ctx, opts, out, false, true)
	if err != nil {
		return err
	}
	d := &director{stage: s}
	began := time.Now()
	played := d.acts(ctx)
	closed := s.close(ctx)
	d.table()
	if err := errors.Join(played, closed, d.verdict()); err != nil {
		fmt.Fprintf(out, "demo: FAIL after %s (details: %s)\n", time.Since(began).Round(time.Second), s.stderr.Name())
		return err
	}
	fmt.Fprintf(out, "demo: PASS in %s\n", time.Since(began).Round(time.Second))
	return nil
}

func (d *director) acts(ctx context.Context) error {
	d.narrate("the controller starts, with its own message broker at %s", d.broker)
	if err := d.startController(ctx); err != nil {
		return err
	}
	d.narrate("the allocator starts at http://%s", d.allocator)
	if err := d.startAllocator(ctx); err != nil {
		return err
	}
	for _, act := range []struct {
		name string
		play func(context.Context) error
	}{
		{"primes: start-up", d.primesStartUp},
		{"primes: grow and shrink", d.primesGrowAndShrink},
		{"fibonacci: start-up", d.fibStartUp},
		{"fibonacci: grow", d.fibGrow},
		{"fibonacci: shrink", d.fibShrink},
		{"fault: a worker is killed", d.workerKilled},
		{"fault: a server gets SIGTERM", d.serverInterrupted},
		{"fault: kills at random", d.controllerKilledOften},
		{"fault: the controller is killed", d.controllerKilled},
	} {
		d.act = act.name
		if err := act.play(ctx); err != nil {
			return fmt.Errorf("%s: %w", act.name, err)
		}
	}
	return nil
}

// narrate prints one line that says what happens next.
func (d *director) narrate(format string, args ...any) {
	fmt.Fprintf(d.out, "\n>>> "+format+"\n", args...)
}

// patience is how long an expectation may take to come true, also on a slow machine.
const patience = 60 * time.Second

// expect looks until it sees what is expected, and records what it saw. If it returns an error, the
// act cannot go on.
func (d *director) expect(ctx context.Context, expected string, look func() (string, bool)) error {
	seen := program.Until(ctx, patience, look)
	d.rows = append(d.rows, row{act: d.act, expected: expected, seen: seen.Text, ok: seen.Err == nil})
	if seen.Err != nil {
		return fmt.Errorf("expected %s, saw %q: %w", expected, seen.Text, seen.Err)
	}
	return nil
}

// reported waits for a line of the controller's report, after the mark, that contains all the parts.
func (d *director) reported(ctx context.Context, expected string, after int, parts ...string) error {
	return d.expect(ctx, expected, func() (string, bool) {
		line, ok := program.Find(d.controller.Output(after), parts...)
		return strings.TrimSpace(line), ok
	})
}

// table prints what each act expected and what was seen.
func (d *director) table() {
	w := tabwriter.NewWriter(d.out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "\nact\texpected\tseen\t\n")
	for _, r := range d.rows {
		mark := "ok"
		if !r.ok {
			mark = "FAILED"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", r.act, r.expected, shorten(r.seen), mark)
	}
	_ = w.Flush() // fails only if the terminal is gone
}

func shorten(s string) string {
	const most = 70
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}

func (d *director) verdict() error {
	for _, r := range d.rows {
		if !r.ok {
			return errFailed
		}
	}
	return nil
}
