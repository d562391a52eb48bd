package awssetup

import (
	"strings"
	"testing"
)

func TestPartitions(t *testing.T) {
	t.Parallel()
	for region, want := range map[string][2]string{
		"eu-west-1": {"aws", "amazonaws.com"}, "us-east-1": {"aws", "amazonaws.com"},
		"mx-central-1": {"aws", "amazonaws.com"}, "il-central-1": {"aws", "amazonaws.com"},
		"cn-north-1": {"aws-cn", "amazonaws.com.cn"}, "cn-northwest-1": {"aws-cn", "amazonaws.com.cn"},
		"us-gov-east-1": {"aws-us-gov", "amazonaws.com"}, "us-gov-west-1": {"aws-us-gov", "amazonaws.com"},
		"eusc-de-east-1": {"aws-eusc", "amazonaws.eu"},
		"us-iso-west-1":  {"aws-iso", "c2s.ic.gov"}, "us-isob-east-1": {"aws-iso-b", "sc2s.sgov.gov"},
		"eu-isoe-west-1": {"aws-iso-e", "cloud.adc-e.uk"}, "us-isof-east-1": {"aws-iso-f", "csp.hci.ic.gov"},
		"cn-moon-7": {"aws-cn", "amazonaws.com.cn"}, // a new one
	} {
		got, err := partition(t.Context(), region)
		suffix, err2 := dnsSuffix(t.Context(), region)
		if err != nil || err2 != nil || got != want[0] || suffix != want[1] {
			t.Errorf("%s: got %s and %s (%v, %v), want %s and %s", region, got, suffix, err, err2, want[0], want[1])
		}
	}
}

// TestARNsNameTheirPartition: nothing in the IAM policies of a partition is of another.
func TestARNsNameTheirPartition(t *testing.T) {
	t.Parallel()
	for region, want := range map[string][3]string{ // partition, principal, and those that a role may be passed to
		"us-gov-west-1":  {"aws-us-gov", "ec2.amazonaws.com", "ec2.amazonaws.com"},
		"cn-north-1":     {"aws-cn", "ec2.amazonaws.com.cn", "ec2.amazonaws.com ec2.amazonaws.com.cn"},
		"us-iso-east-1":  {"aws-iso", "ec2.amazonaws.com", "ec2.amazonaws.com ec2.c2s.ic.gov"},
		"eusc-de-east-1": {"aws-eusc", "ec2.amazonaws.com", "ec2.amazonaws.com ec2.amazonaws.eu"},
	} {
		p := policiesFor(t, region, 1)
		for _, name := range p.Names() {
			doc, _ := p.Named(name)
			for _, s := range doc.Statement {
				for _, arn := range s.Resource {
					if arn != "*" && !strings.HasPrefix(arn, "arn:"+want[0]+":") {
						t.Errorf("%s: %s of %s: got %s, want %s", region, s.Sid, name, arn, want[0])
					}
				}
			}
		}
		if got := p.trust().Statement[0].Principal["Service"]; got != want[1] {
			t.Errorf("%s: got principal %s, want %s", region, got, want[1])
		}
		if got := strings.Join(p.toEC2()["StringEquals"]["iam:PassedToService"], " "); got != want[2] {
			t.Errorf("%s: got roles passed to %s, want %s", region, got, want[2])
		}
	}
}
