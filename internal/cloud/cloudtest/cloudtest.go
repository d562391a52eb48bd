// Package cloudtest is the conformance suite of the cloud port: each test checks one clause of the
// contract in package cloud. Every implementation must pass it.
//
// A Harness says which clauses its implementation cannot keep, or cannot show from outside; their
// tests are skipped and say so. The suite waits with Harness.Eventually for everything that may
// lag, and never sleeps.
package cloudtest

import (
	"context"
	"crypto/rand"
	"maps"
	"strings"
	"testing"
	"time"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/pool"
)

// Harness gives access to an implementation and says what to expect of it.
type Harness struct {
	// Open returns a Cloud value of a deployment, and cleans up after the test. A test may open the
	// same deployment several times: the values then stand for several controllers on it. capacity is
	// the most instances that the deployment may have; 0 means no limit.
	Open func(t *testing.T, deployment string, capacity int) cloud.Cloud

	Image        string          // an image whose instances run until they are terminated
	MissingImage string          // a well-formed name of an image that does not exist
	UnknownID    pool.InstanceID // a well-formed id that no instance has

	// UserData returns the document that an instance received; ok is false as long as it cannot be
	// seen. Nil if it can never be seen.
	UserData func(t *testing.T, c cloud.Cloud, inst cloud.Instance) (doc []byte, ok bool)

	// Eventually calls cond until it returns true. It fails the test if that takes longer than the
	// implementation may take to start, end or list an instance. The default calls every 5 ms for 10 s.
	Eventually func(t *testing.T, what string, cond func() bool)

	KnowsIDs  bool // the cloud chooses ids before the launch, and calls Spec.UserData with them
	Capacity  bool // Open obeys its argument capacity
	Tokens    bool // tokens make launches idempotent, also between two Cloud values
	Stops     bool // instances can be stopped and started: the cloud is a cloud.Stopper
	Conflicts bool // a token that is used again with other parameters is ErrConflict
}

// Run runs the suite on the harness's implementation.
func Run(t *testing.T, h Harness) {
	t.Helper()
	if h.Eventually == nil {
		h.Eventually = eventually
	}
	for _, clause := range []struct {
		name string
		run  func(*testing.T, *suite)
		need bool
	}{
		{"launch returns what it started", launchTells, true},
		{"launch returns fewer only with an error", launchPartly, h.Capacity},
		{"launch on a full cloud starts nothing", launchFull, h.Capacity},
		{"launch refuses a missing image", launchMissingImage, true},
		{"launch refuses an invalid specification", launchInvalid, true},
		{"launch fails if there is no user data", launchUserDataFails, true},
		{"user data reaches the instance", userDataArrives, h.UserData != nil},
		{"user data is asked for with the id", userDataID, true},
		{"token repeated starts nothing more", tokenRepeated, h.Tokens},
		{"token used at once by many starts one launch", tokenConcurrent, h.Tokens},
		{"token of an ended launch starts nothing", tokenEnded, h.Tokens},
		{"token with other parameters is a conflict", tokenConflict, h.Conflicts},
		{"list of an empty deployment is empty", listEmpty, true},
		{"list has all pools", listAllPools, true},
		{"list has tags from the first moment", listTagsAtOnce, true},
		{"maps belong to the caller", mapsAreCopies, true},
		{"instances become running", becomesRunning, true},
		{"instances outlive the value that launched them", outlives, true},
		{"tag sets and leaves others", tagSets, true},
		{"tag of a missing instance is not found", tagMissing, true},
		{"terminate ends", terminateEnds, true},
		{"terminate again or of nothing is success", terminateIdempotent, true},
		{"foreign deployments are left alone", foreign, true},
		{"a stopped instance keeps id and tags and starts again", stopAndStart, h.Stops},
		{"stop and start again are success", stopAndStartTwice, h.Stops},
		{"stop passes over what is gone, and start does not", stopMissing, h.Stops},
		{"start without room starts nothing", startFull, h.Stops && h.Capacity},
		{"a stopped instance can be ended", stoppedEnds, h.Stops},
		{"a cancelled context stops every method", cancelled, true},
		{"methods may be called concurrently", concurrent, true},
	} {
		t.Run(strings.ReplaceAll(clause.name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			if !clause.need {
				t.Skip("the harness declares that this cloud cannot show it")
			}
			deployment := "conform-" + strings.ToLower(rand.Text()[:10])
			clause.run(t, &suite{Harness: h, deployment: deployment, c: h.Open(t, deployment, 0)})
		})
	}
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not within 10s: %s", what)
		}
	}
}

// suite is what one test works with: a deployment of its own and a Cloud value on it.
type suite struct {
	Harness

	deployment string
	c          cloud.Cloud
}

// spec returns a launch of n instances of the pool "main", with a token that no other launch has.
func (s *suite) spec(n int) cloud.Spec {
	return cloud.Spec{
		Token: "t-" + rand.Text(), Count: n, Image: s.Image,
		Tags:     map[string]string{cloud.TagPool: "main"},
		UserData: func(pool.InstanceID) ([]byte, error) { return []byte("pool: main\n"), nil },
	}
}

// launch launches n instances, or ends the test.
func (s *suite) launch(t *testing.T, n int) []cloud.Instance {
	t.Helper()
	out, err := s.c.Launch(t.Context(), s.spec(n))
	if err != nil || len(out) != n {
		t.Fatalf("Launch of %d: got %d instances and error %v, want all and none", n, len(out), err)
	}
	return out
}

// list returns what c lists, by instance id.
func (s *suite) list(t *testing.T, c cloud.Cloud) map[pool.InstanceID]cloud.Instance {
	t.Helper()
	all, err := c.List(t.Context())
	if err != nil {
		t.Fatalf("List: got error %v, want none", err)
	}
	out := make(map[pool.InstanceID]cloud.Instance, len(all))
	for _, inst := range all {
		if _, twice := out[inst.ID]; twice {
			t.Errorf("List: got %s twice, want it once", inst.ID)
		}
		if inst.Phase == cloud.PhaseUnknown {
			t.Errorf("List: got %s in phase unknown, want a phase", inst.ID)
		}
		if inst.Phase != cloud.Terminated { // what has ended may be listed, or not
			out[inst.ID] = inst
		}
	}
	return out
}

// listed waits until c lists exactly these instances as pending or running.
func (s *suite) listed(t *testing.T, c cloud.Cloud, want ...cloud.Instance) {
	t.Helper()
	var all map[pool.InstanceID]cloud.Instance
	defer func() {
		if t.Failed() {
			t.Logf("want %v listed, got %v", ids(want), all)
		}
	}()
	s.Eventually(t, "exactly the launched instances are listed", func() bool {
		got := s.list(t, c)
		all = maps.Clone(got)
		for _, inst := range want {
			if seen, ok := got[inst.ID]; !ok || seen.Phase == cloud.Terminating {
				return false
			}
			delete(got, inst.ID)
		}
		for _, rest := range got {
			if rest.Phase != cloud.Terminating {
				return false
			}
		}
		return true
	})
}

// unlisted waits until c no longer lists the instances.
func (s *suite) unlisted(t *testing.T, gone ...cloud.Instance) {
	t.Helper()
	s.Eventually(t, "terminated instances leave the list", func() bool {
		got := s.list(t, s.c)
		for _, inst := range gone {
			if _, ok := got[inst.ID]; ok {
				return false
			}
		}
		return true
	})
}

func ids(list []cloud.Instance) []pool.InstanceID {
	out := make([]pool.InstanceID, len(list))
	for i, inst := range list {
		out[i] = inst.ID
	}
	return out
}
