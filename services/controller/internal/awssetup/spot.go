package awssetup

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"

	"cloudmaster/internal/awsconf"
)

// The role with which EC2 launches spot instances, one for each account. EC2 makes it at the first launch of spot
// instances if who launches them may; the controller may not. Teardown leaves it, because others may use it. Source:
// EC2 User Guide, "Service-linked role for EC2 Spot Instances".
const (
	spotService  = "spot.amazonaws.com"
	spotRoleName = "AWSServiceRoleForEC2Spot"
	spotRolePath = "aws-service-role/" + spotService + "/" + spotRoleName
)

// codeInvalid is IAM's error code for, among others, a service-linked role that exists.
const codeInvalid = "InvalidInput"

// planSpot looks at the role for spot instances, if a pool uses some.
func (s *site) planSpot(ctx context.Context, p *plan) error {
	client := s.spotClient()
	if client == nil {
		return nil
	}
	role, err := getRole(ctx, client, spotRoleName)
	if err != nil {
		return err
	}
	t := thing{verb: keep, kind: kindLinked, name: spotRoleName}
	if role == nil {
		t.verb, t.do = create, func(ctx context.Context) error { return createSpotRole(ctx, client) }
	}
	p.add(t)
	return nil
}

// spotClient returns IAM as a pool with spot instances reaches it; nil if there is no such pool.
func (s *site) spotClient() *iam.Client {
	for _, pl := range s.pools() {
		if at := s.placeOf(pl.Cloud); at != nil && launch(s.cfg, at.aws.Region, pl).Spot > 0 {
			return iam.NewFromConfig(at.aws)
		}
	}
	return nil
}

// createSpotRole makes the role. It is content if somebody has made it meanwhile.
func createSpotRole(ctx context.Context, client *iam.Client) error {
	return settled(ctx, func(ctx context.Context) error {
		_, err := client.CreateServiceLinkedRole(ctx, &iam.CreateServiceLinkedRoleInput{
			AWSServiceName: aws.String(spotService),
		})
		if err == nil || awsconf.Code(err) != codeInvalid {
			return err
		}
		if role, lookErr := getRole(ctx, client, spotRoleName); lookErr != nil || role == nil {
			return err
		}
		return nil
	})
}
