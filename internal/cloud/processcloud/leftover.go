package processcloud

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// leftRounds bounds how often killLeft looks again for what was forked while it killed.
const leftRounds = 10

// killLeft kills the processes that an instance has started and that have outlived it. They inherit the marks in its
// environment, by which they are found; those of another user are not.
func (c *Cloud) killLeft(ctx context.Context, rec *record) error {
	if rec.BootID != c.procs.bootID {
		return nil // nothing outlives a boot
	}
	killed := make(map[identity]struct{})
	for range leftRounds {
		left, err := c.procs.left(rec, c.dir(rec.ID))
		if err != nil {
			return err
		}
		before := len(killed)
		for _, id := range left {
			if _, done := killed[id]; done {
				continue // the kernel is about to end it
			}
			if err := c.procs.kill(id); err != nil {
				return err
			}
			killed[id] = struct{}{}
			c.log.WarnContext(ctx, "killed a process that an instance had started and that outlived it; "+
				"a script should start the service with exec", "instance", rec.ID, "image", rec.Image, "pid", id.PID)
		}
		if len(killed) == before {
			return nil
		}
	}
	return fmt.Errorf("new ones were still being started after %d rounds of killing them", leftRounds)
}

// left returns the processes with the marks of an instance, but not the one with its pid: that is the instance's own,
// or has got the pid since, and is left alone as everywhere else.
func (p *processes) left(rec *record, dir string) ([]identity, error) {
	var out []identity
	err := p.eachMarked(rec.ID, dir, func(stat procfs.ProcStat) bool {
		if stat.PID != rec.PID {
			out = append(out, identity{BootID: p.bootID, PID: stat.PID, StartTicks: stat.Starttime})
		}
		return true
	})
	return out, err
}

// kill sends SIGKILL to exactly this process, and nothing if it is gone. It opens the process before it compares, so
// that another one with the same pid is never hit.
func (p *processes) kill(id identity) error {
	process, err := os.FindProcess(id.PID)
	if err != nil {
		return err
	}
	defer func() { _ = process.Release() }()
	if _, same, err := p.lookup(id); err != nil || !same {
		return err
	}
	if err := process.Signal(unix.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill pid %d: %w", id.PID, denied(err))
	}
	return nil
}
