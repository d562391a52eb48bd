package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"cloudmaster/internal/awsconf"
)

// base is the image from which a build starts.
type base struct{ owner, name, arch string }

// debian returns Debian 12 as Debian publishes it for EC2.
func debian(arch string) base {
	ec2Arch := map[string]string{"amd64": "x86_64", "arm64": "arm64"}[arch]
	return base{owner: "136693071363", name: "debian-12-" + arch + "-*", arch: ec2Arch}
}

// checkAccount checks that there is an account, that its region has the base image, and that no
// image has the name yet. It returns the region.
func checkAccount(ctx context.Context, o options, b base) (region string, err error) {
	cfg, err := awsconf.Load(ctx, awsconf.Options{Region: o.region, Client: "amibuild"})
	switch {
	case errors.Is(err, awsconf.ErrNoRegion):
		return "", fmt.Errorf("%w: set AWS_REGION", awsconf.ErrNoRegion)
	case err != nil:
		return "", err
	}
	client := ec2.NewFromConfig(cfg)
	found, err := images(ctx, client, b.owner, b.name, b.arch)
	switch {
	case err != nil:
		return "", fmt.Errorf("look for the base image in %s: %w", cfg.Region, err)
	case len(found) == 0:
		return "", fmt.Errorf("region %s has no image %s of owner %s for %s; choose another AWS_REGION",
			cfg.Region, b.name, b.owner, b.arch)
	}
	found, err = images(ctx, client, "self", o.name(), "")
	switch {
	case err != nil:
		return "", fmt.Errorf("look whether the name is free in %s: %w", cfg.Region, err)
	case len(found) > 0:
		return "", fmt.Errorf("%s exists already, as %s in %s; deregister it, or set AMI_VERSION to another than %s",
			o.name(), found[0], cfg.Region, o.version)
	}
	return cfg.Region, nil
}

// images returns the ids of the images of this owner, name and architecture.
func images(ctx context.Context, client *ec2.Client, owner, name, arch string) ([]string, error) {
	filters := []types.Filter{{Name: aws.String("name"), Values: []string{name}}}
	if arch != "" {
		filters = append(filters, types.Filter{Name: aws.String("architecture"), Values: []string{arch}})
	}
	out, err := client.DescribeImages(ctx, &ec2.DescribeImagesInput{Owners: []string{owner}, Filters: filters})
	if awsconf.Is(err, awsconf.Denied) {
		return nil, fmt.Errorf("%w; deploy/ami/build-policy.json grants the permissions that a build needs", err)
	}
	if err != nil {
		return nil, err
	}
	ids := make([]string, 0, len(out.Images))
	for i := range out.Images {
		ids = append(ids, aws.ToString(out.Images[i].ImageId))
	}
	return ids, nil
}
