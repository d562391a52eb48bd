// Command growth measures how the time of each hot path grows, and how fast those paths are that have a peer. It fails
// if ten times the instances cost more than 15 times the time, or if a path is slower beside its peer than it may be.
// Each figure is made in one run on one machine, so a slow or a shared one does not change the judgement.
//
// What it measures are the benchmarks that paths.go lists. It runs them in rounds, each of which has all sizes, and
// takes the lower of the median of the rounds and of the fastest ones. What seems to be too slow is measured again,
// twice at most, because other programs may have disturbed it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"cloudmaster/internal/daemon"
)

func main() { os.Exit(daemon.Main("growth", run)) }

// settings are what the command line says.
type settings struct {
	rounds    int
	benchtime string
	only      *regexp.Regexp
	page      string // where the table goes; empty: nowhere
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	set, err := parse(args, stderr)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "growth")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	l := &lab{dir: dir, settings: set, log: stderr}
	if len(l.rows()) == 0 {
		return daemon.Usagef("no path matches --run %s", set.only)
	}
	rows, err := l.measure(ctx)
	if err != nil {
		return err
	}
	fmt.Fprint(stdout, plain(rows))
	var failed []error
	for i := range rows {
		failed = append(failed, rows[i].verdict())
	}
	if err := errors.Join(failed...); err != nil {
		return err
	}
	if set.page == "" {
		return nil
	}
	made, err := caption(ctx, time.Now())
	if err != nil {
		return err
	}
	return update(set.page, made+markdown(rows))
}

func parse(args []string, stderr io.Writer) (settings, error) {
	fs := pflag.NewFlagSet("growth", pflag.ContinueOnError)
	fs.SetOutput(stderr)
	rounds := fs.Int("rounds", 5, "how often each benchmark runs; the median counts")
	benchtime := fs.String("benchtime", "50ms", "how long a benchmark of growth runs in a round")
	only := fs.String("run", "", "measure only paths whose names match")
	page := fs.String("update", "", "write the table into this page, between its markers, if nothing failed")
	switch err := fs.Parse(args); {
	case errors.Is(err, pflag.ErrHelp):
		return settings{}, daemon.ErrDone
	case err != nil:
		return settings{}, daemon.Usagef("%v", err)
	case fs.NArg() > 0 || *rounds < 1:
		return settings{}, daemon.Usagef("growth takes no arguments, and at least one round")
	}
	pattern, err := regexp.Compile(*only)
	if err != nil {
		return settings{}, daemon.Usagef("--run: %v", err)
	}
	if *page != "" && *only != "" {
		return settings{}, daemon.Usagef("--update needs all paths, and --run leaves some out")
	}
	return settings{rounds: *rounds, benchtime: *benchtime, only: pattern, page: strings.TrimSpace(*page)}, nil
}
