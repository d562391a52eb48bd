package ec2cloud_test

import (
	"errors"
	"net/url"
	"slices"
	"testing"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/cloud/ec2cloud"
	"cloudmaster/internal/pool"
)

// running launches instances that run.
func running(t *testing.T, c *ec2cloud.Cloud, n int) (ids []pool.InstanceID) {
	t.Helper()
	if _, err := c.Launch(t.Context(), spec("t", n)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.List(t.Context()); err != nil { // it moves them on
		t.Fatal(err)
	}
	list, err := c.List(t.Context())
	for i := range list {
		if ids = append(ids, list[i].ID); list[i].Phase != cloud.Running {
			t.Fatalf("got %s %s, want it running", list[i].ID, list[i].Phase)
		}
	}
	if err != nil || len(ids) != n {
		t.Fatalf("got %d instances and error %v, want %d", len(ids), err, n)
	}
	return ids
}

func phaseOf(t *testing.T, c *ec2cloud.Cloud, id pool.InstanceID) cloud.Phase {
	t.Helper()
	list, err := c.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range list {
		if list[i].ID == id {
			return list[i].Phase
		}
	}
	return cloud.PhaseUnknown
}

// TestStartWhileItStops: EC2 starts an instance only when it has stopped.
func TestStartWhileItStops(t *testing.T) {
	t.Parallel()
	_, c := world(t, ec2cloud.Options{})
	id := running(t, c, 1)[0]
	if err := c.Stop(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context(), id); !errors.Is(err, cloud.ErrNotStopped) || !cloud.Refused(err) {
		t.Errorf("Start while it stops: got error %v, want ErrNotStopped", err)
	}
	if got := phaseOf(t, c, id); got != cloud.Stopped { // Start has looked at it, which has moved it on
		t.Errorf("got it %s, want it stopped", got)
	}
	if err := c.Start(t.Context(), id); err != nil || phaseOf(t, c, id) != cloud.Pending {
		t.Errorf("Start: got error %v, want it pending", err)
	}
}

// TestStopDespiteOneThatEnds: EC2 refuses to stop all instances of a call because of one. The others are stopped.
func TestStopDespiteOneThatEnds(t *testing.T) {
	t.Parallel()
	_, c := world(t, ec2cloud.Options{})
	ids := running(t, c, 3)
	if err := c.Terminate(t.Context(), ids[1]); err != nil {
		t.Fatal(err)
	}
	if err := c.Stop(t.Context(), ids...); err != nil {
		t.Errorf("Stop: got error %v, want none", err)
	}
	for i, want := range []cloud.Phase{cloud.Stopped, cloud.PhaseUnknown, cloud.Stopped} {
		got := phaseOf(t, c, ids[i])
		if i == 0 { // the first list moves them on
			got = phaseOf(t, c, ids[i])
		}
		if got == cloud.Terminated && i == 1 {
			continue
		}
		if got != want {
			t.Errorf("instance %d: got it %s, want %s", i, got, want)
		}
	}
}

// TestSpotInstancesCannotBeStopped: that is a refusal, so that the caller ends them.
func TestSpotInstancesCannotBeStopped(t *testing.T) {
	t.Parallel()
	_, c := world(t, ec2cloud.Options{Launch: ec2cloud.Launch{Spot: 100}})
	id := running(t, c, 1)[0]
	if err := c.Stop(t.Context(), id); !errors.Is(err, cloud.ErrInvalid) {
		t.Errorf("Stop of a spot instance: got error %v, want ErrInvalid", err)
	}
	if got := phaseOf(t, c, id); got != cloud.Running {
		t.Errorf("got it %s, want running", got)
	}
}

// TestStartOfOneThatRuns: whether EC2 takes that for an error or not, the others are started.
func TestStartOfOneThatRuns(t *testing.T) {
	t.Parallel()
	f, c := world(t, ec2cloud.Options{})
	ids := running(t, c, 2)
	f.fail = func(action string, form url.Values) (code, message string) {
		found, _ := f.find(listOf(form, "InstanceId"))
		runs := slices.ContainsFunc(found, func(m *machine) bool { return m.state == "running" })
		if action == "StartInstances" && runs {
			return "IncorrectInstanceState", "one runs"
		}
		return "", ""
	}
	if err := c.Start(t.Context(), ids...); err != nil {
		t.Errorf("Start of two that run: got error %v, want none", err)
	}
	if err := c.Stop(t.Context(), ids[0]); err != nil {
		t.Fatal(err)
	}
	phaseOf(t, c, ids[0]) // it moves on
	if err := c.Start(t.Context(), ids...); err != nil || phaseOf(t, c, ids[0]) != cloud.Pending {
		t.Errorf("Start of one that runs and one that is stopped: got error %v, want both to run", err)
	}
}
