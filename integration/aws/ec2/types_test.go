package ec2_test

import (
	"slices"
	"testing"
)

// TestTypes: a filter passes over types that do not exist; a list with one is refused whole.
func TestTypes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	got := w.do("DescribeInstanceTypes", "Filter.1.Name=instance-type", "Filter.1.Value.1=c7g.large",
		"Filter.1.Value.2=z9.none", "Filter.1.Value.3="+micro)
	slices.Sort(got.Types)
	if want := []string{"c7g.large", micro}; got.Code != "" || !slices.Equal(got.Types, want) {
		t.Errorf("got types %q and error %q, want %q", got.Types, got.Code, want)
	}
	w.want(w.do("DescribeInstanceTypes", "InstanceType.1="+micro, "InstanceType.2=z9.none"), "InvalidInstanceType", 0)
	w.want(w.do("DescribeInstanceTypes", "Filter.1.Name=colour", "Filter.1.Value.1=red"), "InvalidParameterValue", 0)
}
