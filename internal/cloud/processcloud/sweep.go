package processcloud

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// The names of directories that are not an instance's begin with a dot.
const (
	newPrefix  = ".new-"  // an instance's directory that is not complete yet
	deadPrefix = ".dead-" // an instance's directory that is being removed
)

// sweep removes the directories of dead instances except the newest, tokens that need not be
// remembered any more, and what crashes left incomplete. It never waits: if a launch is under way
// it does nothing, and the next sweep will do the work.
func (c *Cloud) sweep(ctx context.Context, found []sighting) error {
	lock, err := tryLock(c.root, os.O_RDONLY)
	if errors.Is(err, errHeld) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unlock(lock)
	found = slices.DeleteFunc(slices.Clone(found), func(s sighting) bool { return s.alive })
	slices.SortFunc(found, func(a, b sighting) int {
		return cmp.Or(b.rec.lastSeen().Compare(a.rec.lastSeen()), cmp.Compare(a.rec.ID, b.rec.ID))
	})
	var errs []error
	for _, s := range found[min(len(found), c.opts.KeepDead):] {
		errs = append(errs, c.removeDead(ctx, &s.rec))
	}
	return errors.Join(append(errs, c.removeScraps(), c.forgetTokens())...)
}

// lastSeen is the time by which dead instances are ordered.
func (r *record) lastSeen() time.Time {
	if r.Ended.IsZero() {
		return r.Launched
	}
	return r.Ended
}

// removeDead removes an instance's directory if it is certain that it is ours and that the instance
// is dead. For that it looks again, with the directory locked: there must be no process of the
// instance, and none that still writes its log.
func (c *Cloud) removeDead(ctx context.Context, rec *record) error {
	lock, err := tryLock(c.dir(rec.ID), os.O_RDONLY)
	if err != nil {
		return nil // somebody uses it, or it is gone: nothing to do now
	}
	defer unlock(lock)
	now, err := c.read(rec.ID)
	if err != nil {
		return nil // damaged: somebody should be able to examine it
	}
	if alive, err := c.procs.alive(now.identity); alive || err != nil {
		return err
	}
	logLock, err := tryLock(filepath.Join(c.dir(rec.ID), logFile), os.O_RDONLY)
	if errors.Is(err, errHeld) {
		return nil
	}
	if err == nil {
		defer unlock(logLock)
	}
	// It is renamed first, so that a crash in the middle of the removal does not look like damage.
	aside := filepath.Join(c.root, deadPrefix+string(rec.ID))
	if err := os.Rename(c.dir(rec.ID), aside); err != nil {
		return fmt.Errorf("remove dead instance %s: %w", rec.ID, err)
	}
	c.log.DebugContext(ctx, "removed the directory of a dead instance", "instance", rec.ID)
	return os.RemoveAll(aside)
}

// removeScraps removes directories that a crash left incomplete or half removed.
func (c *Cloud) removeScraps() error {
	entries, err := os.ReadDir(c.root)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), newPrefix) || strings.HasPrefix(e.Name(), deadPrefix) {
			errs = append(errs, os.RemoveAll(filepath.Join(c.root, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// forgetTokens removes old launches of which no instance has a directory any more.
func (c *Cloud) forgetTokens() error {
	dir := filepath.Join(c.root, launchesDir)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || time.Since(info.ModTime()) < tokenMemory {
			continue
		}
		var l launch
		path := filepath.Join(dir, e.Name())
		if err := readJSON(path, &l); err == nil && slices.ContainsFunc(l.ids(c.deployment), c.exists) {
			continue
		}
		errs = append(errs, os.Remove(path))
	}
	return errors.Join(errs...)
}
