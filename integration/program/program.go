// Package program runs programs for plays and walk-throughs, keeps what they print, and waits for
// what they do.
package program

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Process is a running program whose output lines are kept.
type Process struct {
	name string
	cmd  *exec.Cmd
	done chan struct{} // closed when the program has ended and all its output is read

	mu    sync.Mutex
	lines []string // lines of standard output; guarded by mu
}

// Start runs a program. Its standard output is kept, and also written to echo unless that is nil; its standard
// error goes to a file. env is added to the caller's environment. The program outlives ctx: Stop and Kill end it.
func Start(
	ctx context.Context, echo io.Writer, stderr *os.File, env []string, name string, args ...string,
) (*Process, error) {
	p := &Process{name: name, done: make(chan struct{})}
	// CommandContext would not do, because the callers decide how the program ends.
	p.cmd = exec.Command(name, args...) //nolint:noctx // it outlives the call, and Stop ends it
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stderr = stderr
	// Ctrl-C is meant for us and must not reach the program. If we are killed, the kernel ends it as well.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, context.Cause(ctx))
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go p.read(out, echo)
	return p, nil
}

func (p *Process) read(out io.Reader, echo io.Writer) {
	defer close(p.done)
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		p.mu.Lock()
		p.lines = append(p.lines, lines.Text())
		p.mu.Unlock()
		if echo != nil {
			fmt.Fprintln(echo, lines.Text())
		}
	}
	_ = p.cmd.Wait() // ExitCode reports how it ended
}

// Output returns the lines of standard output, from the given one on.
func (p *Process) Output(from int) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.lines[min(from, len(p.lines)):]...)
}

// Mark returns how many lines there are now, for callers that look only at later ones.
func (p *Process) Mark() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.lines)
}

// Ended reports whether the program has ended.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Hangup sends SIGHUP to the program.
func (p *Process) Hangup() error {
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		return fmt.Errorf("hang up %s: %w", p.name, err)
	}
	return nil
}

// Done returns a channel that is closed when the program has ended and all its output is read.
func (p *Process) Done() <-chan struct{} { return p.done }

// Kill kills the program and waits until it has ended.
func (p *Process) Kill() error {
	err := p.cmd.Process.Kill()
	<-p.done
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// StopTimeout is how long a program may take to end after it was asked to.
const StopTimeout = 20 * time.Second

// Stop asks the program to end, and kills it if it takes too long.
func (p *Process) Stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", p.name, err)
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(StopTimeout):
		return errors.Join(fmt.Errorf("%s did not stop within %s", p.name, StopTimeout), p.Kill())
	}
}

// ExitCode waits for the end of the program. It is -1 if a signal ended it.
func (p *Process) ExitCode() int {
	<-p.done
	return p.cmd.ProcessState.ExitCode()
}

// Find returns the first line that contains all the parts.
func Find(lines []string, parts ...string) (string, bool) {
	for _, line := range lines {
		all := true
		for _, part := range parts {
			all = all && strings.Contains(line, part)
		}
		if all {
			return line, true
		}
	}
	return "", false
}
