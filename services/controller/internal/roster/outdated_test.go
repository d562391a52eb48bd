package roster_test

import (
	"testing"
	"time"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/pool"
	"cloudmaster/services/controller/internal/roster"
)

func TestOutdated(t *testing.T) {
	t.Parallel()
	now := pool.Version("image", "told")
	for name, c := range map[string]struct {
		in      cloud.Instance
		version string
		wanted  roster.Wanted
		drift   pool.Drift
		current bool
	}{
		"the same":             {version: now, current: true},
		"another image":        {version: pool.Version("old", "told"), drift: pool.OtherImage},
		"other settings":       {version: pool.Version("image", "old"), drift: pool.OtherSettings},
		"both":                 {version: pool.Version("old", "old"), drift: pool.OtherImage},
		"it does not say":      {},
		"another format":       {version: "0.image.told"},
		"garbage":              {version: "1.2.3.4"},
		"a moved name":         {version: now, in: cloud.Instance{Image: "ami-1"}, drift: pool.OtherImage},
		"the newest":           {version: now, in: cloud.Instance{Image: "ami-2"}, current: true},
		"image, not versioned": {in: cloud.Instance{Image: "ami-1"}},
		"another type":         {version: now, in: cloud.Instance{Type: "t2"}, drift: pool.OtherType, current: true},
		"one of the types":     {version: now, in: cloud.Instance{Type: "m5"}, current: true},
		"type, not versioned":  {in: cloud.Instance{Type: "t2"}, drift: pool.OtherType},
		"too old": {
			version: now, wanted: roster.Wanted{Lifetime: time.Second}, drift: pool.TooOld, current: true,
		},
		"not yet": {version: now, wanted: roster.Wanted{Lifetime: time.Hour}, current: true},
	} {
		r, w := newRoster(), c.wanted
		w.Version, w.Images, w.Types = now, []string{"ami-2"}, []string{"c7", "m5"}
		r.SetWanted(w)
		in := listed("i-1", "active")
		in.Image, in.Type = c.in.Image, c.in.Type
		if c.version != "" {
			in.Tags[cloud.TagVersion] = c.version
		}
		r.Observe([]cloud.Instance{in}, at(60), at(60))
		if got := r.Instances(at(60))[0]; got.Drift != c.drift || got.Current != c.current {
			t.Errorf("%s: got %q, current %v, want %q, %v", name, got.Drift, got.Current, c.drift, c.current)
		}
	}
}

// TestSuccessorCountsWhenItHasSucceeded, also for a controller that takes over, and although lists are late.
func TestSuccessorCountsWhenItHasSucceeded(t *testing.T) {
	t.Parallel()
	r, in := newRoster(), listed("i-1", "active")
	in.Tags[cloud.TagSurge] = "true"
	r.Observe([]cloud.Instance{in}, at(1), at(1))
	if !r.Instances(at(1))[0].Surge || len(r.Mistagged()) != 0 {
		t.Fatal("it is Surge, and its tags say so")
	}
	r.Succeed("i-1", "i-unknown")
	if r.Instances(at(1))[0].Surge {
		t.Error("it counts from now on")
	}
	list := r.Mistagged()
	if len(list) != 1 || list[0].Tags()[cloud.TagSurge] != "false" {
		t.Fatalf("got %+v, want its tags to be written", list)
	}
	r.Tagged(list[0])
	if got := r.Mistagged(); len(got) != 0 {
		t.Errorf("got %+v, want nothing after that", got)
	}
	r.Observe([]cloud.Instance{in}, at(2), at(2)) // a late list
	if r.Instances(at(2))[0].Surge {
		t.Error("a late list makes it Surge again")
	}
}

// TestWhatWasJustLaunchedIsNotTooOld, also if this controller's clock is ahead of the cloud's by more than the maximum
// lifetime: it would be replaced again and again. It grows old all the same.
func TestWhatWasJustLaunchedIsNotTooOld(t *testing.T) {
	t.Parallel()
	r, in := newRoster(), listed("i-1", "startup")
	in.Launched = at(0)
	r.SetWanted(roster.Wanted{Lifetime: time.Hour})
	ahead := at(0).Add(48 * time.Hour)
	r.Launched([]cloud.Instance{in}, ahead)
	r.Observe([]cloud.Instance{in}, ahead.Add(time.Minute), ahead.Add(time.Minute))
	for after, want := range map[time.Duration]pool.Drift{
		time.Minute: "", 59 * time.Minute: "", time.Hour: pool.TooOld,
	} {
		if got := r.Instances(ahead.Add(after))[0].Drift; got != want {
			t.Errorf("after %s: got %q, want %q", after, got, want)
		}
	}
}
