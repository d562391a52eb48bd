package ec2cloud

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"cloudmaster/internal/cloud"
)

// filterValues is how many values a filter may have. Source: EC2 API Reference, "Resource filtering".
const filterValues = 200

// Architectures returns the architectures of instance types, amd64 and arm64, by type. Types that the region does not
// have are missing. A filter is used because a list of types that has a wrong one is refused whole.
func Architectures(ctx context.Context, cfg aws.Config, kinds []string) (map[string][]string, error) {
	client := ec2.NewFromConfig(cfg)
	out := make(map[string][]string)
	for some := range slices.Chunk(kinds, filterValues) {
		pages := ec2.NewDescribeInstanceTypesPaginator(client, &ec2.DescribeInstanceTypesInput{
			Filters: []types.Filter{filter("instance-type", some...)},
		})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return nil, fmt.Errorf("look for instance types: %w", classify(err))
			}
			for i := range page.InstanceTypes {
				kind := &page.InstanceTypes[i]
				out[string(kind.InstanceType)] = architectures(kind)
			}
		}
	}
	return out, nil
}

// architectures are those of a type that images can be for.
func architectures(kind *types.InstanceTypeInfo) []string {
	out := []string{}
	if kind.ProcessorInfo == nil {
		return out
	}
	for _, a := range kind.ProcessorInfo.SupportedArchitectures {
		if known := archs[a]; known != "" {
			out = append(out, known)
		}
	}
	return out
}

// FindImage returns id and architecture (amd64, arm64, or EC2's own word for another) of the image that a pool's
// setting names; owners are whose images count if it is a name. An image that is not there is cloud.ErrNotFound. Name
// must not hold ArchMark any more.
func FindImage(ctx context.Context, cfg aws.Config, owners []string, name string) (id, arch string, err error) {
	client := ec2.NewFromConfig(cfg)
	id = name
	switch {
	case imageForm.MatchString(name):
	case strings.HasPrefix(name, parameterPrefix):
		if id, err = parameter(ctx, ssm.NewFromConfig(cfg), name); err != nil {
			return "", "", err
		}
	default:
		img, err := newest(ctx, client, owners, name)
		return aws.ToString(img.ImageId), archOf(&img), err
	}
	out, err := client.DescribeImages(ctx, &ec2.DescribeImagesInput{ImageIds: []string{id}})
	switch {
	case err != nil:
		return "", "", fmt.Errorf("look for image %q: %w", id, classify(err))
	case len(out.Images) == 0: // one that belongs to somebody else, and was not shared
		return "", "", fmt.Errorf("%w: image %q: EC2 shows no image of this id", cloud.ErrNotFound, id)
	}
	return id, archOf(&out.Images[0]), nil
}

// archOf is the architecture of an image.
func archOf(img *types.Image) string {
	a := types.ArchitectureType(img.Architecture)
	if known := archs[a]; known != "" {
		return known
	}
	return string(a)
}
