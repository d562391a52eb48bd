package awssetup

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"cloudmaster/internal/awsconf"
	"cloudmaster/internal/cloud/ec2cloud"
	"cloudmaster/internal/pool"
	"cloudmaster/services/controller/internal/config"
)

// boundaryOf returns the ARN of the permissions boundary that a configuration's clouds on EC2 name; empty if none does.
// All must name the same one. They share an account's IAM, and whoever runs setup could otherwise make a role without
// limits under the names of the cloud that has none.
func boundaryOf(cfg *config.Config) (string, error) {
	var first pool.CloudName
	for i, name := range onEC2(cfg) {
		if i == 0 {
			first = name
		}
		if a, b := ec2Settings(cfg, first), ec2Settings(cfg, name); a.PermissionsBoundary != b.PermissionsBoundary {
			return "", fmt.Errorf("permissions_boundary: clouds %s and %s have %q and %q; IAM is one for all of them: "+
				"write the same in each", first, name, a.PermissionsBoundary, b.PermissionsBoundary)
		}
	}
	if first == "" {
		return "", nil
	}
	return ec2Settings(cfg, first).PermissionsBoundary, nil
}

// fitsBoundary returns an error if a permissions boundary is not of this partition and account. What is not known is
// empty.
func fitsBoundary(arn, partition, account string) error {
	if arn == "" {
		return nil
	}
	itsPartition, itsAccount, err := ec2cloud.BoundaryOf(arn)
	switch {
	case err != nil:
		return err
	case partition != "" && itsPartition != partition:
		return fmt.Errorf("permissions_boundary: %s is of partition %s, and the region is in partition %s: "+
			"name a managed policy of that partition", arn, itsPartition, partition)
	case account != "" && itsAccount != "aws" && itsAccount != account:
		return fmt.Errorf("permissions_boundary: %s is of account %s, and this is account %s: "+
			"name a managed policy of this account, or one of AWS's own", arn, itsAccount, account)
	}
	return nil
}

// planBoundary refuses a permissions boundary that does not exist, before anything is made that needs it.
func (s *site) planBoundary(ctx context.Context, p *plan) error {
	arn := s.policies.boundary
	if arn == "" {
		return nil
	}
	client := iam.NewFromConfig(s.places[0].aws) // IAM is the same in all of them
	_, err := client.GetPolicy(ctx, &iam.GetPolicyInput{PolicyArn: &arn})
	switch {
	case awsconf.Code(err) == codeNoEntity:
		p.refuse("permissions_boundary: there is no managed policy %s: make it (aws iam create-policy), or correct "+
			"the ARN", arn)
	case err != nil:
		return fmt.Errorf("look for the permissions boundary %s: %w", arn, err)
	}
	return nil
}

// boundaryIn returns the ARN of a role's permissions boundary; empty if it has none.
func boundaryIn(role *types.Role) string {
	if role.PermissionsBoundary == nil {
		return ""
	}
	return aws.ToString(role.PermissionsBoundary.PermissionsBoundaryArn)
}

func boundaryNote(has, want string) string {
	if has == "" {
		return "it has no permissions boundary, and should have " + want
	}
	return "its permissions boundary is " + has + ", not " + want
}

// keptBoundary says that a permissions boundary stays which the configuration does not name any more. Setup does not
// take it off: somebody may have put it there to limit setup itself, and a file that lost a line must not widen rights.
func keptBoundary(role, arn string) string {
	return "its permissions boundary " + arn + " stays, although permissions_boundary does not name it; to take it " +
		"off: aws iam delete-role-permissions-boundary --role-name " + role
}

func putBoundary(ctx context.Context, client *iam.Client, role, arn string) error {
	return settled(ctx, func(ctx context.Context) error {
		_, err := client.PutRolePermissionsBoundary(ctx, &iam.PutRolePermissionsBoundaryInput{
			RoleName: &role, PermissionsBoundary: &arn,
		})
		return err
	})
}
