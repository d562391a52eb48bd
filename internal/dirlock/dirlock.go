// Package dirlock lets only one process at a time use a directory. What is in it, a message store or the
// processes of a deployment, must never be used by two processes, whichever brokers and leases they have.
package dirlock

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// ErrHeld means that another process uses the directory. Errors that wrap it name that process.
var ErrHeld = errors.New("in use")

// file is the lock's name in the directory.
const file = "lock"

// Take locks the directory for this process, and creates it if it is missing. The lock ends when the returned
// file is closed, or with the process.
func Take(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("directory %s cannot be created: %w; choose another", dir, err)
	}
	f, err := os.OpenFile(filepath.Join(dir, file), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("directory %s is not writable: %w; change its owner or choose another", dir, err)
	}
	if err := lock(f, dir); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func lock(f *os.File, dir string) error {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	switch {
	case errors.Is(err, syscall.EWOULDBLOCK):
		return fmt.Errorf("directory %s is %w by process %s; stop that controller or choose another directory", dir,
			ErrHeld, holder(f))
	case err != nil:
		return fmt.Errorf("lock directory %s: %w", dir, err)
	}
	if err := f.Truncate(0); err != nil {
		return fmt.Errorf("lock directory %s: %w", dir, err)
	}
	if _, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0); err != nil {
		return fmt.Errorf("lock directory %s: %w", dir, err)
	}
	return nil
}

// holder returns the process id that the process with the lock has written into it.
func holder(f *os.File) string {
	text, err := io.ReadAll(io.NewSectionReader(f, 0, 32))
	if err != nil {
		return "(unknown)"
	}
	return cmp.Or(strings.TrimSpace(string(text)), "(unknown)")
}
