package awsfake_test

import (
	"slices"
	"testing"
	"time"

	"cloudmaster/integration/aws/awsfake"
	"cloudmaster/integration/aws/ec2"
	"cloudmaster/internal/cloud"
	"cloudmaster/internal/cloud/ec2cloud"
	"cloudmaster/internal/pool"
)

// TestScheduledEvents: the adapter finds the instances for which EC2 has scheduled an end, and no others.
func TestScheduledEvents(t *testing.T) {
	f := start(t, awsfake.Options{})
	r := f.EC2(region)
	c, err := ec2cloud.Open(t.Context(), config(t, f, region, "admin"), "d", ec2cloud.Options{})
	if err != nil {
		t.Fatal(err)
	}
	two, err := c.Launch(t.Context(), cloud.Spec{
		Token: "t", Count: 2, Image: image, Tags: map[string]string{cloud.TagPool: "p"},
	})
	if err != nil || len(two) != 2 {
		t.Fatalf("launch: got %v, %v, want two instances", two, err)
	}
	if events, err := c.Check(t.Context()); err != nil || len(events) != 0 {
		t.Fatalf("before: got %v, %v, want nothing", events, err)
	}
	if err := r.Schedule(string(two[1].ID), ec2.Scheduled{
		Code: "instance-retirement", Description: "The instance is running on degraded hardware",
		NotBefore: time.Now().Add(48 * time.Hour),
	}); err != nil {
		t.Fatal(err)
	}
	events, err := c.Check(t.Context())
	if err != nil || len(events) != 1 || events[0].Says != cloud.Ends ||
		!slices.Equal(events[0].Instances, []pool.InstanceID{two[1].ID}) {
		t.Errorf("got %+v, %v, want the end of %s", events, err, two[1].ID)
	}
}
