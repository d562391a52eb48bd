package daemon_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"cloudmaster/internal/daemon"
)

// envProgram is an environment variable that makes the test binary run one of the programs instead of the
// tests.
const envProgram = "DAEMON_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if p, ok := programs[os.Getenv(envProgram)]; ok {
		os.Exit(daemon.Main("fib-server", p))
	}
	// Children inherit signals that are ignored, as under nohup, but not those that are handled.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP, syscall.SIGINT)
	goleak.VerifyTestMain(m, goleak.IgnoreCurrent())
}

type program = func(ctx context.Context, args []string, stdout, stderr io.Writer) error

var programs = map[string]program{
	"echo": func(_ context.Context, args []string, stdout, stderr io.Writer) error {
		fmt.Fprintf(stdout, "%q", args)
		fmt.Fprint(stderr, "to stderr")
		return nil
	},
	"fail":  func(context.Context, []string, io.Writer, io.Writer) error { return errors.New("the sky fell") },
	"usage": func(context.Context, []string, io.Writer, io.Writer) error { return daemon.Usagef("no %s", "pool") },
	"wrapped usage": func(context.Context, []string, io.Writer, io.Writer) error {
		return fmt.Errorf("read settings: %w", daemon.Usagef("no %s", "pool"))
	},
	"done": func(context.Context, []string, io.Writer, io.Writer) error {
		return fmt.Errorf("early: %w", daemon.ErrDone)
	},
	"cancel itself": func(context.Context, []string, io.Writer, io.Writer) error {
		return fmt.Errorf("ask the broker: %w", context.Canceled)
	},
	"stop":          untilStopped(func(context.Context) error { return nil }),
	"stop, cause":   untilStopped(context.Cause),
	"stop, err":     untilStopped(func(ctx context.Context) error { return fmt.Errorf("serve: %w", ctx.Err()) }),
	"stop, failure": untilStopped(func(context.Context) error { return errors.New("state is lost") }),
	"stop, said": untilStopped(func(ctx context.Context) error {
		return fmt.Errorf("stopped %t because %w", daemon.Stopped(ctx), errors.New(context.Cause(ctx).Error()))
	}),
	"parse": func(_ context.Context, args []string, _, _ io.Writer) error {
		return daemon.Parse(flagSet(new(values)), args, nil)
	},
	"reload": func(ctx context.Context, _ []string, stdout, _ io.Writer) error {
		again := daemon.Hangups(ctx)
		for fmt.Fprintln(stdout, "started"); ; {
			select {
			case <-ctx.Done():
				fmt.Fprintln(stdout, "stopping")
				<-time.After(200 * time.Millisecond)
				fmt.Fprintln(stdout, "still stopping")
				<-time.After(200 * time.Millisecond)
				return nil
			case <-again:
				fmt.Fprintln(stdout, "read again")
			}
		}
	},
	"stubborn": func(ctx context.Context, _ []string, stdout, _ io.Writer) error {
		fmt.Fprintln(stdout, "started")
		<-ctx.Done()
		fmt.Fprintln(stdout, "stopping")
		select {}
	},
}

// untilStopped is a program that says when it has started. When it is stopped, it returns what end makes of
// the cause.
func untilStopped(end func(context.Context) error) program {
	return func(ctx context.Context, _ []string, stdout, _ io.Writer) error {
		fmt.Fprintln(stdout, "started")
		<-ctx.Done()
		return end(ctx)
	}
}

// child is a program in a process of its own.
type child struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdout *bufio.Reader
	stderr bytes.Buffer
}

func start(t *testing.T, name string, args ...string) *child {
	t.Helper()
	c := &child{t: t, cmd: exec.CommandContext(t.Context(), os.Args[0], args...)}
	c.cmd.Env = append(os.Environ(), envProgram+"="+name)
	c.cmd.Stderr = &c.stderr
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.stdout = bufio.NewReader(out)
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *child) wantLine(want string) {
	c.t.Helper()
	if got, err := c.stdout.ReadString('\n'); err != nil || got != want+"\n" {
		c.t.Fatalf("got line %q, %v, want %q", got, err, want)
	}
}

func (c *child) signal(sig os.Signal) {
	c.t.Helper()
	if err := c.cmd.Process.Signal(sig); err != nil {
		c.t.Fatal(err)
	}
}

// wait returns the process's state and the rest of its output.
func (c *child) wait() (*os.ProcessState, string) {
	c.t.Helper()
	out, err := io.ReadAll(c.stdout)
	if err != nil {
		c.t.Fatal(err)
	}
	if _, ok := errors.AsType[*exec.ExitError](c.cmd.Wait()); !ok && !c.cmd.ProcessState.Success() {
		c.t.Fatalf("the child did not run: %v", c.cmd.ProcessState)
	}
	return c.cmd.ProcessState, string(out)
}

func TestMainExitCodes(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		code   int
		stderr string
	}{
		"echo":  {daemon.ExitOK, "to stderr"},
		"done":  {daemon.ExitOK, ""},
		"fail":  {daemon.ExitError, "fib-server: the sky fell\n"},
		"usage": {daemon.ExitUsage, "fib-server: no pool\nRun \"fib-server --help\" for usage.\n"},
		"wrapped usage": {
			daemon.ExitUsage, "fib-server: read settings: no pool\nRun \"fib-server --help\" for usage.\n",
		},
		// nobody asked it to stop
		"cancel itself": {daemon.ExitError, "fib-server: ask the broker: context canceled\n"},
	}
	for name, want := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := start(t, name, "a", "--b")
			state, stdout := c.wait()
			if state.ExitCode() != want.code || c.stderr.String() != want.stderr {
				t.Errorf("got exit code %d and %q, want %d and %q", state.ExitCode(), c.stderr.String(), want.code,
					want.stderr)
			}
			if wantOut := `["a" "--b"]`; name == "echo" && stdout != wantOut {
				t.Errorf("got arguments %s, want %s", stdout, wantOut)
			}
		})
	}
}

func TestMainStopsAtASignal(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		program string
		sig     os.Signal
		code    int
		stderr  string
	}{
		"SIGTERM":                     {"stop", syscall.SIGTERM, daemon.ExitOK, ""},
		"SIGHUP":                      {"stop", syscall.SIGHUP, daemon.ExitOK, ""},
		"SIGINT":                      {"stop", os.Interrupt, daemon.ExitOK, ""},
		"returns the cause":           {"stop, cause", syscall.SIGTERM, daemon.ExitOK, ""},
		"returns the context's error": {"stop, err", syscall.SIGTERM, daemon.ExitOK, ""},
		"fails on its way out": {
			"stop, failure", syscall.SIGTERM, daemon.ExitError, "fib-server: state is lost\n",
		},
		"the context tells what it was": {
			"stop, said", syscall.SIGTERM, daemon.ExitError,
			"fib-server: stopped true because stopped by signal: terminated\n",
		},
	}
	for name, want := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := start(t, want.program)
			c.wantLine("started")
			c.signal(want.sig)
			state, _ := c.wait()
			if state.ExitCode() != want.code || c.stderr.String() != want.stderr {
				t.Errorf("got exit code %d and %q, want %d and %q", state.ExitCode(), c.stderr.String(), want.code,
					want.stderr)
			}
		})
	}
}

// TestHangups: a program that asked for it is told of SIGHUP each time, and goes on until another signal stops it.
// While it stops, SIGHUP does not kill it.
func TestHangups(t *testing.T) {
	t.Parallel()
	c := start(t, "reload")
	c.wantLine("started")
	for range 3 {
		c.signal(syscall.SIGHUP)
		c.wantLine("read again")
	}
	c.signal(syscall.SIGTERM)
	for _, line := range []string{"stopping", "still stopping"} {
		c.wantLine(line)
		c.signal(syscall.SIGHUP)
	}
	if state, _ := c.wait(); state.ExitCode() != daemon.ExitOK || c.stderr.Len() > 0 {
		t.Errorf("got exit code %d and %q, want %d and nothing", state.ExitCode(), c.stderr.String(), daemon.ExitOK)
	}
}

func TestASecondSignalKills(t *testing.T) {
	t.Parallel()
	c := start(t, "stubborn")
	c.wantLine("started")
	c.signal(syscall.SIGTERM)
	c.wantLine("stopping")
	c.signal(os.Interrupt)
	state, _ := c.wait()
	if status, ok := state.Sys().(syscall.WaitStatus); !ok || !status.Signaled() || status.Signal() != syscall.SIGINT {
		t.Errorf("got %v, want an end by SIGINT", state)
	}
}

func TestNotStopped(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if daemon.Stopped(t.Context()) || daemon.Stopped(ctx) {
		t.Error("got stopped by a signal, want not")
	}
}

func TestUsagefWraps(t *testing.T) {
	t.Parallel()
	err := daemon.Usagef("read %s: %w", "x", os.ErrNotExist)
	if !errors.Is(err, os.ErrNotExist) || err.Error() != "read x: file does not exist" {
		t.Errorf("got %v, want it to wrap os.ErrNotExist", err)
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	if got := daemon.Version(); !strings.HasSuffix(got, runtime.Version()) || strings.Contains(got, "\n") {
		t.Errorf("got %q, want one line with the version of Go", got)
	}
}

func TestGroupOfNone(t *testing.T) {
	t.Parallel()
	if err := daemon.Group(t.Context()); err != nil {
		t.Errorf("got %v, want nil", err)
	}
}

// A function that returns nil ends nothing else, and Group waits for all.
func TestGroupWaitsForAll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var ended atomic.Int32
		lasts := func(d time.Duration) func(context.Context) error {
			return func(ctx context.Context) error {
				select {
				case <-time.After(d):
				case <-ctx.Done():
					t.Errorf("the one of %s was ended: %v", d, context.Cause(ctx))
				}
				ended.Add(1)
				return nil
			}
		}
		start := time.Now()
		if err := daemon.Group(t.Context(), lasts(0), lasts(time.Second), lasts(time.Hour)); err != nil {
			t.Errorf("got %v, want nil", err)
		}
		if took := time.Since(start); took != time.Hour || ended.Load() != 3 {
			t.Errorf("got back after %s with %d ended, want an hour and 3", took, ended.Load())
		}
	})
}

func TestGroupsFirstErrorEndsTheRest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		errFirst, errLater := errors.New("first"), errors.New("later")
		start := time.Now()
		err := daemon.Group(t.Context(),
			func(context.Context) error {
				time.Sleep(time.Second)
				return errFirst
			},
			func(ctx context.Context) error {
				<-ctx.Done()
				if got := context.Cause(ctx); !errors.Is(got, errFirst) {
					t.Errorf("got cause %v, want the first error", got)
				}
				time.Sleep(time.Second) // time to clean up
				return errLater
			},
		)
		if !errors.Is(err, errFirst) || time.Since(start) != 2*time.Second {
			t.Errorf("got %v after %s, want the first error after 2s", err, time.Since(start))
		}
	})
}

func TestGroupEndsWithItsContext(t *testing.T) {
	t.Parallel()
	errEnough := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errEnough)
	err := daemon.Group(ctx, func(ctx context.Context) error {
		<-ctx.Done()
		return context.Cause(ctx)
	})
	if !errors.Is(err, errEnough) {
		t.Errorf("got %v, want the context's cause", err)
	}
}

// The returned error is the same that the other functions saw as their cause, however soon a second error
// followed.
func TestGroupsErrorIsTheCause(t *testing.T) {
	t.Parallel()
	for range 5000 {
		var cause error
		together := make(chan struct{})
		fs := []func(context.Context) error{func(ctx context.Context) error {
			close(together)
			<-ctx.Done()
			cause = context.Cause(ctx)
			return nil
		}}
		for i := range 8 {
			fs = append(fs, func(context.Context) error {
				<-together
				return fmt.Errorf("failure %d", i)
			})
		}
		if err := daemon.Group(t.Context(), fs...); err != cause { //nolint:errorlint // identity is what is tested
			t.Fatalf("got %v, but the cause is %v", err, cause)
		}
	}
}

func TestParseErrorsAreUsageErrors(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "fib.yaml")
	if err := os.WriteFile(file, []byte("colour: red\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"bad flag": {"--nope"}, "bad file": {"--config", file}, "help": {"--help"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := daemon.ExitUsage
			if name == "help" {
				want = daemon.ExitOK
			}
			c := start(t, "parse", args...)
			if state, _ := c.wait(); state.ExitCode() != want {
				t.Errorf("got exit code %d, want %d; it says %s", state.ExitCode(), want, c.stderr.String())
			}
		})
	}
}
