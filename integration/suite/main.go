// Command suite runs the tests that need LocalStack. It starts a container for them, unless
// LOCALSTACK_ENDPOINT names a LocalStack that runs. It prints one line about each test. A test that
// was skipped because it found no LocalStack counts as a failure here.
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

// killAfter is how long "go test" may take to end its tests after it was told to.
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
	// Other programs may end with exit code 0 when they are told to. Here that would mean that all
	// tests have passed, although not all have run.
	defer func() {
		if daemon.Stopped(ctx) {
			//nolint:errorlint // with the wrapped cause the exit code would be 0
			err = fmt.Errorf("%v, before all tests have run", context.Cause(ctx))
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

// command returns the "go test" to run, with everything that the tests need to know in its environment.
func command(ctx context.Context, endpoint, only string, packages []string) *exec.Cmd {
	// Four tests in parallel, even on fewer processors, because they mostly wait.
	args := []string{"test", "-count=1", "-json", "-parallel", "4"}
	if only != "" {
		args = append(args, "-run", only)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, packages...)...)
	cmd.Env = append(os.Environ(),
		localstack.EndpointVar+"="+endpoint,
		"AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test", "AWS_REGION=eu-west-1",
		// Keep the caller's own account away from the tests.
		"AWS_SESSION_TOKEN=", "AWS_PROFILE=",
	)
	// A group of its own, so that an interrupt can be sent to the tests as well: "go test" does not pass it on.
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
