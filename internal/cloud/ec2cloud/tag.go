package ec2cloud

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/pool"
)

// Ids in one call. EC2 takes 1000 to tag and to end, and 200 values in a filter.
const (
	tagBatch    = 200
	lookUpBatch = 200
)

var idForm = regexp.MustCompile(`^i-[0-9a-f]{8,17}$`)

// Tag implements cloud.Cloud. Instances that exist are tagged also if others do not.
func (c *Cloud) Tag(ctx context.Context, tags map[string]string, ids ...pool.InstanceID) error {
	if err := done(ctx); err != nil {
		return fmt.Errorf("tag instances: %w", err)
	}
	ours, rest, err := c.ours(ctx, ids)
	if err != nil {
		return fmt.Errorf("tag instances: %w", err)
	}
	var errs []error
	for batch := range slices.Chunk(ours, tagBatch) {
		if len(tags) == 0 {
			break
		}
		gone, err := batched(batch, func(ids []string) error {
			_, err := c.client.CreateTags(ctx, &ec2.CreateTagsInput{Resources: ids, Tags: list(tags)})
			return err
		})
		rest = append(rest, gone...)
		if err != nil {
			errs = append(errs, fmt.Errorf("tag %w", err))
		}
	}
	if len(rest) > 0 {
		errs = append(errs, fmt.Errorf("tag instances %v: %w in deployment %s", rest, cloud.ErrNotFound, c.deployment))
	}
	return errors.Join(errs...)
}

// ours divides ids into the deployment's instances and the rest, each id once.
func (c *Cloud) ours(ctx context.Context, ids []pool.InstanceID) (ours, rest []string, err error) {
	var ask []string
	for _, id := range c.unseen(ids) {
		if idForm.MatchString(id) {
			ask = append(ask, id)
		}
	}
	for batch := range slices.Chunk(ask, lookUpBatch) {
		if _, err := c.describe(ctx, filter("instance-id", batch...)); err != nil {
			return nil, nil, fmt.Errorf("look up instances: %w", err)
		}
	}
	rest = c.unseen(ids)
	for _, id := range ids {
		if !slices.Contains(rest, string(id)) && !slices.Contains(ours, string(id)) {
			ours = append(ours, string(id))
		}
	}
	return ours, rest, nil
}

// list returns tags in EC2's type. They are sorted by their keys, because a request that is sent again with its
// token must be the same.
func list(tags map[string]string) []types.Tag {
	out := make([]types.Tag, 0, len(tags))
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		out = append(out, types.Tag{Key: aws.String(key), Value: aws.String(tags[key])})
	}
	return out
}
