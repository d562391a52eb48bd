package ec2cloud

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// What IAM takes as the ARN of a managed policy: one of an account, or one of AWS's own, and what EC2 takes as the id
// of a VPC. Source: IAM User Guide, "IAM identifiers"; EC2 API Reference, Vpc.
var (
	boundaryForm = regexp.MustCompile(`^arn:(aws[a-z-]*):iam::([0-9]{12}|aws):policy/[!-~]*[\w+=,.@-]+$`)
	vpcForm      = regexp.MustCompile(`^vpc-[0-9a-f]{8,17}$`)
)

// BoundaryOf returns the partition and the account in the ARN of a permissions boundary. The account is aws if it is
// one of AWS's own managed policies.
func BoundaryOf(arn string) (partition, account string, err error) {
	m := boundaryForm.FindStringSubmatch(arn)
	if m == nil {
		return "", "", fmt.Errorf("permissions_boundary: %q is not the ARN of a managed policy, as "+
			"arn:aws:iam::123456789012:policy/NAME", arn)
	}
	return m[1], m[2], nil
}

// validateAccount checks what setup and the IAM policies use of the account.
func (s *Settings) validateAccount() error {
	var errs []error
	if s.PermissionsBoundary != "" {
		if _, _, err := BoundaryOf(s.PermissionsBoundary); err != nil {
			errs = append(errs, err)
		}
	}
	if s.VPC != "" && !vpcForm.MatchString(s.VPC) {
		errs = append(errs, fmt.Errorf("vpc: %q is not the id of a VPC, as vpc-0123456789abcdef0; "+
			"aws ec2 describe-vpcs lists them", strings.TrimSpace(s.VPC)))
	}
	return errors.Join(errs...)
}
