package roster_test

import (
	"maps"
	"testing"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/pool"
)

// TestTagsKeepStatesApart that begin at the same moment.
func TestTagsKeepStatesApart(t *testing.T) {
	t.Parallel()
	r := newRoster()
	r.Observe([]cloud.Instance{listed("i-1"), listed("i-2", "active")}, at(1), at(1))
	if !r.Mark("i-1", pool.Active, at(2)) || !r.Mark("i-2", pool.ShutDown, at(2)) {
		t.Fatal("the states cannot be changed")
	}
	for _, tagging := range r.Mistagged() {
		want := map[pool.State]pool.InstanceID{pool.Active: "i-1", pool.ShutDown: "i-2"}[tagging.State]
		wantIDs(t, tagging.State.String(), tagging.IDs, want)
	}
}

// TestTagsKeepTimesApart checks that a controller that takes over learns from the tags since when each instance is in
// its state, also if several have come into it one after the other.
func TestTagsKeepTimesApart(t *testing.T) {
	t.Parallel()
	r, list := newRoster(), []cloud.Instance{listed("i-1"), listed("i-2"), listed("i-3")}
	r.Observe(list, at(1), at(1))
	for id, seconds := range map[pool.InstanceID]float64{"i-1": 10, "i-2": 20, "i-3": 20} {
		if !r.Mark(id, pool.Active, at(seconds)) {
			t.Fatalf("%s cannot become active", id)
		}
	}
	taggings := r.Mistagged()
	if len(taggings) != 2 {
		t.Errorf("got %d calls, want one for each time: %+v", len(taggings), taggings)
	}
	for i := range taggings {
		for _, id := range taggings[i].IDs {
			for n := range list {
				if list[n].ID == id {
					maps.Copy(list[n].Tags, taggings[i].Tags())
				}
			}
		}
	}
	next := newRoster()
	next.Observe(list, at(30), at(30))
	for _, in := range next.Instances(at(30)) {
		want := at(20)
		if in.ID == "i-1" {
			want = at(10)
		}
		if in.State != pool.Active || !in.StateSince.Equal(want) {
			t.Errorf("%s: got %s since %s, want active since %s", in.ID, in.State, in.StateSince, want)
		}
	}
}
