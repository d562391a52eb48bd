package cloudtest

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/pool"
)

func launchTells(t *testing.T, s *suite) {
	before := time.Now()
	out := s.launch(t, 3)
	seen := map[pool.InstanceID]bool{}
	for _, inst := range out {
		if inst.ID == "" || seen[inst.ID] {
			t.Errorf("id: got %q, want one of its own", inst.ID)
		}
		seen[inst.ID] = true
		if inst.Image != s.Image {
			t.Errorf("image: got %q, want %q", inst.Image, s.Image)
		}
		if inst.Phase != cloud.Pending && inst.Phase != cloud.Running {
			t.Errorf("phase: got %s, want pending or running", inst.Phase)
		}
		if skew := inst.Launched.Sub(before).Abs(); skew > time.Minute {
			t.Errorf("launched: got %s, want about %s", inst.Launched, before)
		}
		s.wantTags(t, inst, map[string]string{cloud.TagPool: "main", cloud.TagDeployment: s.deployment})
	}
	s.listed(t, s.c, out...)
}

// wantTags checks that an instance has these tags. It may have others as well.
func (s *suite) wantTags(t *testing.T, inst cloud.Instance, want map[string]string) {
	t.Helper()
	for key, value := range want {
		if got, ok := inst.Tags[key]; !ok || got != value {
			t.Errorf("instance %s: tag %s: got %q (present: %t), want %q", inst.ID, key, got, ok, value)
		}
	}
}

func launchPartly(t *testing.T, s *suite) {
	s.c = s.Open(t, s.deployment, 2)
	spec := s.spec(3)
	first, err := s.c.Launch(t.Context(), spec)
	if !errors.Is(err, cloud.ErrCapacity) || len(first) != 2 {
		t.Fatalf("Launch of 3 with room for 2: got %d instances and error %v, want 2 and ErrCapacity", len(first), err)
	}
	s.listed(t, s.c, first...)
	if !s.Tokens {
		return
	}
	again, err := s.c.Launch(t.Context(), spec)
	if !errors.Is(err, cloud.ErrCapacity) || !sameIDs(again, first) {
		t.Errorf("the same again: got %v and error %v, want %v and ErrCapacity", ids(again), err, ids(first))
	}
}

func launchFull(t *testing.T, s *suite) {
	s.c = s.Open(t, s.deployment, 1)
	first := s.launch(t, 1)
	spec := s.spec(1)
	out, err := s.c.Launch(t.Context(), spec)
	if !errors.Is(err, cloud.ErrCapacity) || len(out) != 0 {
		t.Fatalf("Launch on a full cloud: got %d instances and error %v, want none and ErrCapacity", len(out), err)
	}
	if err := s.c.Terminate(t.Context(), first[0].ID); err != nil {
		t.Fatalf("Terminate: got error %v, want none", err)
	}
	s.Eventually(t, "there is room again after a termination", func() bool {
		out, err = s.c.Launch(t.Context(), spec)
		return err == nil && len(out) == 1
	})
}

func launchMissingImage(t *testing.T, s *suite) {
	spec := s.spec(1)
	spec.Image = s.MissingImage
	out, err := s.c.Launch(t.Context(), spec)
	if !errors.Is(err, cloud.ErrNotFound) || len(out) != 0 {
		t.Fatalf("Launch of image %q: got %d instances and error %v, want none and ErrNotFound", spec.Image, len(out),
			err)
	}
	if !strings.Contains(err.Error(), s.MissingImage) {
		t.Errorf("error: got %q, want the image %q named", err, s.MissingImage)
	}
}

func launchInvalid(t *testing.T, s *suite) {
	for name, spoil := range map[string]func(*cloud.Spec){
		"no token":          func(spec *cloud.Spec) { spec.Token = "" },
		"long token":        func(spec *cloud.Spec) { spec.Token = strings.Repeat("a", 65) },
		"path in the token": func(spec *cloud.Spec) { spec.Token = "../../x" },
		"count 0":           func(spec *cloud.Spec) { spec.Count = 0 },
		"count -1":          func(spec *cloud.Spec) { spec.Count = -1 },
		"no image":          func(spec *cloud.Spec) { spec.Image = "" },
		"long user data": func(spec *cloud.Spec) {
			spec.UserData = func(pool.InstanceID) ([]byte, error) { return make([]byte, 16<<10+1), nil }
		},
	} {
		spec := s.spec(1)
		spoil(&spec)
		out, err := s.c.Launch(t.Context(), spec)
		if !errors.Is(err, cloud.ErrInvalid) || len(out) != 0 {
			t.Errorf("%s: got %d instances and error %v, want none and ErrInvalid", name, len(out), err)
		}
	}
	s.listed(t, s.c)
}

func launchUserDataFails(t *testing.T, s *suite) {
	broken := errors.New("no such template")
	spec := s.spec(2)
	spec.UserData = func(pool.InstanceID) ([]byte, error) { return nil, broken }
	out, err := s.c.Launch(t.Context(), spec)
	if !errors.Is(err, broken) || len(out) != 0 {
		t.Errorf("got %d instances and error %v, want none and %v", len(out), err, broken)
	}
	s.listed(t, s.c)
}

func userDataArrives(t *testing.T, s *suite) {
	spec := s.spec(2)
	const text = "pool: main # ünï\nsettings: {x: \"$y 'z'\"}\n"
	spec.UserData = func(id pool.InstanceID) ([]byte, error) { return []byte(text + "id: " + string(id) + "\n"), nil }
	out, err := s.c.Launch(t.Context(), spec)
	if err != nil {
		t.Fatalf("Launch: got error %v, want none", err)
	}
	for _, inst := range out {
		want := text + "id: \n"
		if s.KnowsIDs {
			want = text + "id: " + string(inst.ID) + "\n"
		}
		var got []byte
		s.Eventually(t, "the instance has its user data", func() (ok bool) {
			got, ok = s.UserData(t, s.c, inst)
			return ok
		})
		if string(got) != want {
			t.Errorf("user data of %s: got %q, want %q", inst.ID, got, want)
		}
	}
}

func userDataID(t *testing.T, s *suite) {
	var asked []pool.InstanceID
	spec := s.spec(2)
	spec.UserData = func(id pool.InstanceID) ([]byte, error) {
		asked = append(asked, id)
		return []byte("x"), nil
	}
	out, err := s.c.Launch(t.Context(), spec)
	if err != nil {
		t.Fatalf("Launch: got error %v, want none", err)
	}
	for _, id := range asked {
		if known := slices.Contains(ids(out), id); known != s.KnowsIDs || !known && id != "" {
			t.Errorf("asked for the user data of %q, want one of %v (or nothing, if ids come later)", id, ids(out))
		}
	}
	if len(asked) == 0 {
		t.Error("got no call of UserData, want one at least")
	}
}

func tokenRepeated(t *testing.T, s *suite) {
	spec := s.spec(2)
	first, err := s.c.Launch(t.Context(), spec)
	if err != nil {
		t.Fatalf("Launch: got error %v, want none", err)
	}
	for name, c := range map[string]cloud.Cloud{"the same value": s.c, "another value": s.Open(t, s.deployment, 0)} {
		again, err := c.Launch(t.Context(), spec)
		if err != nil || !sameIDs(again, first) {
			t.Errorf("Launch again by %s: got %v and error %v, want %v", name, ids(again), err, ids(first))
		}
	}
	s.listed(t, s.c, first...)
	if other := s.launch(t, 2); slices.Contains(ids(first), other[0].ID) {
		t.Errorf("another token: got %s again, want a new instance", other[0].ID)
	}
}

func tokenConcurrent(t *testing.T, s *suite) {
	spec := s.spec(3)
	values := []cloud.Cloud{s.c, s.Open(t, s.deployment, 0)}
	results := make([][]cloud.Instance, 8)
	var wg sync.WaitGroup
	for i := range results {
		wg.Go(func() {
			out, err := values[i%len(values)].Launch(t.Context(), spec)
			if err != nil {
				t.Errorf("Launch: got error %v, want none", err)
			}
			results[i] = out
		})
	}
	wg.Wait()
	for _, got := range results {
		if len(got) != 3 || !sameIDs(got, results[0]) {
			t.Errorf("got %v, want %v from each", ids(got), ids(results[0]))
		}
	}
	s.listed(t, s.c, results[0]...)
}

func tokenEnded(t *testing.T, s *suite) {
	spec := s.spec(1)
	first, err := s.c.Launch(t.Context(), spec)
	if err != nil {
		t.Fatalf("Launch: got error %v, want none", err)
	}
	if err := s.c.Terminate(t.Context(), first[0].ID); err != nil {
		t.Fatalf("Terminate: got error %v, want none", err)
	}
	s.unlisted(t, first...)
	again, err := s.c.Launch(t.Context(), spec)
	if err != nil || !sameIDs(again, first) || again[0].Phase < cloud.Terminating {
		t.Errorf("Launch again: got %v and error %v, want %v in phase terminating", again, err, ids(first))
	}
	s.listed(t, s.c)
}

func tokenConflict(t *testing.T, s *suite) {
	spec := s.spec(1)
	first, err := s.c.Launch(t.Context(), spec)
	if err != nil {
		t.Fatalf("Launch: got error %v, want none", err)
	}
	for name, change := range map[string]func(*cloud.Spec){
		"count": func(spec *cloud.Spec) { spec.Count = 2 },
		"tags":  func(spec *cloud.Spec) { spec.Tags = map[string]string{cloud.TagPool: "other"} },
	} {
		other := spec
		change(&other)
		if out, err := s.c.Launch(t.Context(), other); !errors.Is(err, cloud.ErrConflict) || len(out) != 0 {
			t.Errorf("other %s: got %d instances and error %v, want none and ErrConflict", name, len(out), err)
		}
	}
	s.listed(t, s.c, first...)
}

// sameIDs reports whether both have the same instances, in any order.
func sameIDs(a, b []cloud.Instance) bool {
	x, y := ids(a), ids(b)
	slices.Sort(x)
	slices.Sort(y)
	return slices.Equal(x, y)
}
