package loop_test

import (
	"context"
	"fmt"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/pool"
)

// Stop implements cloud.Stopper.
func (c tapCloud) Stop(ctx context.Context, ids ...pool.InstanceID) error {
	return c.tap.do("cloud.stop", fmt.Sprint(ids), func() error {
		c.tap.unnamed(ctx, "the stop", ids)
		c.tap.unburdened(ids)
		return c.stopper().Stop(ctx, ids...)
	})
}

// Start implements cloud.Stopper.
func (c tapCloud) Start(ctx context.Context, ids ...pool.InstanceID) error {
	return c.tap.do("cloud.start", fmt.Sprint(ids), func() error {
		err := c.stopper().Start(ctx, ids...)
		c.tap.atMost()
		return err
	})
}

func (c tapCloud) stopper() cloud.Stopper {
	s, ok := c.cloud.(cloud.Stopper)
	if !ok {
		c.tap.b.t.Fatal("this cloud cannot stop instances")
	}
	return s
}
