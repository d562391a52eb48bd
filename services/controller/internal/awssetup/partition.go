package awssetup

import (
	"context"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/iam"
)

// partitions are the parts of AWS that have accounts of their own, each with one of its regions. The SDK knows which
// regions belong together, and exports that only through its resolvers of endpoints, without the names of partitions;
// so the names are here. Source of the names: aws-sdk-go-v2, internal/endpoints/awsrulesfn/partitions.json.
var partitions = map[string]string{
	"aws": "us-east-1", "aws-cn": "cn-north-1", "aws-eusc": "eusc-de-east-1", "aws-us-gov": "us-gov-west-1",
	"aws-iso": "us-iso-east-1", "aws-iso-b": "us-isob-east-1", "aws-iso-e": "eu-isoe-west-1",
	"aws-iso-f": "us-isof-south-1",
}

// partition returns the part of AWS that a region belongs to: the one whose IAM is also this region's. A region that
// the SDK does not know is sorted by its name, as the SDK does for endpoints.
func partition(ctx context.Context, region string) (string, error) {
	host, err := iamHost(ctx, region)
	if err != nil {
		return "", err
	}
	for name, of := range partitions {
		its, err := iamHost(ctx, of)
		if err != nil {
			return "", err
		}
		if its == host {
			return name, nil
		}
	}
	return "", fmt.Errorf("region %s belongs to a partition of AWS that this version does not know (its IAM is %s): "+
		"check the region's name, or use a newer version", region, host)
}

// iamHost is the host of IAM for a region: there is one in each partition.
func iamHost(ctx context.Context, region string) (string, error) {
	resolver := iam.NewDefaultEndpointResolverV2()
	e, err := resolver.ResolveEndpoint(ctx, iam.EndpointParameters{Region: aws.String(region)})
	if err != nil {
		return "", fmt.Errorf("find the partition of region %s: %w", region, err)
	}
	return e.URI.Host, nil
}

// dnsSuffix is how the names of AWS's hosts end in a region.
func dnsSuffix(ctx context.Context, region string) (string, error) {
	resolver := ec2.NewDefaultEndpointResolverV2()
	e, err := resolver.ResolveEndpoint(ctx, ec2.EndpointParameters{Region: aws.String(region)})
	if err != nil {
		return "", fmt.Errorf("find the DNS suffix of region %s: %w", region, err)
	}
	return strings.TrimPrefix(e.URI.Host, "ec2."+region+"."), nil
}
