package ec2cloud

import (
	"strings"
	"testing"
)

func TestFormsOfBoundaryAndVPC(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][2]string{
		"arn:aws:iam::123456789012:policy/limits":              {"aws", "123456789012"},
		"arn:aws-us-gov:iam::123456789012:policy/team/a/b.c-d": {"aws-us-gov", "123456789012"},
		"arn:aws:iam::aws:policy/PowerUserAccess":              {"aws", "aws"},
		"arn:aws:iam::123456789012:role/limits":                {},
		"arn:aws:iam::12345:policy/limits":                     {},
		"arn:aws:iam:eu-west-1:123456789012:policy/limits":     {},
		"arn:aws:iam::123456789012:policy/":                    {},
		"arn:aws:iam::123456789012:policy/a*":                  {},
		"arn:aws:iam::123456789012:policy/a b":                 {},
		"limits":                                               {},
	} {
		partition, account, err := BoundaryOf(text)
		if got := [2]string{partition, account}; got != want || (err != nil) != (want[0] == "") {
			t.Errorf("%q: got %q and %v, want %q", text, got, err, want)
		}
		set := Settings{PermissionsBoundary: text}
		if err := set.Validate(); want[0] == "" &&
			(err == nil || !strings.Contains(err.Error(), "permissions_boundary: ")) {
			t.Errorf("%q: got %v, want the key in it", text, err)
		}
	}
	for id, good := range map[string]bool{
		"vpc-0123456789abcdef0": true, "vpc-12345678": true, "vpc-x": false, "*": false,
	} {
		if err := (&Settings{VPC: id}).validateAccount(); (err == nil) != good {
			t.Errorf("vpc %q: got %v, want it taken: %v", id, err, good)
		}
	}
}
