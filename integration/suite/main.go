// Command suite runs the tests that need LocalStack, with one: a container of
// its own, or the one that LOCALSTACK_ENDPOINT names. It says in a line how each
// test went. A test that was skipped because it found no LocalStack is a failure here.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"cloudmaster/integration/localstack"
	"cloudmaster/internal/daemon"
)

// killAfter is how long go test may take to end its tests once it was told to.
const killAfter = 10 * time.Second

func main() { os.Exit(daemon.Main("suite", run)) }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	fs := pflag.NewFlagSet("suite", pflag.ContinueOnError)
	fs.SetOutput(stderr)
	only := fs.String("run", "", "run only tests that match, as go test takes it")
	debug := fs.Bool("debug", false, "say what happens to the container")
	switch err := fs.Parse(args); {
	case errors.Is(err, pflag.ErrHelp):
		return daemon.ErrDone
	case err != nil:
		return daemon.Usagef("%v", err)
	case fs.NArg() == 0:
		return daemon.Usagef("name the packages to test")
	}
	// Elsewhere it is well to end when told to. Tests that did not all run have not passed.
	defer func() {
		if daemon.Stopped(ctx) {
			err = fmt.Errorf("%v, before the end", context.Cause(ctx)) //nolint:errorlint // the cause would make the exit code 0
		}
	}()
	endpoint, stop, err := localstack.Start(ctx, daemon.NewLogger(stderr, level(*debug)))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	fmt.Fprintf(stdout, "LocalStack at %s\n", endpoint)
	return test(ctx, command(ctx, endpoint, *only, fs.Args()), stdout, stderr)
}

// command is go test with what the tests need to know in its environment.
func command(ctx context.Context, endpoint, only string, packages []string) *exec.Cmd {
	args := []string{"test", "-count=1", "-json", "-parallel", "4"} // they wait more than they work
	if only != "" {
		args = append(args, "-run", only)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, packages...)...)
	cmd.Env = append(os.Environ(),
		localstack.EndpointVar+"="+endpoint,
		"AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test", "AWS_REGION=eu-west-1",
		// The caller's own account stays out of it.
		"AWS_SESSION_TOKEN=", "AWS_PROFILE=",
	)
	// A group of its own, so that an interrupt reaches the tests too: go test does not pass it on.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = killAfter
	return cmd
}

// test runs the command and reports on its tests.
func test(ctx context.Context, cmd *exec.Cmd, stdout, stderr io.Writer) error {
	cmd.Stderr = stderr
	events, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("run go test: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("run go test: %w", err)
	}
	r := newReport(stdout)
	readErr := r.read(events)
	waitErr := cmd.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errors.Join(readErr, r.verdict(waitErr))
}

func level(debug bool) slog.Level {
	if debug {
		return slog.LevelDebug
	}
	return slog.LevelInfo
}
