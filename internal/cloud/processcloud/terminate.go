package processcloud

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	"cloudmaster/internal/pool"
)

// Terminate implements cloud.Cloud: it sends SIGTERM now, and SIGKILL when the grace time is over.
func (c *Cloud) Terminate(ctx context.Context, ids ...pool.InstanceID) error {
	var errs []error
	for _, id := range ids {
		if err := c.terminate(ctx, id); err != nil {
			errs = append(errs, fmt.Errorf("terminate instance %s: %w", id, err))
		}
	}
	return errors.Join(errs...)
}

func (c *Cloud) terminate(ctx context.Context, id pool.InstanceID) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case c.isClosed():
		return errClosed
	}
	s, ok, err := c.look(ctx, id)
	if err != nil || !ok || !s.alive {
		return err
	}
	err = c.change(ctx, &s.rec, func(r *record) bool {
		first := r.TerminatingSince.IsZero()
		if first {
			r.TerminatingSince = time.Now().UTC()
		}
		return first
	})
	switch {
	case errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errDamaged):
		return nil // it has ended and was swept since we looked
	case err != nil:
		return err
	}
	c.opts.step("marked")
	return c.end(ctx, &s.rec)
}

// end sends SIGTERM, once, to an instance that is marked as terminating. It also sets the time of
// the SIGKILL, which may have passed already.
func (c *Cloud) end(ctx context.Context, rec *record) error {
	w, err := c.watcher(ctx, rec)
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	if err != nil {
		return err
	}
	c.mu.Lock()
	told := w.told
	w.told = true
	c.mu.Unlock()
	if told {
		return nil // many programs take a second SIGTERM for "end at once, whatever is lost"
	}
	err = w.process.Signal(syscall.SIGTERM)
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		c.mu.Lock()
		w.told = false
		c.mu.Unlock()
		return fmt.Errorf("signal pid %d: %w", rec.PID, denied(err))
	}
	c.opts.step("signalled")
	_ = w.pidfd.SetReadDeadline(rec.TerminatingSince.Add(c.opts.Grace)) // fails only if the process has ended
	return nil
}
