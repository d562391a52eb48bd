// Package program runs programs for plays and walk-throughs, keeps what they print, and
// waits for what they do.
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
	done chan struct{} // closed when it has ended and all output is read

	mu    sync.Mutex
	lines []string // guarded by mu; of standard output
}

// Start runs a program. Its standard output goes to echo as well, unless that is nil, its standard
// error to a file. env is added to the caller's environment. It outlives ctx: Stop or Kill end it.
func Start(ctx context.Context, echo io.Writer, stderr *os.File, env []string, name string, args ...string) (*Process, error) {
	p := &Process{name: name, done: make(chan struct{})}
	// Not CommandContext: how the program ends is the play's business.
	p.cmd = exec.Command(name, args...) //nolint:noctx // it outlives the call, and stop ends it
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stderr = stderr
	// Ctrl-C is for us, not for it; but if we are killed it ends too.
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
	_ = p.cmd.Wait() // ExitCode tells
}

// Output returns the lines from the given one on.
func (p *Process) Output(from int) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.lines[min(from, len(p.lines)):]...)
}

// Mark returns how many lines there are now, to look only at later ones.
func (p *Process) Mark() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.lines)
}

// Ended reports whether it has.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Done is closed when it has ended and all its output is read.
func (p *Process) Done() <-chan struct{} { return p.done }

// Kill ends it without warning and waits until it has.
func (p *Process) Kill() error {
	err := p.cmd.Process.Kill()
	<-p.done
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// StopTimeout is how long a program may take to end.
const StopTimeout = 20 * time.Second

// Stop asks it to end, and kills it if it does not.
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

// ExitCode waits for its end. -1 if a signal ended it.
func (p *Process) ExitCode() int {
	<-p.done
	return p.cmd.ProcessState.ExitCode()
}

// Find returns the first line that has all the parts.
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
