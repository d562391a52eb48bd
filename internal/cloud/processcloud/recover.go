package processcloud

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"cloudmaster/internal/pool"
)

// settle finds out what became of an intent whose launcher may have died. If the launcher started a
// process, that process has the instance's log locked.
func (c *Cloud) settle(ctx context.Context, intent record) (record, error) {
	lock, err := tryLock(c.dir(intent.ID), os.O_RDONLY)
	if errors.Is(err, errHeld) || errors.Is(err, fs.ErrNotExist) {
		return intent, nil // somebody launches or removes it right now
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
		return rec, nil // the process was never started
	case errors.Is(err, fs.ErrNotExist):
		return rec, nil // the launcher did not even come to the log
	case !errors.Is(err, errHeld):
		return rec, err
	}
	if err := c.claimLocked(ctx, &rec); !errors.Is(err, errNoProcess) {
		return rec, err
	}
	return rec, nil // a process between fork and exec: the next look will recognise it
}

// claimLocked looks for the process of an instance by its marks, and records it. The caller must
// have locked the instance's directory.
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

// rescue makes a new record for an instance whose own is damaged, if its process is alive. If not,
// it leaves the directory unchanged so that somebody can examine it.
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
		return rec, true, nil // somebody else has rescued it already
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
