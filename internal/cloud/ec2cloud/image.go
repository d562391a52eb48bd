package ec2cloud

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"cloudmaster/internal/cloud"
)

const (
	parameterPrefix = "ssm:"
	imageMemory     = time.Minute
)

var imageForm = regexp.MustCompile(`^ami-[0-9a-f]{8,17}$`)

// resolved is what an image's name stood for.
type resolved struct {
	id   string
	when time.Time
}

// ArchMark stands in the name of an image for the architecture of the machine: amd64 or arm64.
const ArchMark = "{arch}"

// archs are EC2's words for architectures, in those of images.
var archs = map[types.ArchitectureType]string{
	types.ArchitectureTypeX8664: "amd64", types.ArchitectureTypeArm64: "arm64",
}

// imageFor returns the id of the image that a spec names, for an instance type.
func (c *Cloud) imageFor(ctx context.Context, name, kind string) (string, error) {
	return c.imageWithin(ctx, name, kind, imageMemory)
}

// imageWithin is imageFor, with what a name stood for so long ago at most.
func (c *Cloud) imageWithin(ctx context.Context, name, kind string, within time.Duration) (string, error) {
	if strings.Contains(name, ArchMark) {
		arch, err := c.arch(ctx, kind)
		if err != nil {
			return "", err
		}
		name = strings.ReplaceAll(name, ArchMark, arch)
	}
	return c.image(ctx, name, within)
}

// arch returns the architecture of an instance type.
func (c *Cloud) arch(ctx context.Context, kind string) (string, error) {
	c.mu.Lock()
	known := c.archs[kind]
	c.mu.Unlock()
	if known != "" {
		return known, nil
	}
	out, err := c.client.DescribeInstanceTypes(ctx, &ec2.DescribeInstanceTypesInput{
		InstanceTypes: []types.InstanceType{types.InstanceType(kind)},
	})
	if err != nil {
		return "", fmt.Errorf("look for the architecture of instance type %s: %w", kind, classify(err))
	}
	for i := range out.InstanceTypes {
		if out.InstanceTypes[i].ProcessorInfo == nil {
			continue
		}
		for _, a := range out.InstanceTypes[i].ProcessorInfo.SupportedArchitectures {
			if arch := archs[a]; arch != "" {
				c.mu.Lock()
				defer c.mu.Unlock()
				c.archs[kind] = arch
				return arch, nil
			}
		}
	}
	return "", fmt.Errorf("%w: instance type %s has neither of the architectures amd64 and arm64", cloud.ErrInvalid,
		kind)
}

// root returns the name of an image's root device.
func (c *Cloud) root(ctx context.Context, image string) (string, error) {
	c.mu.Lock()
	known := c.roots[image]
	c.mu.Unlock()
	if known != "" {
		return known, nil
	}
	out, err := c.client.DescribeImages(ctx, &ec2.DescribeImagesInput{ImageIds: []string{image}})
	switch {
	case err != nil:
		return "", fmt.Errorf("look for the root device of image %q: %w", image, classify(err))
	case len(out.Images) == 0 || aws.ToString(out.Images[0].RootDeviceName) == "":
		return "", fmt.Errorf("%w: image %q has no root device that could be changed; "+
			"leave volume_size, volume_type and volume_encrypted out", cloud.ErrInvalid, image)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.roots[image] = *out.Images[0].RootDeviceName
	return c.roots[image], nil
}

// image returns the id of the image that a name stands for, or stood for so long ago at most.
func (c *Cloud) image(ctx context.Context, name string, within time.Duration) (string, error) {
	if imageForm.MatchString(name) {
		return name, nil
	}
	c.mu.Lock()
	known, ok := c.images[name]
	c.mu.Unlock()
	if ok && c.now().Sub(known.when) < within {
		return known.id, nil
	}
	id, err := c.look(ctx, name)
	if err != nil {
		return "", err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.images[name] = resolved{id: id, when: c.now()}
	return id, nil
}

// look returns the id of the image that a name or an SSM parameter stands for.
func (c *Cloud) look(ctx context.Context, name string) (string, error) {
	if strings.HasPrefix(name, parameterPrefix) {
		return parameter(ctx, c.params, name)
	}
	img, err := newest(ctx, c.client, c.opts.ImageOwners, name)
	return aws.ToString(img.ImageId), err
}

// newest finds the youngest available image of a name.
func newest(ctx context.Context, client *ec2.Client, owners []string, name string) (types.Image, error) {
	pages := ec2.NewDescribeImagesPaginator(client, &ec2.DescribeImagesInput{
		Owners:  owners,
		Filters: []types.Filter{filter("name", name), filter("state", "available")},
	})
	var best types.Image
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return best, fmt.Errorf("look for image %q: %w", name, classify(err))
		}
		for i := range page.Images { // dates are ISO 8601 in UTC, so that they can be compared as text
			if img := page.Images[i]; best.ImageId == nil ||
				aws.ToString(img.CreationDate) > aws.ToString(best.CreationDate) {
				best = img
			}
		}
	}
	if best.ImageId == nil {
		return best, fmt.Errorf("%w: image %q: no available image of this name belongs to %s; "+
			"build it with make ami in this region, or correct the pool's image",
			cloud.ErrNotFound, name, strings.Join(owners, ", "))
	}
	return best, nil
}

// parameter reads the id of an image from SSM.
func parameter(ctx context.Context, client *ssm.Client, name string) (string, error) {
	out, err := client.GetParameter(ctx, &ssm.GetParameterInput{
		Name: aws.String(strings.TrimPrefix(name, parameterPrefix)),
	})
	if err != nil {
		return "", fmt.Errorf("image %q: read the SSM parameter: %w; "+
			"write the id of an image that make ami built to it, or correct the pool's image", name, classify(err))
	}
	var id string
	if out.Parameter != nil {
		id = aws.ToString(out.Parameter.Value)
	}
	if !imageForm.MatchString(id) {
		return "", fmt.Errorf("%w: image %q: the SSM parameter holds %q, want an id as ami-0123456789abcdef0",
			cloud.ErrInvalid, name, id)
	}
	return id, nil
}

// groupIDs returns the ids of security groups that are given as ids or names. They are sorted, because a
// request that is sent again with its token must be the same.
func (c *Cloud) groupIDs(ctx context.Context, groups []string) ([]string, error) {
	var ids []string
	for _, g := range groups {
		id := g
		if !groupForm.MatchString(g) {
			var err error
			if id, err = c.group(ctx, g); err != nil {
				return nil, err
			}
		}
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

func (c *Cloud) group(ctx context.Context, name string) (string, error) {
	c.mu.Lock()
	id, ok := c.groups[name]
	c.mu.Unlock()
	if ok {
		return id, nil
	}
	out, err := c.client.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{
		Filters: []types.Filter{filter("group-name", name)},
	})
	switch {
	case err != nil:
		return "", fmt.Errorf("look for security group %q: %w", name, classify(err))
	case len(out.SecurityGroups) == 0:
		return "", fmt.Errorf("%w: security group %q; run controller setup, or correct the pool's security groups",
			cloud.ErrNotFound, name)
	case len(out.SecurityGroups) > 1:
		return "", fmt.Errorf("%w: security group %q exists in %d VPCs; give the id of the one that is meant",
			cloud.ErrInvalid, name, len(out.SecurityGroups))
	}
	id = aws.ToString(out.SecurityGroups[0].GroupId)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.groups[name] = id
	return id, nil
}

// forgetNames makes the next launches look up all names again.
func (c *Cloud) forgetNames() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.images)
	clear(c.groups)
}
