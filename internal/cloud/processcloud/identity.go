package processcloud

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/procfs"

	"cloudmaster/internal/pool"
)

// The environment variables of an instance. The first two together identify an instance's process
// among all others. That is how the process is found again if its pid was never written down.
const (
	envInstanceID  = "CLOUDMASTER_INSTANCE_ID"
	envInstanceDir = "CLOUDMASTER_INSTANCE_DIR"
	envUserData    = "CLOUDMASTER_USER_DATA" // the document itself, not its path
)

// identity identifies one process among all that ever ran: a pid alone may be used again, but not
// together with the same start time in the same boot of the machine.
type identity struct {
	BootID     string `json:"boot_id"`
	PID        int    `json:"pid,omitempty"`
	StartTicks uint64 `json:"start_ticks,omitempty"` // since the machine booted
}

// processes is the machine's process table.
type processes struct {
	fs     atomic.Pointer[procfs.FS] // tests put another one in its place while instances are watched
	bootID string
}

func openProcesses() (*processes, error) {
	table, err := procfs.NewFS("/proc")
	if err != nil {
		return nil, fmt.Errorf("open the process table: %w", err)
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, fmt.Errorf("read the boot id: %w", err)
	}
	p := &processes{bootID: strings.TrimSpace(string(boot))}
	p.fs.Store(&table)
	return p, nil
}

// identify returns the identity of a process that cannot disappear meanwhile: a child of ours, for
// which nobody has waited yet.
func (p *processes) identify(pid int) (identity, error) {
	stat, err := p.stat(pid)
	if err != nil {
		return identity{}, err
	}
	return identity{BootID: p.bootID, PID: pid, StartTicks: stat.Starttime}, nil
}

// alive reports whether exactly this process runs; a zombie does not. An error means that the
// answer is unknown, which must not be taken for no.
func (p *processes) alive(id identity) (bool, error) {
	stat, ok, err := p.lookup(id)
	return ok && !ended(stat), err
}

// lookup returns exactly this process, which may be a zombie; ok is false if it is gone.
func (p *processes) lookup(id identity) (stat procfs.ProcStat, ok bool, err error) {
	if id.PID <= 0 || id.BootID != p.bootID {
		return procfs.ProcStat{}, false, nil
	}
	stat, err = p.stat(id.PID)
	if gone(err) {
		return procfs.ProcStat{}, false, nil
	}
	if err != nil {
		return procfs.ProcStat{}, false, fmt.Errorf("look at process %d: %w", id.PID, err)
	}
	return stat, stat.Starttime == id.StartTicks, nil
}

// gone reports whether err says that there is no such process.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH)
}

func (p *processes) stat(pid int) (procfs.ProcStat, error) {
	proc, err := p.fs.Load().Proc(pid)
	if err != nil {
		return procfs.ProcStat{}, err
	}
	return proc.Stat()
}

// ended reports whether the process has ended and only waits to be reaped.
func ended(stat procfs.ProcStat) bool { return stat.State == "Z" || stat.State == "X" }

// errNoProcess: no process carries the marks of the instance.
var errNoProcess = errors.New("no process of the instance was found")

// find returns the process of an instance by the marks in its environment, or errNoProcess. Only
// the leader of its session counts, because the processes that an instance starts inherit the marks.
func (p *processes) find(id pool.InstanceID, dir string) (procfs.ProcStat, error) {
	found, err := procfs.ProcStat{}, errNoProcess
	failed := p.eachMarked(id, dir, func(stat procfs.ProcStat) bool {
		if stat.Session == stat.PID {
			found, err = stat, nil
		}
		return err != nil
	})
	if failed != nil {
		return procfs.ProcStat{}, failed
	}
	return found, err
}

// eachMarked calls yield, until that returns false, for each process that runs and has the marks of an instance in its
// environment: the instance's own, and those that it has started.
func (p *processes) eachMarked(id pool.InstanceID, dir string, yield func(procfs.ProcStat) bool) error {
	all, err := p.fs.Load().AllProcs()
	if err != nil {
		return fmt.Errorf("list processes: %w", err)
	}
	for _, proc := range all {
		env, err := proc.Environ()
		switch {
		case gone(err), errors.Is(err, fs.ErrPermission): // a process of another user
			continue
		case err != nil:
			return fmt.Errorf("look at process %d: %w", proc.PID, err)
		case !slices.Contains(env, envInstanceDir+"="+dir) || !slices.Contains(env, envInstanceID+"="+string(id)):
			continue
		}
		stat, err := proc.Stat()
		if err != nil && !gone(err) {
			return fmt.Errorf("look at process %d: %w", proc.PID, err)
		}
		if err == nil && !ended(stat) && !yield(stat) {
			return nil
		}
	}
	return nil
}

// describe returns what a process runs, and when it began.
func (p *processes) describe(stat procfs.ProcStat) (image string, started time.Time) {
	if proc, err := p.fs.Load().Proc(stat.PID); err == nil {
		if exe, err := proc.Executable(); err == nil {
			image = strings.TrimSuffix(filepath.Base(exe), " (deleted)")
		}
	}
	if seconds, err := stat.StartTime(); err == nil {
		started = time.UnixMilli(int64(seconds * 1000)).UTC()
	}
	return image, started
}

// inherited are the variables that every instance inherits from us. It gets others only if the configuration names
// them: they may be secrets, lead to some (HOME), or make one launch differ from another.
var inherited = []string{"PATH", "LANG", "TZ", "TMPDIR"}

// environ is the environment of a new instance. more are variables that it inherits besides.
func environ(id pool.InstanceID, dir string, userData []byte, more, extra []string) []string {
	var env []string
	for _, key := range slices.Concat(inherited, more) {
		if value, ok := os.LookupEnv(key); ok {
			env = append(env, key+"="+value)
		}
	}
	env = append(env, extra...)
	return append(env,
		envUserData+"="+string(userData),
		envInstanceID+"="+string(id),
		envInstanceDir+"="+dir,
	)
}
