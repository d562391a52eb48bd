package ec2_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// asks returns what was asked for since the last time, as "action resource".
func (w *world) asks() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, c := range w.asked {
		out = append(out, c.Action+" "+strings.Join(c.Resources, " "))
	}
	w.asked = nil
	return out
}

// keys returns the values of a condition key of the call for a resource.
func (w *world) keys(action, resource, key string) string {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.asked {
		if c.Action == action && strings.Contains(c.Resources[0], resource) {
			return strings.Join(c.Context[key], " ")
		}
	}
	w.t.Fatalf("%s was not asked for %s", action, resource)
	return ""
}

func TestLaunchAsks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.mustRun("SubnetId=subnet-a", "SecurityGroupId.1=sg-default", "IamInstanceProfile.Name=worker",
		"InstanceMarketOptions.MarketType=spot", "MetadataOptions.HttpTokens=required",
		"TagSpecification.1.ResourceType=instance", "TagSpecification.1.Tag.1.Key=pool",
		"TagSpecification.1.Tag.1.Value=main")
	for _, c := range [][4]string{
		{"ec2:RunInstances", ":instance/*", "ec2:MetadataHttpTokens", "required"},
		{"ec2:RunInstances", ":instance/*", "aws:RequestTag/pool", "main"},
		{"ec2:RunInstances", ":instance/*", "ec2:InstanceMarketType", "spot"},
		{"ec2:RunInstances", ":subnet/subnet-a", "ec2:Vpc", "arn:aws:ec2:eu-west-1:123456789012:vpc/vpc-default"},
		{"ec2:RunInstances", "arn:aws:ec2:eu-west-1::image/" + image, "ec2:Owner", "123456789012"},
		{"ec2:RunInstances", ":security-group/sg-default", "ec2:Region", "eu-west-1"},
		{"ec2:CreateTags", ":instance/*", "ec2:CreateAction", "RunInstances"},
		{"iam:PassRole", "arn:aws:iam::123456789012:role/worker", "iam:PassedToService", "ec2.amazonaws.com"},
	} {
		if got := w.keys(c[0], c[1], c[2]); got != c[3] {
			t.Errorf("%s %s: got %s %q, want %q", c[0], c[1], c[2], got, c[3])
		}
	}
	asks := w.asks()
	for _, want := range []string{"volume/*", "network-interface/*", "spot-instances-request/*"} {
		want = "ec2:RunInstances arn:aws:ec2:eu-west-1:123456789012:" + want
		if !slices.Contains(asks, want) {
			t.Errorf("got %v, want %s", asks, want)
		}
	}
}

func TestDeniedCallsDoNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.mustRun("TagSpecification.1.ResourceType=instance", "TagSpecification.1.Tag.1.Key=pool",
		"TagSpecification.1.Tag.1.Value=main")[0]
	w.asks()
	for _, c := range [][]string{
		{"ec2:TerminateInstances", "InstanceId.1=" + id},
		{"ec2:StopInstances", "InstanceId.1=" + id},
		{"ec2:CreateTags", "ResourceId.1=" + id, "Tag.1.Key=a", "Tag.1.Value=b"},
		{"ec2:RunInstances", "MinCount=1", "MaxCount=1", "ImageId=" + image, "InstanceType=" + micro},
		{"ec2:DescribeInstances"},
	} {
		w.mu.Lock()
		w.deny[c[0]] = errors.New("because no identity-based policy allows the " + c[0] + " action")
		w.mu.Unlock()
		got := w.do(strings.TrimPrefix(c[0], "ec2:"), c[1:]...)
		if got.Code != "UnauthorizedOperation" || got.Status != 403 || !strings.Contains(got.Message, c[0]) {
			t.Errorf("%s: got %d %s: %s", c[0], got.Status, got.Code, got.Message)
		}
	}
	if got := w.keys("ec2:TerminateInstances", "instance/"+id, "ec2:ResourceTag/pool"); got != "main" {
		t.Errorf("got resource tag %q, want main", got)
	}
	all := w.Instances()
	if len(all) != 1 || all[0].State != "running" || all[0].Tags["a"] != "" {
		t.Errorf("got %+v, want one instance that runs and was not tagged", all)
	}
}
