package ec2cloud

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"cloudmaster/internal/pool"
)

// terminateBatch is far below EC2's limit: one bad id fails a whole batch.
const terminateBatch = 100

// Terminate implements cloud.Cloud. Ids that are not the deployment's are passed over.
func (c *Cloud) Terminate(ctx context.Context, ids ...pool.InstanceID) error {
	if err := done(ctx); err != nil {
		return fmt.Errorf("terminate instances: %w", err)
	}
	ours, rest, err := c.ours(ctx, ids)
	if err != nil {
		return fmt.Errorf("terminate instances: %w", err)
	}
	if len(rest) > 0 {
		c.log.InfoContext(ctx, "instances to terminate are gone, or not of this deployment", "instances", rest)
	}
	c.leave(ours)
	var errs []error
	for batch := range slices.Chunk(ours, terminateBatch) {
		_, err := batched(batch, func(ids []string) error {
			_, err := c.client.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: ids})
			return err
		})
		if err != nil {
			errs = append(errs, fmt.Errorf("terminate %w", err))
		}
	}
	return errors.Join(errs...)
}

// leave notes that instances are about to end. They leave room, so that capacity may be asked for again.
func (c *Cloud) leave(ids []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range ids {
		if at, found := c.seen[pool.InstanceID(id)]; found {
			at.runs = false
			c.seen[pool.InstanceID(id)] = at
			c.rests.roomFor(at)
		}
	}
}
