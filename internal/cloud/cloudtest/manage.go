package cloudtest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/pool"
)

func listEmpty(t *testing.T, s *suite) {
	if got := s.list(t, s.c); len(got) != 0 {
		t.Errorf("got %d instances, want none", len(got))
	}
}

func listAllPools(t *testing.T, s *suite) {
	var all []cloud.Instance
	for _, name := range []string{"primes", "fib"} {
		spec := s.spec(1)
		spec.Tags = map[string]string{cloud.TagPool: name}
		out, err := s.c.Launch(t.Context(), spec)
		if err != nil {
			t.Fatalf("Launch for pool %s: got error %v, want none", name, err)
		}
		all = append(all, out...)
	}
	s.listed(t, s.c, all...)
	got := s.list(t, s.c)
	for i, name := range []string{"primes", "fib"} {
		s.wantTags(t, got[all[i].ID], map[string]string{cloud.TagPool: name})
	}
}

func listTagsAtOnce(t *testing.T, s *suite) {
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			all, err := s.c.List(ctx)
			if err != nil {
				if ctx.Err() == nil {
					t.Errorf("List: got error %v, want none", err)
				}
				return
			}
			for _, inst := range all {
				s.wantTags(t, inst, map[string]string{cloud.TagPool: "main", cloud.TagDeployment: s.deployment})
			}
		}
	})
	out := s.launch(t, 5)
	s.listed(t, s.c, out...)
	stop()
	wg.Wait()
}

func mapsAreCopies(t *testing.T, s *suite) {
	spec := s.spec(1)
	out, err := s.c.Launch(t.Context(), spec)
	if err != nil {
		t.Fatalf("Launch: got error %v, want none", err)
	}
	spec.Tags[cloud.TagPool] = "spoilt"
	out[0].Tags[cloud.TagPool] = "spoilt"
	s.listed(t, s.c, out...)
	clear(s.list(t, s.c)[out[0].ID].Tags)
	s.wantTags(t, s.list(t, s.c)[out[0].ID], map[string]string{
		cloud.TagPool: "main", cloud.TagDeployment: s.deployment,
	})
}

func becomesRunning(t *testing.T, s *suite) {
	out := s.launch(t, 2)
	s.Eventually(t, "both instances run", func() bool {
		got := s.list(t, s.c)
		return got[out[0].ID].Phase == cloud.Running && got[out[1].ID].Phase == cloud.Running
	})
	got := s.list(t, s.c)[out[0].ID]
	if got.Image != s.Image || !got.Launched.Equal(out[0].Launched) {
		t.Errorf("List: got image %q, launched %s; want %q, %s as Launch returned them",
			got.Image, got.Launched, s.Image, out[0].Launched)
	}
}

func outlives(t *testing.T, s *suite) {
	out := s.launch(t, 1)
	if closer, ok := s.c.(interface{ Close() error }); ok {
		if err := closer.Close(); err != nil {
			t.Fatalf("Close: got error %v, want none", err)
		}
	}
	s.c = s.Open(t, s.deployment, 0)
	s.listed(t, s.c, out...)
	if err := s.c.Tag(t.Context(), map[string]string{"a": "b"}, out[0].ID); err != nil {
		t.Errorf("Tag by another value: got error %v, want none", err)
	}
	if err := s.c.Terminate(t.Context(), out[0].ID); err != nil {
		t.Errorf("Terminate by another value: got error %v, want none", err)
	}
	s.unlisted(t, out...)
}

func tagSets(t *testing.T, s *suite) {
	out := s.launch(t, 2)
	s.listed(t, s.c, out...)
	tag := func(tags map[string]string, ids ...pool.InstanceID) {
		t.Helper()
		if err := s.c.Tag(t.Context(), tags, ids...); err != nil {
			t.Fatalf("Tag %v on %v: got error %v, want none", tags, ids, err)
		}
	}
	tag(map[string]string{cloud.TagState: "active", "note": "a = b, \"ü\"\n"}, ids(out)...)
	tag(map[string]string{cloud.TagState: "shut_down"}, out[0].ID)
	tag(map[string]string{"nobody": "has it"})
	for i, state := range []string{"shut_down", "active"} {
		want := map[string]string{
			cloud.TagState: state, cloud.TagPool: "main", cloud.TagDeployment: s.deployment, "note": "a = b, \"ü\"\n",
		}
		s.Eventually(t, "the new tags are listed", func() bool {
			got := s.list(t, s.Open(t, s.deployment, 0))[out[i].ID].Tags
			return maps.Equal(got, want)
		})
	}
}

func tagMissing(t *testing.T, s *suite) {
	out := s.launch(t, 1)
	s.listed(t, s.c, out...)
	for _, ids := range [][]pool.InstanceID{{s.UnknownID}, {out[0].ID, s.UnknownID}} {
		if err := s.c.Tag(t.Context(), map[string]string{"a": "b"}, ids...); !errors.Is(err, cloud.ErrNotFound) {
			t.Errorf("Tag of %v: got error %v, want ErrNotFound", ids, err)
		}
	}
}

func terminateEnds(t *testing.T, s *suite) {
	out := s.launch(t, 3)
	s.listed(t, s.c, out...)
	if err := s.c.Terminate(t.Context(), out[0].ID, out[2].ID); err != nil {
		t.Fatalf("Terminate: got error %v, want none", err)
	}
	s.unlisted(t, out[0], out[2])
	s.listed(t, s.c, out[1])
}

func terminateIdempotent(t *testing.T, s *suite) {
	out := s.launch(t, 2)
	terminate := func(ids ...pool.InstanceID) {
		t.Helper()
		if err := s.c.Terminate(t.Context(), ids...); err != nil {
			t.Errorf("Terminate %v: got error %v, want none", ids, err)
		}
	}
	terminate()
	terminate(s.UnknownID)
	terminate(out[0].ID)
	terminate(out[0].ID)
	s.unlisted(t, out[0])
	terminate(out[0].ID)
	terminate(out[0].ID, s.UnknownID, out[1].ID)
	s.unlisted(t, out...)
}

func foreign(t *testing.T, s *suite) {
	out := s.launch(t, 1)
	s.listed(t, s.c, out...)
	other := s.Open(t, s.deployment+"x", 0)
	if got := s.list(t, other); len(got) != 0 {
		t.Errorf("List of another deployment: got %v, want nothing", got)
	}
	err := other.Tag(t.Context(), map[string]string{cloud.TagState: "active"}, out[0].ID)
	if !errors.Is(err, cloud.ErrNotFound) {
		t.Errorf("Tag by another deployment: got error %v, want ErrNotFound", err)
	}
	if err := other.Terminate(t.Context(), out[0].ID); err != nil {
		t.Errorf("Terminate by another deployment: got error %v, want none", err)
	}
	got, ok := s.list(t, s.c)[out[0].ID]
	if !ok || got.Phase == cloud.Terminating {
		t.Errorf("after that: got %v (present: %t), want it to live on", got, ok)
	}
	if state, ok := got.Tags[cloud.TagState]; ok {
		t.Errorf("after that: got state tag %q, want none", state)
	}
}

func cancelled(t *testing.T, s *suite) {
	out := s.launch(t, 1)
	s.listed(t, s.c, out...)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, launchErr := s.c.Launch(ctx, s.spec(1))
	_, listErr := s.c.List(ctx)
	for name, err := range map[string]error{
		"Launch":    launchErr,
		"List":      listErr,
		"Tag":       s.c.Tag(ctx, map[string]string{"a": "b"}, out[0].ID),
		"Terminate": s.c.Terminate(ctx, out[0].ID),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got error %v, want context.Canceled", name, err)
		}
	}
	s.listed(t, s.c, out...)
}

func concurrent(t *testing.T, s *suite) {
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			out, err := s.c.Launch(t.Context(), s.spec(2))
			if err != nil {
				t.Errorf("Launch: got error %v, want none", err)
				return
			}
			_, listErr := s.c.List(t.Context())
			err = errors.Join(
				listErr,
				s.c.Tag(t.Context(), map[string]string{"worker": fmt.Sprint(i)}, ids(out)...),
				s.c.Terminate(t.Context(), out[0].ID),
			)
			if err != nil {
				t.Errorf("got error %v, want none", err)
			}
		})
	}
	wg.Wait()
	s.Eventually(t, "one instance of each launch is left", func() bool {
		workers := map[string]int{}
		for _, inst := range s.list(t, s.c) {
			workers[inst.Tags["worker"]]++
		}
		return maps.Equal(workers, map[string]int{"0": 1, "1": 1, "2": 1, "3": 1})
	})
}
