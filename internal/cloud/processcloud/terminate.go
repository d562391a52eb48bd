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

// Terminate implements cloud.Cloud: SIGTERM now, SIGKILL after the grace time.
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
		return nil // ended and swept meanwhile
	case err != nil:
		return err
	}
	c.opts.step("marked")
	return c.end(ctx, &s.rec)
}

// end signals an instance that is marked as terminating, once, and sets the time of
// its SIGKILL, which may be over already.
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
		return nil // to many programs a second SIGTERM means "now, whatever is lost"
	}
	err = w.process.Signal(syscall.SIGTERM)
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		c.mu.Lock()
		w.told = false
		c.mu.Unlock()
		return fmt.Errorf("signal pid %d: %w", rec.PID, denied(err))
	}
	c.opts.step("signalled")
	_ = w.pidfd.SetReadDeadline(rec.TerminatingSince.Add(c.opts.Grace)) // fails only if it has ended
	return nil
}
