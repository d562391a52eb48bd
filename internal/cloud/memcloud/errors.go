package memcloud

import (
	"fmt"
	"slices"

	"cloudmaster/internal/cloud"
)

// check refuses specifications that can never be launched in this account.
func (a *Account) check(spec *cloud.Spec) error {
	if err := spec.Validate(); err != nil {
		return err
	}
	if a.opts.Images != nil && !slices.Contains(a.opts.Images, spec.Image) {
		return fmt.Errorf("%w: image %q", cloud.ErrNotFound, spec.Image)
	}
	return nil
}
