package cloudtest

import (
	"errors"
	"testing"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/pool"
)

// stopper returns the cloud as one that stops instances.
func (s *suite) stopper(t *testing.T, c cloud.Cloud) cloud.Stopper {
	t.Helper()
	out, ok := c.(cloud.Stopper)
	if !ok {
		t.Fatalf("got a cloud of type %T, want a cloud.Stopper", c)
	}
	return out
}

// becomes waits until lists show the instances in a phase.
func (s *suite) becomes(t *testing.T, phase cloud.Phase, ids ...pool.InstanceID) {
	t.Helper()
	s.Eventually(t, phase.String(), func() bool {
		got := s.list(t, s.c)
		for _, id := range ids {
			if got[id].Phase != phase {
				return false
			}
		}
		return true
	})
}

func stopAndStart(t *testing.T, s *suite) {
	out, c := s.launch(t, 2), s.stopper(t, s.c)
	id, other := out[0].ID, out[1].ID
	s.becomes(t, cloud.Running, id, other)
	if err := c.Stop(t.Context(), id); err != nil {
		t.Fatalf("Stop: got error %v, want none", err)
	}
	s.becomes(t, cloud.Stopped, id)
	if err := s.c.Tag(t.Context(), map[string]string{"while": "stopped"}, id); err != nil {
		t.Errorf("Tag of a stopped instance: got error %v, want none", err)
	}
	if err := c.Start(t.Context(), id); err != nil {
		t.Fatalf("Start: got error %v, want none", err)
	}
	s.becomes(t, cloud.Running, id, other)
	s.wantTags(t, s.list(t, s.c)[id], map[string]string{
		"while": "stopped", cloud.TagPool: "main", cloud.TagDeployment: s.deployment,
	})
	if got := s.list(t, s.c); len(got) != 2 {
		t.Errorf("got %d instances, want the same 2", len(got))
	}
}

func stopAndStartTwice(t *testing.T, s *suite) {
	id, c := s.launch(t, 1)[0].ID, s.stopper(t, s.c)
	s.becomes(t, cloud.Running, id)
	for range 2 {
		if err := c.Stop(t.Context(), id); err != nil {
			t.Errorf("Stop: got error %v, want none", err)
		}
	}
	s.becomes(t, cloud.Stopped, id)
	if err := c.Stop(t.Context(), id); err != nil {
		t.Errorf("Stop of a stopped instance: got error %v, want none", err)
	}
	for range 2 {
		if err := c.Start(t.Context(), id); err != nil {
			t.Errorf("Start: got error %v, want none", err)
		}
	}
	s.becomes(t, cloud.Running, id)
}

func stopMissing(t *testing.T, s *suite) {
	foreign := s.stopper(t, s.Open(t, s.deployment+"-2", 0))
	id, c := s.launch(t, 1)[0].ID, s.stopper(t, s.c)
	s.becomes(t, cloud.Running, id)
	for who, stop := range map[string]cloud.Stopper{"of another deployment": foreign, "unknown": c} {
		missing := id
		if who == "unknown" {
			missing = s.UnknownID
		}
		if err := stop.Stop(t.Context(), missing); err != nil {
			t.Errorf("Stop of an instance that is %s: got error %v, want none", who, err)
		}
		if err := stop.Start(t.Context(), missing); !errors.Is(err, cloud.ErrNotFound) {
			t.Errorf("Start of an instance that is %s: got error %v, want ErrNotFound", who, err)
		}
	}
	s.becomes(t, cloud.Running, id)
}

func startFull(t *testing.T, s *suite) {
	full := s.Open(t, s.deployment, 1)
	id, c := s.launch(t, 1)[0].ID, s.stopper(t, full)
	s.becomes(t, cloud.Running, id)
	if err := c.Stop(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	s.becomes(t, cloud.Stopped, id)
	s.becomes(t, cloud.Running, s.launch(t, 1)[0].ID) // it takes the place
	if err := c.Start(t.Context(), id); !errors.Is(err, cloud.ErrCapacity) {
		t.Errorf("Start without room: got error %v, want ErrCapacity", err)
	}
	if got := s.list(t, s.c)[id].Phase; got != cloud.Stopped {
		t.Errorf("got it %s, want stopped", got)
	}
}

func stoppedEnds(t *testing.T, s *suite) {
	id, c := s.launch(t, 1)[0].ID, s.stopper(t, s.c)
	s.becomes(t, cloud.Running, id)
	if err := c.Stop(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	s.becomes(t, cloud.Stopped, id)
	if err := s.c.Terminate(t.Context(), id); err != nil {
		t.Errorf("Terminate of a stopped instance: got error %v, want none", err)
	}
	s.Eventually(t, "it is gone", func() bool {
		in, shown := s.list(t, s.c)[id]
		return !shown || in.Phase == cloud.Terminated
	})
	if err := c.Start(t.Context(), id); !cloud.Refused(err) {
		t.Errorf("Start of an ended instance: got error %v, want a refusal", err)
	}
}
