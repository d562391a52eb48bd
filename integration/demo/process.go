package main

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

// process is a running program whose output lines are kept.
type process struct {
	name string
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended and all output is read

	mu    sync.Mutex
	lines []string // guarded by mu; of standard output
	err   error    // guarded by mu; how it ended
}

// start runs a program. Its standard output goes to echo as well, its standard error to a file.
func start(ctx context.Context, echo io.Writer, errors *os.File, env []string, name string, args ...string) (*process, error) {
	p := &process{name: name, done: make(chan struct{})}
	// Not CommandContext: how the program ends is the play's business.
	p.cmd = exec.Command(name, args...) //nolint:noctx // it outlives the call, and stop ends it
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stderr = errors
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

func (p *process) read(out io.Reader, echo io.Writer) {
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
	err := p.cmd.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = err
}

// output returns the lines from the given one on.
func (p *process) output(from int) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.lines[min(from, len(p.lines)):]...)
}

// mark returns how many lines there are now, to look only at later ones.
func (p *process) mark() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.lines)
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// kill ends it without warning and waits until it has.
func (p *process) kill() error {
	err := p.cmd.Process.Kill()
	<-p.done
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

const stopTimeout = 20 * time.Second

// stop asks it to end, and kills it if it does not.
func (p *process) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", p.name, err)
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(stopTimeout):
		return errors.Join(fmt.Errorf("%s did not stop within %s", p.name, stopTimeout), p.kill())
	}
}

// exitCode waits for its end. -1 if a signal ended it.
func (p *process) exitCode() int {
	<-p.done
	return p.cmd.ProcessState.ExitCode()
}

// contains returns the first line that has all the parts.
func contains(lines []string, parts ...string) (string, bool) {
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
