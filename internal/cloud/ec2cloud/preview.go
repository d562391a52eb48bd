package ec2cloud

import (
	"context"
	"fmt"
	"slices"
	"time"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/pool"
)

// previewMemory is how long a preview relies on what an image's name stood for. A launch looks more often, and what it
// finds counts for previews, too.
const previewMemory = 5 * time.Minute

var _ cloud.Previewer = (*Cloud)(nil)

// Preview implements cloud.Previewer.
func (c *Cloud) Preview(ctx context.Context, name pool.Name, image string) (cloud.Preview, error) {
	l, err := c.opts.of(name)
	if err != nil {
		return cloud.Preview{}, fmt.Errorf("find out what a launch would make: %w", err)
	}
	out := cloud.Preview{Types: slices.Clone(l.InstanceTypes), Open: c.open(&l)}
	for _, kind := range l.InstanceTypes {
		id, err := c.imageWithin(ctx, image, kind, previewMemory)
		if err != nil {
			return cloud.Preview{}, fmt.Errorf("find out what a launch would make: %w", err)
		}
		out.Images = append(out.Images, id)
	}
	slices.Sort(out.Images)
	out.Images = slices.Compact(out.Images)
	return out, nil
}

// open returns the subnets of a pool that is to be level over them in which some choice is neither resting nor refused
// as wrong; nil if the pool need not be level.
func (c *Cloud) open(l *Launch) []string {
	if !l.Balanced {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	out := []string{}
	for _, choice := range slices.Concat(l.choices(l.Spot > 0), l.choices(l.Spot >= 100)) {
		_, rests := c.rests.of(choice, 1, c.now())
		_, wrong := c.faults[choice.place()]
		if !rests && !wrong && !slices.Contains(out, choice.subnet) {
			out = append(out, choice.subnet)
		}
	}
	slices.Sort(out)
	return out
}
