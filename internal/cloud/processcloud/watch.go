package processcloud

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// buryPatience bounds the wait for an instance's lock, so that a stopped process
// that holds it cannot keep Close waiting.
const buryPatience = 5 * time.Second

// watcher waits for the end of one instance, ours or inherited, without holding a
// thread: a pidfd becomes readable when its process ends. Its read deadline
// doubles as the moment for SIGKILL.
type watcher struct {
	rec     record
	process *os.Process // by pidfd, verified to be ours
	pidfd   *os.File    // a second one that the runtime's poller can wait for
	told    bool        // SIGTERM was sent by this Cloud value; guarded by Cloud.mu
}

// watch makes sure that a live instance is watched. A failure leaves it unwatched until
// the next look at it.
func (c *Cloud) watch(ctx context.Context, rec *record) {
	if _, err := c.watcher(ctx, rec); err != nil && !errors.Is(err, os.ErrProcessDone) && !errors.Is(err, errClosed) {
		c.log.WarnContext(ctx, "an instance cannot be watched", "instance", rec.ID, "pid", rec.PID, "error", err)
	}
}

// watcher returns the watcher of an instance, starting it if need be;
// os.ErrProcessDone if the instance has ended, errClosed if c is closed.
func (c *Cloud) watcher(ctx context.Context, rec *record) (*watcher, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errClosed
	}
	if w := c.watched[rec.ID]; w != nil {
		return w, nil
	}
	w, err := c.attach(rec)
	if err != nil {
		return nil, err
	}
	c.watched[rec.ID] = w
	c.watchers.Go(func() { c.follow(context.WithoutCancel(ctx), w) })
	return w, nil
}

// attach opens pidfds and only then compares the start time: from here on they
// mean this process, whatever becomes of the number.
func (c *Cloud) attach(rec *record) (*watcher, error) {
	process, err := os.FindProcess(rec.PID)
	if err != nil {
		return nil, err
	}
	if err := process.WithHandle(func(uintptr) {}); err != nil {
		if process.Signal(syscall.Signal(0)) == os.ErrProcessDone { //nolint:errorlint // as os documents it
			return nil, os.ErrProcessDone // gone before it was found: there is nothing to have a handle of
		}
		return nil, err // os would signal by number
	}
	fd, err := unix.PidfdOpen(rec.PID, unix.PIDFD_NONBLOCK)
	if err != nil {
		_ = process.Release()
		if errors.Is(err, unix.ESRCH) {
			return nil, os.ErrProcessDone
		}
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	w := &watcher{rec: *rec, process: process, pidfd: os.NewFile(uintptr(fd), "pidfd")}
	_, same, err := c.procs.lookup(rec.identity)
	if same {
		return w, nil // also as a zombie, which follow reaps
	}
	w.release()
	return nil, cmp.Or(err, os.ErrProcessDone)
}

func (w *watcher) release() {
	_ = w.pidfd.Close()
	_ = w.process.Release()
}

// stop makes follow return.
func (w *watcher) stop() { _ = w.pidfd.Close() }

// follow waits for the end of the instance, killing it when its grace is over.
func (c *Cloud) follow(ctx context.Context, w *watcher) {
	defer w.release()
	for {
		err := w.wait()
		switch {
		case err == nil:
			c.ended(ctx, w)
			return
		case errors.Is(err, os.ErrDeadlineExceeded):
			_ = w.pidfd.SetReadDeadline(time.Time{})
			c.log.WarnContext(ctx, "instance did not end in time, killing it",
				"instance", w.rec.ID, "pid", w.rec.PID, "grace", c.opts.Grace)
			if err := w.process.Signal(unix.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
				c.log.ErrorContext(ctx, "an instance cannot be killed", "instance", w.rec.ID, "pid", w.rec.PID, "error", err)
			}
		default: // stopped
			return
		}
	}
}

// wait returns nil when the process has ended.
func (w *watcher) wait() error {
	conn, err := w.pidfd.SyscallConn()
	if err != nil {
		return err
	}
	return conn.Read(func(fd uintptr) bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return err == nil && n > 0
	})
}

// ended reaps the process if it was our child, and tells of its end.
func (c *Cloud) ended(ctx context.Context, w *watcher) {
	status := "unknown"
	if state, err := w.process.Wait(); err == nil { // an error: another process's child
		status = state.String()
	}
	c.bury(ctx, &w.rec)
	c.mu.Lock()
	delete(c.watched, w.rec.ID)
	c.mu.Unlock()
	c.log.InfoContext(ctx, "instance ended", "instance", w.rec.ID, "image", w.rec.Image, "pid", w.rec.PID, "status", status)
	c.opts.Exited(w.rec.ID)
}

// bury writes down that an instance has ended. The process table says so too, so
// that nothing is lost if this fails.
func (c *Cloud) bury(ctx context.Context, rec *record) {
	ctx, cancel := context.WithTimeout(ctx, buryPatience)
	defer cancel()
	err := c.change(ctx, rec, func(r *record) bool {
		if !r.Ended.IsZero() {
			return false
		}
		r.Ended = time.Now().UTC()
		return true
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.log.DebugContext(ctx, "the end of an instance is not recorded", "instance", rec.ID, "error", err)
	}
}

// change edits a record on disk under its lock; rec becomes what is there now.
func (c *Cloud) change(ctx context.Context, rec *record, edit func(*record) bool) error {
	free, err := lockDir(ctx, c.dir(rec.ID))
	if err != nil {
		return err
	}
	defer free()
	now, err := c.read(rec.ID)
	if err != nil {
		return err
	}
	if edit(&now) {
		if err := c.write(&now); err != nil {
			return err
		}
	}
	*rec = now
	return nil
}
