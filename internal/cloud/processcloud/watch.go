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

// buryPatience bounds the wait for an instance's lock, so that a suspended process that has the
// lock cannot delay Close for ever.
const buryPatience = 5 * time.Second

// watcher waits for the end of one instance, whether we or a predecessor started it. It needs no
// thread: a pidfd becomes readable when its process ends. The pidfd's read deadline serves as the
// time of the SIGKILL.
type watcher struct {
	rec     record
	process *os.Process // with a pidfd, and verified to be the instance's
	pidfd   *os.File    // another pidfd of the process, for which the runtime's poller can wait
	told    bool        // SIGTERM was sent by this Cloud value; guarded by Cloud.mu
}

// watch makes sure that a live instance is watched. If that fails, the next look at the instance tries again.
func (c *Cloud) watch(ctx context.Context, rec *record) {
	if _, err := c.watcher(ctx, rec); err != nil && !errors.Is(err, os.ErrProcessDone) && !errors.Is(err, errClosed) {
		c.log.WarnContext(ctx, "an instance cannot be watched", "instance", rec.ID, "pid", rec.PID, "error", err)
	}
}

// watcher returns the watcher of an instance, and starts it if there is none. The error is
// os.ErrProcessDone if the instance has ended, and errClosed if c is closed.
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

// attach opens pidfds, and compares the start time only after that: if it matches, the pidfds mean
// this very process, even if its pid is used again later.
func (c *Cloud) attach(rec *record) (*watcher, error) {
	process, err := os.FindProcess(rec.PID)
	if err != nil {
		return nil, err
	}
	if err := process.WithHandle(func(uintptr) {}); err != nil {
		if process.Signal(syscall.Signal(0)) == os.ErrProcessDone { //nolint:errorlint // documented by os
			return nil, os.ErrProcessDone // ended before it could be opened
		}
		return nil, err // os could only signal by pid, which may hit another process
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
		return w, nil // perhaps a zombie, which follow reaps
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

// follow waits for the end of the instance, and kills it when its grace time is over.
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
				c.log.ErrorContext(ctx, "an instance cannot be killed", "instance", w.rec.ID, "pid", w.rec.PID,
					"error", err)
			}
		default: // stop was called
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

// ended reaps the process if it is our child, and reports the end of the instance.
func (c *Cloud) ended(ctx context.Context, w *watcher) {
	status := "unknown"
	if state, err := w.process.Wait(); err == nil { // an error means that it is not our child
		status = state.String()
	}
	c.bury(ctx, &w.rec)
	c.mu.Lock()
	delete(c.watched, w.rec.ID)
	c.mu.Unlock()
	c.log.InfoContext(ctx, "instance ended",
		"instance", w.rec.ID, "image", w.rec.Image, "pid", w.rec.PID, "status", status)
	c.opts.Exited(w.rec.ID)
}

// bury kills what an instance that has ended has left, and then records its end: if we die between the two, the next
// look does both again. Nothing is lost if the record fails, because the process table shows the end as well.
func (c *Cloud) bury(ctx context.Context, rec *record) {
	if err := c.killLeft(ctx, rec); err != nil {
		c.log.WarnContext(ctx, "processes that an ended instance has started may run on; look for them and end them",
			"instance", rec.ID, "pid", rec.PID, "error", err)
	}
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

// change edits a record on disk while it is locked. Afterwards rec is what is on disk.
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
