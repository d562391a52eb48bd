package processcloud

import (
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"syscall"

	"cloudmaster/internal/cloud"
)

var errClosed = errors.New("process cloud is closed")

var imageForm = regexp.MustCompile(`^[a-z0-9-]+$`)

// check refuses specifications that can never be launched as processes.
func check(spec *cloud.Spec) error {
	errs := []error{spec.Validate()}
	if spec.Image != "" && !imageForm.MatchString(spec.Image) {
		errs = append(errs,
			fmt.Errorf("%w: image %q: want the name of a binary, of a-z 0-9 -", cloud.ErrInvalid, spec.Image))
	}
	return errors.Join(errs...)
}

// causes maps the reasons for which the kernel refuses to start a process to the port's errors.
var causes = []struct {
	errno  error
	answer error
}{
	{fs.ErrNotExist, cloud.ErrNotFound},
	{fs.ErrPermission, cloud.ErrNotFound},
	{syscall.ENOEXEC, cloud.ErrInvalid},
	{syscall.EAGAIN, cloud.ErrCapacity}, // this user may have no more processes
	{syscall.ENOMEM, cloud.ErrCapacity},
	{syscall.EMFILE, cloud.ErrCapacity},
	{syscall.ENFILE, cloud.ErrCapacity},
}

// classify adds the port's error to an error from starting a process.
func classify(err error) error {
	for _, c := range causes {
		if errors.Is(err, c.errno) {
			return fmt.Errorf("%w: %w", c.answer, err)
		}
	}
	return err
}

// denied adds the port's error to an error from signalling a process.
func denied(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: %w", cloud.ErrDenied, err)
	}
	return err
}

// noBinary returns the error for an image whose binary cannot be executed, with what to do about it.
func noBinary(image, path string, reason error) error {
	return fmt.Errorf("%w: image %q: no executable %s (%w); run make build, or correct bin_dir",
		cloud.ErrNotFound, image, path, reason)
}
