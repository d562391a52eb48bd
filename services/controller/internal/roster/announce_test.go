package roster_test

import (
	"strings"
	"testing"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/pool"
	"cloudmaster/services/controller/internal/roster"
)

func wantAnnounced(t *testing.T, what string, got, want roster.Announcement) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %d, want %d", what, got, want)
	}
}

// TestNothingTakesTheCloudsWordBack: the program on the instance does not know of it.
func TestNothingTakesTheCloudsWordBack(t *testing.T) {
	t.Parallel()
	r := newRoster()
	r.Observe([]cloud.Instance{listed("i-1", "active"), listed("i-2", "active")}, at(1), at(1))
	wantAnnounced(t, "of a stranger", r.Announce("i-9", "spot notice"), roster.Nobody)
	wantAnnounced(t, "at first", r.Announce("i-1", "rebalance recommendation"), roster.Entered)
	wantAnnounced(t, "again", r.Announce("i-1", "spot notice"), roster.Entered) // it is written down nowhere yet
	r.Hear(says("i-1", 0.5, 3), at(3))
	in := r.Instances(at(3))[0]
	if !in.Interrupted || in.Announced != "rebalance recommendation" || in.Load != 0.5 {
		t.Errorf("got %+v, want it interrupted, with the first word", in)
	}
	wantIDs(t, "serving", membersOf(r), "i-2")
	if !r.Mark("i-1", pool.ShutDown, at(4)) || r.Mark("i-1", pool.Active, at(5)) {
		t.Error("want it shut down, and not taken back")
	}
}

// TestTheCloudsWordIsKeptInTags, also if the instance has said before that it ends, and comes from there.
func TestTheCloudsWordIsKeptInTags(t *testing.T) {
	t.Parallel()
	r := newRoster()
	list := []cloud.Instance{listed("i-1", "active", t0.Format("2006-01-02T15:04:05Z07:00"))}
	r.Observe(list, at(1), at(1))
	r.Hear(leaves("i-1", 2), at(2))
	for _, tagging := range r.Mistagged() {
		r.Tagged(tagging)
	}
	r.Announce("i-1", "status check failed: system")
	tags := r.Mistagged()
	if len(tags) != 1 || tags[0].Tags()[cloud.TagAnnounced] != "status check failed: system" ||
		tags[0].Tags()[cloud.TagInterrupted] != "true" {
		t.Fatalf("got %+v, want the word in the tags", tags)
	}
	r.Tagged(tags[0])
	wantAnnounced(t, "once it is in the tags", r.Announce("i-1", "x"), roster.Kept)
	if left := r.Mistagged(); len(left) != 0 {
		t.Errorf("got %+v, want nothing left to tag", left)
	}
	list[0].Tags = tags[0].Tags()
	next := newRoster()
	next.Observe(list, at(60), at(60))
	next.Hear(says("i-1", 0, 61), at(61))
	if in := only(t, next, at(61)); !in.Interrupted || in.Announced != "status check failed: system" {
		t.Errorf("got %+v after a restart, want it interrupted", in)
	}
	wantAnnounced(t, "after a restart", next.Announce("i-1", "x"), roster.Kept)
}

// TestAListThatIsBehindTakesNothingBack: the tags are written once more, and the word stays.
func TestAListThatIsBehindTakesNothingBack(t *testing.T) {
	t.Parallel()
	r := newRoster()
	r.Observe([]cloud.Instance{listed("i-1", "active")}, at(1), at(1))
	r.Announce("i-1", "spot notice")
	for _, tagging := range r.Mistagged() {
		r.Tagged(tagging)
	}
	r.Observe([]cloud.Instance{listed("i-1", "active")}, at(2), at(2))
	if in := only(t, r, at(2)); in.Announced != "spot notice" || !in.Interrupted {
		t.Errorf("got %+v, want the word to stay", in)
	}
	if got := r.Mistagged(); len(got) != 1 || got[0].Announced != "spot notice" {
		t.Errorf("got %+v, want it tagged again", got)
	}
}

// TestAWordThatNoTagTakes is made fit, so that tags can be written.
func TestAWordThatNoTagTakes(t *testing.T) {
	t.Parallel()
	for why, want := range map[string]string{
		"": "announced", "\x00\n": "announced", "a \"b\"\n c;": "a b c", "\xffx": "x",
		strings.Repeat("é", 300): strings.Repeat("é", 200),
	} {
		r := newRoster()
		r.Observe([]cloud.Instance{listed("i-1", "active")}, at(1), at(1))
		r.Announce("i-1", why)
		if got := only(t, r, at(1)).Announced; got != want {
			t.Errorf("%q: got %q, want %q", why, got, want)
		}
	}
}

// TestTheCauseOfAnEndThatTheCloudAnnounced is interrupted, with the cloud's word.
func TestTheCauseOfAnEndThatTheCloudAnnounced(t *testing.T) {
	t.Parallel()
	r := newRoster()
	in := listed("i-1", "active")
	r.Observe([]cloud.Instance{in}, at(1), at(1))
	r.Announce("i-1", "spot notice")
	c := r.Observe([]cloud.Instance{ending(in)}, at(60), at(60))
	want := pool.Ending{Instance: "i-1", Cause: pool.Interrupted, Reason: "spot notice"}
	if len(c.Outside) != 1 || c.Outside[0] != want {
		t.Errorf("got %+v, want %+v", c.Outside, want)
	}
	wantAnnounced(t, "of one that ends", r.Announce("i-1", "spot notice"), roster.Kept)
	if r.Has("i-1") {
		t.Error("got it among those that can be told of")
	}
}
