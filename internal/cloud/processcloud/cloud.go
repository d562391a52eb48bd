// Package processcloud is a cloud whose instances are processes of this machine: each runs the
// binary of its image. It needs Linux 5.10 or later (pidfds, /proc).
//
// # On disk
//
// The directory StateDir/<deployment>/<instance id>/ contains instance.json (identity, image,
// launch, termination), tags.json, user-data.yaml, and log, to which the standard output and error
// of the instance are appended. StateDir/<deployment>/.launches/ remembers tokens for an hour, or
// for as long as their instances' directories are kept, whichever is longer.
//
// # The instance
//
// An instance runs in a session of its own. Its working directory is its directory; it has no
// standard input. Its environment is a short list of inherited variables, Options.Env,
// CLOUDMASTER_USER_DATA (the document itself), CLOUDMASTER_INSTANCE_ID and
// CLOUDMASTER_INSTANCE_DIR. It lives on when the Cloud value, or its process, ends; any Cloud value
// on the same directory finds it again and may end it. SIGTERM and the SIGKILL after the grace time go
// to the instance's process only. When that has ended, the processes that it started and that have kept
// its environment are killed, as nothing outlives a machine: a worker below a script that is gone
// would otherwise take jobs of which no controller knows.
//
// # Crashes
//
// The controller may be killed between any two steps. Before a process is forked, the intent to do
// so is written to disk; and from before the fork on, the instance's log is locked, by a lock that
// the process inherits. So a Launch that is repeated with the same token finds out how far the
// first one came. Ids derive from the token. A termination is written to disk before the first
// signal, and Open resumes those that it finds; the grace time counts from the first call of
// Terminate.
//
// An instance that cannot be examined does not count as gone: if the process table or a file cannot
// be read because descriptors or memory are short, List fails instead of leaving an instance out.
//
// Times are wall time. A process counts as ours only if its pid, its start time and the boot of the
// machine all match, and signals are sent through pidfds. So a process that got the pid of a dead
// instance is never hit.
//
// Under systemd, the controller's unit needs KillMode=process. Otherwise stopping the controller
// would also end the instances.
package processcloud

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/pool"
)

// Cloud runs the instances of one deployment. Any number of Cloud values, in any
// number of processes, may share a state directory.
type Cloud struct {
	deployment string
	root       string // StateDir/<deployment>
	opts       Options
	log        *slog.Logger
	procs      *processes
	turn       chan struct{} // room for one: launches of this value wait here, not at the file lock

	watchers sync.WaitGroup

	mu       sync.Mutex
	closed   bool                         // guarded by mu
	watched  map[pool.InstanceID]*watcher // guarded by mu
	reported map[pool.InstanceID]struct{} // damaged instances that were already logged; guarded by mu
	lost     map[pool.InstanceID]struct{} // damaged instances for which no process was found; guarded by mu
}

var _ cloud.Cloud = (*Cloud)(nil)

var idForm = regexp.MustCompile(`^i-[0-9a-f]{12}$`)

// Open takes over the deployment's instances in the state directory. It creates the directory if it
// is missing, and resumes terminations that an earlier Cloud value began.
func Open(ctx context.Context, deployment string, opts Options) (*Cloud, error) {
	opts, err := opts.withDefaults(deployment)
	if err != nil {
		return nil, fmt.Errorf("open process cloud: %w", err)
	}
	root, err := stateDir(opts.StateDir, deployment)
	if err != nil {
		return nil, err
	}
	procs, err := openProcesses()
	if err != nil {
		return nil, err
	}
	if err := checkPidfd(); err != nil {
		return nil, err
	}
	c := &Cloud{
		deployment: deployment, root: root, opts: opts,
		log: opts.Log.With("deployment", deployment), procs: procs, turn: make(chan struct{}, 1),
		watched:  make(map[pool.InstanceID]*watcher),
		reported: make(map[pool.InstanceID]struct{}),
		lost:     make(map[pool.InstanceID]struct{}),
	}
	if err := c.takeOver(ctx); err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("take over the instances in %s: %w", root, err)
	}
	return c, nil
}

// stateDir creates the deployment's directory and checks that it can be written. It resolves
// symbolic links, because the path is one of the marks by which an instance's process is found again.
func stateDir(base, deployment string) (string, error) {
	root := filepath.Join(base, deployment)
	err := os.MkdirAll(filepath.Join(root, launchesDir), dirPerm)
	if err == nil {
		root, err = filepath.EvalSymlinks(root)
	}
	if err == nil {
		err = probe(filepath.Join(root, launchesDir))
	}
	if err != nil {
		return "", fmt.Errorf("state directory %s cannot be written: %w; "+
			"make it writable for this user, or set state_dir to another directory", root, err)
	}
	return root, nil
}

// probe writes a file with a name of its own, because another controller may probe at the same time.
func probe(dir string) error {
	f, err := os.CreateTemp(dir, ".probe-*")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

func checkPidfd() error {
	fd, err := unix.PidfdOpen(os.Getpid(), unix.PIDFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("process cloud needs Linux 5.10 or later: open a pidfd: %w", err)
	}
	return unix.Close(fd)
}

// takeOver watches the instances that run, ends those whose termination had begun, and removes what
// crashes left behind.
func (c *Cloud) takeOver(ctx context.Context) error {
	found, err := c.survey(ctx)
	if err != nil {
		return err
	}
	for _, s := range found {
		if s.alive && !s.rec.TerminatingSince.IsZero() {
			c.log.InfoContext(ctx, "resuming a termination", "instance", s.rec.ID, "since", s.rec.TerminatingSince)
			if err := c.end(ctx, &s.rec); err != nil {
				c.log.ErrorContext(ctx, "a termination cannot be resumed", "instance", s.rec.ID, "error", err)
			}
		}
	}
	return c.sweep(ctx, found)
}

// Close stops watching and waits until running callbacks have returned. Instances live on. The next
// Open completes terminations that are under way.
func (c *Cloud) Close() error {
	c.mu.Lock()
	c.closed = true
	for _, w := range c.watched {
		w.stop()
	}
	c.mu.Unlock()
	c.watchers.Wait()
	return nil
}

func (c *Cloud) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// sighting is what a look at an instance's directory and process found.
type sighting struct {
	rec   record
	alive bool
}

// survey looks at every instance directory, also of dead instances, and watches the live ones. It
// waits for no lock that a launch may keep for long.
func (c *Cloud) survey(ctx context.Context) ([]sighting, error) {
	entries, err := os.ReadDir(c.root)
	if err != nil {
		return nil, fmt.Errorf("list instances: %w", err)
	}
	found := make([]sighting, 0, len(entries))
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("list instances: %w", context.Cause(ctx))
		}
		if strings.HasPrefix(e.Name(), ".") || !e.IsDir() {
			continue
		}
		s, ok, err := c.look(ctx, pool.InstanceID(e.Name()))
		if err != nil {
			return nil, err
		}
		if ok {
			found = append(found, s)
		}
	}
	return found, nil
}

// look looks at one instance. It returns false if there is none, or if its files are damaged and no
// process of it is found. An error means that the look failed: callers must not conclude that the
// instance is gone.
func (c *Cloud) look(ctx context.Context, id pool.InstanceID) (sighting, bool, error) {
	rec, err := c.read(id)
	known := true
	switch {
	case errors.Is(err, errDamaged):
		rec, known, err = c.rescue(ctx, id, err)
	case err == nil && rec.PID == 0:
		rec, err = c.settle(ctx, rec)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist): // perhaps removed by a sweep while we looked
		return sighting{}, false, nil
	case err != nil:
		return sighting{}, false, fmt.Errorf("look at instance %s: %w", id, err)
	case !known:
		return sighting{}, false, nil
	}
	s := sighting{rec: rec}
	if rec.Ended.IsZero() {
		if s.alive, err = c.procs.alive(rec.identity); err != nil {
			return sighting{}, false, fmt.Errorf("look at instance %s: %w", id, err)
		}
	}
	switch {
	case s.alive:
		c.watch(ctx, &s.rec)
	case rec.PID != 0 && rec.Ended.IsZero():
		c.bury(ctx, &s.rec)
	}
	return s, true, nil
}

// List implements cloud.Cloud. It never lags.
func (c *Cloud) List(ctx context.Context) ([]cloud.Instance, error) {
	found, err := c.survey(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]cloud.Instance, 0, len(found))
	for _, s := range found {
		if s.alive {
			out = append(out, s.rec.instance(c.opts.Host, c.readTags(&s.rec), true))
		}
	}
	if len(found)-len(out) > c.opts.KeepDead {
		if err := c.sweep(ctx, found); err != nil {
			c.log.WarnContext(ctx, "directories of dead instances could not be removed", "error", err)
		}
	}
	return out, nil
}

// Tag implements cloud.Cloud.
func (c *Cloud) Tag(ctx context.Context, tags map[string]string, ids ...pool.InstanceID) error {
	var errs []error
	for _, id := range ids {
		if err := c.tag(ctx, tags, id); err != nil {
			errs = append(errs, fmt.Errorf("tag instance %s: %w", id, err))
		}
	}
	return errors.Join(errs...)
}

func (c *Cloud) tag(ctx context.Context, tags map[string]string, id pool.InstanceID) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	s, ok, err := c.look(ctx, id)
	if err != nil {
		return err
	}
	if !ok || !s.alive {
		return cloud.ErrNotFound
	}
	free, err := lockDir(ctx, c.dir(id))
	if err == nil {
		defer free()
		err = c.tagLocked(id, tags)
	}
	if errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errDamaged) {
		return cloud.ErrNotFound // the instance has ended and was swept since we looked
	}
	return err
}

func (c *Cloud) tagLocked(id pool.InstanceID, tags map[string]string) error {
	rec, err := c.read(id)
	if err != nil {
		return err
	}
	all := c.readTags(&rec)
	maps.Copy(all, tags)
	return writeJSON(filepath.Join(c.dir(id), tagsFile), all)
}

// once logs damage to an instance's files, at most once per instance.
func (c *Cloud) once(id pool.InstanceID, what string, err error) {
	c.mu.Lock()
	_, known := c.reported[id]
	c.reported[id] = struct{}{}
	c.mu.Unlock()
	if !known {
		c.log.Warn("an instance's files are damaged", "instance", id, "consequence", what, "error", err)
	}
}
