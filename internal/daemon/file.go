package daemon

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"
)

const (
	mostFile     = 16 << 20         // bytes
	filePatience = 10 * time.Second // how long whoever writes a pipe may take
)

// ReadFile is os.ReadFile for files that an operator names. It returns in bounded time and memory also if the name
// stands for a pipe into which nobody writes, or for a device that never ends: a signal could not stop it there. A pipe
// must be complete within 10 s; what has more than 16 MiB is refused.
func ReadFile(file string) ([]byte, error) { return readFile(file, filePatience) }

func readFile(file string, patience time.Duration) ([]byte, error) {
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0) //nolint:gosec // the operator names it
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // nothing was written
	// Only what can keep us waiting takes a deadline; files on a disk refuse it.
	_ = f.SetReadDeadline(time.Now().Add(patience))
	raw, err := io.ReadAll(io.LimitReader(f, mostFile+1))
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, fmt.Errorf("%s is a pipe and was not complete within %s: "+
			"name a file, or end what writes into the pipe", file, patience)
	case err != nil:
		return nil, err
	case len(raw) > mostFile:
		return nil, fmt.Errorf("%s: has more than %d MiB: name another file", file, mostFile>>20)
	}
	return raw, nil
}
