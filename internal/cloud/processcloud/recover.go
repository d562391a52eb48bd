package processcloud

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"cloudmaster/internal/pool"
)

// settle finds out what became of an intent whose launcher may have died. The
// instance's process, if there ever was one, holds the lock of its log.
func (c *Cloud) settle(ctx context.Context, intent record) (record, error) {
	lock, err := tryLock(c.dir(intent.ID), os.O_RDONLY)
	if errors.Is(err, errHeld) || errors.Is(err, fs.ErrNotExist) {
		return intent, nil // being launched, or removed, right now
	}
	if err != nil {
		return intent, err
	}
	defer unlock(lock)
	rec, err := c.read(intent.ID)
	if err != nil || rec.PID != 0 {
		return rec, err
	}
	logLock, err := tryLock(filepath.Join(c.dir(rec.ID), logFile), os.O_RDONLY)
	switch {
	case err == nil:
		unlock(logLock)
		return rec, nil // never started
	case errors.Is(err, fs.ErrNotExist):
		return rec, nil // nor even tried
	case !errors.Is(err, errHeld):
		return rec, err
	}
	if err := c.claimLocked(ctx, &rec); !errors.Is(err, errNoProcess) {
		return rec, err
	}
	return rec, nil // between fork and exec: the next look will tell
}

// claimLocked looks for the process of an instance by its marks and writes it down.
// The caller holds the instance's lock.
func (c *Cloud) claimLocked(ctx context.Context, rec *record) error {
	stat, err := c.procs.find(rec.ID, c.dir(rec.ID))
	if err != nil {
		return err
	}
	rec.identity = identity{BootID: c.procs.bootID, PID: stat.PID, StartTicks: stat.Starttime}
	if rec.Image == "" {
		rec.Image, rec.Launched = c.procs.describe(stat)
	}
	if err := c.write(rec); err != nil {
		return err
	}
	c.log.InfoContext(ctx, "found an instance again by its marks", "instance", rec.ID, "pid", rec.PID)
	return nil
}

// rescue makes a new record for an instance whose own is damaged, if its process
// lives. If not, the directory is left as it is for somebody to look at.
func (c *Cloud) rescue(ctx context.Context, id pool.InstanceID, damage error) (record, bool, error) {
	c.once(id, "it is not listed unless its process is found", damage)
	c.mu.Lock()
	_, lost := c.lost[id]
	c.mu.Unlock()
	if lost {
		return record{}, false, nil
	}
	free, err := lockDir(ctx, c.dir(id))
	if err != nil {
		return record{}, false, err
	}
	defer free()
	if rec, err := c.read(id); err == nil {
		return rec, true, nil // somebody else did it
	}
	rec := record{ID: id, Deployment: c.deployment}
	err = c.claimLocked(ctx, &rec)
	if errors.Is(err, errNoProcess) {
		c.mu.Lock()
		c.lost[id] = struct{}{}
		c.mu.Unlock()
		return record{}, false, nil
	}
	return rec, err == nil, err
}
