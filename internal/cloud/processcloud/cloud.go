// Package processcloud is a cloud whose instances are processes of this machine:
// each runs the binary of its image. It needs Linux 5.10 or later (pidfds, /proc).
//
// # On disk
//
// StateDir/<deployment>/<instance id>/ holds instance.json (identity, image, launch,
// termination), tags.json, user-data.yaml and log, the standard output and error of
// the instance, appended. StateDir/<deployment>/.launches/ remembers tokens for an
// hour, or for as long as their instances are kept if that is longer.
//
// # The instance
//
// It runs in a session of its own with its directory as working directory, no
// standard input, a short list of inherited variables, Options.Env, and
// CLOUDMASTER_USER_DATA (the document itself), CLOUDMASTER_INSTANCE_ID and
// CLOUDMASTER_INSTANCE_DIR. It outlives the Cloud value and the process that holds
// it; any Cloud value on the same directory finds it again and may end it. Signals go
// to the instance's process only, not to processes that it started.
//
// # Crashes
//
// The process may be killed between any two steps. An intent is on disk before a process is
// forked, and the process holds a lock on its log from before it exists, so a Launch
// that is repeated with its token knows whether its predecessor came that far. Ids
// derive from the token. A termination is on disk before the first signal, and Open
// resumes what it finds; the grace time counts from the first call.
//
// What cannot be looked at is not gone: when the process table or a file cannot be
// read for want of descriptors or memory, List fails rather than leave an instance out.
//
// Times are wall time. A process is ours only if pid, start time and boot of the
// machine all match, and signals go through pidfds, so a recycled pid is never hit.
//
// Under systemd the controller's unit needs KillMode=process, or stopping it ends the
// instances too.
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
	turn       chan struct{} // holds one token: launches of this value queue here, not at the file lock

	watchers sync.WaitGroup

	mu       sync.Mutex
	closed   bool                         // guarded by mu
	watched  map[pool.InstanceID]*watcher // guarded by mu
	reported map[pool.InstanceID]struct{} // damage that is in the log already; guarded by mu
	lost     map[pool.InstanceID]struct{} // damaged, and no process found; guarded by mu
}

var _ cloud.Cloud = (*Cloud)(nil)

var idForm = regexp.MustCompile(`^i-[0-9a-f]{12}$`)

// Open takes over the deployment's instances in the state directory, which it
// creates if it is missing, and resumes terminations that a predecessor began.
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

// stateDir creates the deployment's directory and proves that it can be written.
// Links are resolved, because the path is one of the marks of an instance.
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
		return "", fmt.Errorf("state directory %s cannot be written: %w; make it writable for this user, or set state_dir to another directory", root, err)
	}
	return root, nil
}

// probe writes a file of its own, as another controller may do the same now.
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

// takeOver watches what runs, ends what was to end, and clears what crashes left.
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

// Close stops watching and waits until callbacks have returned. Instances live on;
// terminations that are under way are completed by the next Open.
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

// sighting is an instance as a look at its directory and process found it.
type sighting struct {
	rec   record
	alive bool
}

// survey looks at every instance directory, dead ones included. It watches those
// that live. It takes no lock that a launch holds for long.
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

// look looks at one instance; false if there is none, or nothing is known of it but that
// its files are damaged. An error means that we could not look: callers must not take
// that for an instance that is gone.
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
	case errors.Is(err, fs.ErrNotExist): // possibly swept while we looked
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
		return cloud.ErrNotFound // ended and swept meanwhile
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

// once reports damage to an instance's files, each instance once.
func (c *Cloud) once(id pool.InstanceID, what string, err error) {
	c.mu.Lock()
	_, known := c.reported[id]
	c.reported[id] = struct{}{}
	c.mu.Unlock()
	if !known {
		c.log.Warn("an instance's files are damaged", "instance", id, "consequence", what, "error", err)
	}
}
