package processcloud

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"cloudmaster/internal/backoff"
)

// errHeld means that somebody else has the lock.
var errHeld = errors.New("locked")

// tryLock takes the lock of a file or directory without waiting. A lock belongs to the open file,
// not to the process: two Cloud values in one process exclude each other, and a child that inherits
// the file keeps it locked until it ends, or until somebody calls unlock.
func tryLock(path string, flag int) (*os.File, error) {
	f, err := os.OpenFile(path, flag, filePerm)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		return f, nil
	}
	_ = f.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, errHeld
	}
	return nil, fmt.Errorf("lock %s: %w", path, err)
}

// unlock frees a lock and closes its file. Closing alone would not do, because a child between fork
// and exec may still have the file open.
func unlock(f *os.File) {
	_ = syscall.Flock(int(f.Fd()), syscall.LOCK_UN)
	_ = f.Close()
}

// lockDir waits for the lock of a directory. The kernel's own wait cannot be cancelled, so this
// tries again and again; others keep the lock only for milliseconds.
func lockDir(ctx context.Context, dir string) (free func(), err error) {
	for pause := time.Millisecond; ; pause = min(2*pause, 20*time.Millisecond) {
		f, err := tryLock(dir, os.O_RDONLY)
		if err == nil {
			return func() { unlock(f) }, nil
		}
		if !errors.Is(err, errHeld) {
			return nil, err
		}
		if !backoff.Wait(ctx, pause) {
			return nil, fmt.Errorf("wait for the lock of %s: %w", dir, context.Cause(ctx))
		}
	}
}
