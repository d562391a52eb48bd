package ec2cloud

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/pool"
)

var _ cloud.Stopper = (*Cloud)(nil)

// Stop implements cloud.Stopper. EC2 answers IncorrectInstanceState for instances that cannot be stopped because they
// are not running any more, which is no error here, and UnsupportedOperation for those of spot requests that are for
// one launch. The instance-initiated shutdown behaviour does not matter: it is for shutdowns from within.
// Source: Amazon EC2 API Reference, StopInstances.
func (c *Cloud) Stop(ctx context.Context, ids ...pool.InstanceID) error {
	if err := done(ctx); err != nil {
		return fmt.Errorf("stop instances: %w", err)
	}
	ours, _, err := c.ours(ctx, ids)
	if err != nil {
		return fmt.Errorf("stop instances: %w", err)
	}
	c.leave(ours)
	var errs []error
	for batch := range slices.Chunk(ours, terminateBatch) {
		err := c.stop(ctx, batch)
		if errors.Is(err, cloud.ErrNotStopped) { // one of them does not run, and EC2 has done nothing for the others
			err = nil
			for i := range batch {
				if e := c.stop(ctx, batch[i:i+1]); !errors.Is(e, cloud.ErrNotStopped) {
					err = errors.Join(err, e)
				}
			}
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (c *Cloud) stop(ctx context.Context, batch []string) error {
	_, err := batched(batch, func(ids []string) error {
		_, err := c.client.StopInstances(ctx, &ec2.StopInstancesInput{InstanceIds: ids})
		return err
	})
	if err != nil {
		return fmt.Errorf("stop %w", err)
	}
	return nil
}

// Start implements cloud.Stopper. All instances are started with one call, because EC2 starts all that a call names or
// none; so there may be at most as many as EC2 takes at once, which is far more than a pool keeps warm. EC2 answers
// InsufficientInstanceCapacity where there is no room, and IncorrectInstanceState for one that is stopping.
// Source: Amazon EC2 API Reference, StartInstances, "Error codes".
func (c *Cloud) Start(ctx context.Context, ids ...pool.InstanceID) error {
	if err := done(ctx); err != nil {
		return fmt.Errorf("start instances: %w", err)
	}
	ours, rest, err := c.ours(ctx, ids)
	if err != nil {
		return fmt.Errorf("start instances: %w", err)
	}
	if len(rest) > 0 {
		return fmt.Errorf("start instances %v: %w in deployment %s", rest, cloud.ErrNotFound, c.deployment)
	}
	if len(ours) == 0 {
		return nil
	}
	err = c.start(ctx, ours)
	if !errors.Is(err, cloud.ErrNotStopped) {
		return err
	}
	idle, seeErr := c.idle(ctx, ours) // EC2 may also mean one that runs already, which is no error here
	switch {
	case seeErr != nil:
		return seeErr
	case len(idle) == 0:
		return nil
	case len(idle) < len(ours):
		return c.start(ctx, idle)
	}
	return err
}

func (c *Cloud) start(ctx context.Context, ids []string) error {
	if _, err := c.client.StartInstances(ctx, &ec2.StartInstancesInput{InstanceIds: ids}); err != nil {
		return fmt.Errorf("start instances %v: %w", ids, classify(err))
	}
	return nil
}

// idle returns the instances that neither run nor begin to.
func (c *Cloud) idle(ctx context.Context, ids []string) ([]string, error) {
	list, err := c.describe(ctx, filter("instance-id", ids...))
	if err != nil {
		return nil, fmt.Errorf("look up instances: %w", err)
	}
	return slices.DeleteFunc(slices.Clone(ids), func(id string) bool {
		return slices.ContainsFunc(list, func(in cloud.Instance) bool {
			return string(in.ID) == id && (in.Phase == cloud.Pending || in.Phase == cloud.Running)
		})
	}), nil
}
