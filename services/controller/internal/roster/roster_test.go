package roster_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/message"
	"cloudmaster/internal/pool"
	"cloudmaster/services/controller/internal/roster"
)

// t0 is when tests begin; at returns the time so many seconds later.
var t0 = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

func at(seconds float64) time.Time { return t0.Add(time.Duration(seconds * float64(time.Second))) }

const lag = 30 * time.Second

func newRoster() *roster.Roster {
	return roster.New("mem", roster.Options{ServicePort: 20808, ListLag: lag})
}

// listed returns an instance as a cloud lists it: launched at t0, running, with the tags of a state and a
// time.
func listed(id pool.InstanceID, tags ...string) cloud.Instance {
	in := cloud.Instance{
		ID: id, Phase: cloud.Running, Address: string(id) + ".example", Launched: t0,
		Tags: map[string]string{cloud.TagPool: "fib"},
	}
	for i, key := range []string{cloud.TagState, cloud.TagStateSince} {
		if i < len(tags) {
			in.Tags[key] = tags[i]
		}
	}
	return in
}

func ending(in cloud.Instance) cloud.Instance {
	in.Phase = cloud.Terminating
	return in
}

// says returns a status with a load that was written so many seconds after t0.
func says(id pool.InstanceID, load, seconds float64) message.Status {
	return message.Status{InstanceID: id, Load: load, Timestamp: at(seconds)}
}

// only returns the one instance of a roster.
func only(t *testing.T, r *roster.Roster, now time.Time) pool.Instance {
	t.Helper()
	list := r.Instances(now)
	if len(list) != 1 {
		t.Fatalf("got %d instances, want 1: %+v", len(list), list)
	}
	return list[0]
}

func ids(list []pool.Instance) (out []pool.InstanceID) {
	for i := range list {
		out = append(out, list[i].ID)
	}
	return out
}

func wantIDs(t *testing.T, what string, got []pool.InstanceID, want ...pool.InstanceID) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func TestLaunched(t *testing.T) {
	t.Parallel()
	t.Run("keeps what is known", func(t *testing.T) {
		t.Parallel()
		r := newRoster()
		r.Observe([]cloud.Instance{listed("i-1", "active")}, at(1), at(1))
		r.Launched([]cloud.Instance{listed("i-1", "startup")}, at(2))
		if got := only(t, r, at(2)).State; got != pool.Active {
			t.Errorf("got %s, want active", got)
		}
	})
	t.Run("takes one that has ended meanwhile for no capacity", func(t *testing.T) {
		t.Parallel()
		r := newRoster()
		r.Launched([]cloud.Instance{ending(listed("i-1", "startup"))}, at(2))
		if got := only(t, r, at(2)).State; got != pool.Stopping {
			t.Errorf("got %s, want stopping", got)
		}
	})
	t.Run("finds what it said before the answer", func(t *testing.T) {
		t.Parallel()
		r := newRoster()
		if got := r.Hear(says("i-1", 0.5, 1), at(1)); got != roster.Unknown {
			t.Errorf("got %s, want unknown", got)
		}
		r.Launched([]cloud.Instance{listed("i-1", "startup")}, at(2))
		wantIDs(t, "ready", r.Ready(), "i-1")
	})
}

// TestWhatAndWhereItIs is told by the newest list: a launch may answer before EC2 knows the zone.
func TestWhatAndWhereItIs(t *testing.T) {
	t.Parallel()
	r, in := newRoster(), listed("a")
	in.Type = "t3.micro"
	r.Launched([]cloud.Instance{in}, t0)
	if got := only(t, r, t0); got.Type != "t3.micro" || got.Zone != "" || got.Spot {
		t.Errorf("launched: got type %q, zone %q, spot %t, want t3.micro and nothing", got.Type, got.Zone, got.Spot)
	}
	in.Zone, in.Spot = "eu-west-1a", true
	r.Observe([]cloud.Instance{in}, at(1), at(1))
	if got := only(t, r, at(1)); got.Type != "t3.micro" || got.Zone != "eu-west-1a" || !got.Spot {
		t.Errorf("listed: got type %q, zone %q, spot %t, want t3.micro, eu-west-1a, true", got.Type, got.Zone, got.Spot)
	}
}

func TestMarkFollowsTheStateMachine(t *testing.T) {
	t.Parallel()
	states := []pool.State{pool.Startup, pool.Active, pool.ShutDown, pool.Stopping}
	for _, from := range states {
		for _, to := range states {
			in := listed("i-1", from.String())
			if from == pool.Stopping {
				in = ending(in)
			}
			r := newRoster()
			r.Observe([]cloud.Instance{in}, at(1), at(1))
			if got, want := r.Mark("i-1", to, at(2)), from.CanBecome(to); got != want {
				t.Errorf("%s to %s: got %v, want %v", from, to, got, want)
			}
			if got := only(t, r, at(2)); from.CanBecome(to) && (got.State != to || got.StateSince != at(2)) {
				t.Errorf("%s to %s: got %s since %s", from, to, got.State, got.StateSince)
			} else if to == pool.Active && from.CanBecome(to) && got.ActiveAt != at(2) {
				t.Errorf("%s to %s: active at %s, want %s", from, to, got.ActiveAt, at(2))
			}
		}
	}
}

func TestStoppingIsNeverChosenTwice(t *testing.T) {
	t.Parallel()
	r := newRoster()
	r.Observe([]cloud.Instance{listed("i-1", "active")}, at(1), at(1))
	if !r.End(pool.Ending{Instance: "i-1", Cause: pool.IdleSurplus}, r.Heard(), at(2)) {
		t.Fatal("an active instance cannot be ended")
	}
	if r.End(pool.Ending{Instance: "i-1", Cause: pool.IdleSurplus}, r.Heard(), at(3)) ||
		r.Mark("i-1", pool.Stopping, at(3)) || r.Mark("i-1", pool.Active, at(3)) {
		t.Error("a stopping instance was chosen again")
	}
	r.Observe([]cloud.Instance{listed("i-1", "active")}, at(4), at(4)) // a list that is behind
	if got := only(t, r, at(4)); got.State != pool.Stopping || got.StateSince != at(2) {
		t.Errorf("after a list that lags: got %s since %s, want stopping since %s", got.State, got.StateSince, at(2))
	}
}

func TestEndLeavesThoseWhoHaveSpokenSince(t *testing.T) {
	t.Parallel()
	r := newRoster()
	r.Observe([]cloud.Instance{listed("i-1", "active")}, at(1), at(1))
	r.Hear(says("i-1", 0, 2), at(2))
	heard := r.Heard()
	busy := says("i-1", 1, 2) // written at the same moment
	busy.Sequence = 1
	r.Hear(busy, at(2))
	if r.End(pool.Ending{Instance: "i-1", Cause: pool.IdleSurplus}, heard, at(4)) {
		t.Error("ended, although it has reported load since")
	}
	if !r.End(pool.Ending{Instance: "i-1", Cause: pool.IdleSurplus}, r.Heard(), at(4)) {
		t.Error("not ended, although it has said nothing since")
	}
}

func TestUntold(t *testing.T) {
	t.Parallel()
	r := newRoster()
	in := listed("i-1", "active")
	r.Observe([]cloud.Instance{in, listed("i-2", "active")}, at(1), at(1))
	wantIDs(t, "nobody is to end", pool.IDs(r.Untold(at(1), nobody)))
	r.Mark("i-1", pool.Stopping, at(2))
	wantIDs(t, "not told", pool.IDs(r.Untold(at(2), nobody)), "i-1")
	r.Ended(at(3), "i-1", "i-9")
	wantIDs(t, "told", pool.IDs(r.Untold(at(3), nobody)))
	r.Observe([]cloud.Instance{in, listed("i-2", "active")}, at(4), at(4))
	wantIDs(t, "told, lists lag", pool.IDs(r.Untold(at(32), nobody)))
	wantIDs(t, "told, still running after the lag", pool.IDs(r.Untold(at(34), nobody)), "i-1")
	r.Observe([]cloud.Instance{ending(in), listed("i-2", "active")}, at(35), at(35))
	wantIDs(t, "ending", pool.IDs(r.Untold(at(100), nobody)))
}

// TestUntoldMayFinishWhatTheyHaveFound checks that an instance that was told to end while it was idle, which
// the cloud has not accepted, may finish work that it has found since.
func TestUntoldMayFinishWhatTheyHaveFound(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		before, since float64
		untold        bool
	}{
		"idle, still idle":      {0, 0, true},
		"idle, then at work":    {0, 1, false},
		"at work all the time":  {1, 1, true}, // it was hung or its drain was over, so it ends although it is at work
		"at work, idle at last": {1, 0, true},
	} {
		r := newRoster()
		r.Observe([]cloud.Instance{listed("i-1", "active")}, at(1), at(1))
		r.Hear(says("i-1", c.before, 2), at(2))
		r.End(pool.Ending{Instance: "i-1", Cause: pool.IdleSurplus}, r.Heard(), at(3))
		r.Hear(says("i-1", c.since, 4), at(4))
		if got := len(r.Untold(at(5), nobody)) == 1; got != c.untold {
			t.Errorf("%s: got untold %v, want %v", name, got, c.untold)
		}
	}
}

func TestPresent(t *testing.T) {
	t.Parallel()
	r := newRoster()
	r.Observe([]cloud.Instance{
		listed("i-1", "active"), listed("i-2", "shut_down"), listed("i-3", "startup"), listed("i-4", "active"),
		ending(listed("i-5", "active")),
	}, at(1), at(1))
	for _, c := range []struct {
		what string
		do   func()
		want int
	}{
		{"after the list", func() {}, 4},
		{
			"one marked, not told",
			func() { r.End(pool.Ending{Instance: "i-4", Cause: pool.IdleSurplus}, r.Heard(), at(2)) }, 4,
		},
		{"told", func() { r.Ended(at(3), "i-4") }, 3},
		{"one launched", func() { r.Launched([]cloud.Instance{listed("i-6", "startup")}, at(4)) }, 4},
	} {
		c.do()
		if got := r.Present(); got != c.want {
			t.Errorf("%s: got %d present, want %d", c.what, got, c.want)
		}
	}
}

// members returns the ids of the instances in the active set.
func members(r *roster.Roster) []pool.InstanceID {
	var out []pool.InstanceID
	for _, in := range r.Serving() {
		out = append(out, in.ID)
	}
	return out
}

func TestServing(t *testing.T) {
	t.Parallel()
	r := newRoster()
	homeless := listed("i-4", "active")
	homeless.Address = ""
	r.Observe([]cloud.Instance{
		listed("i-3", "shut_down"), listed("i-2", "active"), listed("i-1", "active"), homeless,
		listed("i-5", "startup"),
	}, at(1), at(1))
	wantIDs(t, "active", members(r), "i-1", "i-2")
	r.Mark("i-5", pool.Active, at(2))
	wantIDs(t, "started, tags not written", members(r), "i-1", "i-2", "i-5")
	r.Mark("i-3", pool.Active, at(2))
	wantIDs(t, "taken back, tags still say shut_down", members(r), "i-1", "i-2", "i-5")
	for _, tagging := range r.Mistagged() {
		r.Tagged(tagging)
	}
	wantIDs(t, "tagged", members(r), "i-1", "i-2", "i-3", "i-5")
}

func TestMistagged(t *testing.T) {
	t.Parallel()
	r := newRoster()
	list := []cloud.Instance{
		listed("i-1", "startup"), listed("i-2", "startup"), listed("i-3", "active"), listed("i-4", "active"),
		listed("i-5", "active"),
	}
	r.Observe(list, at(1), at(1))
	for _, id := range []pool.InstanceID{"i-2", "i-1"} {
		r.Mark(id, pool.Active, at(2))
	}
	r.Mark("i-3", pool.ShutDown, at(3))
	r.Mark("i-4", pool.Stopping, at(3))
	want := []roster.Tagging{
		{State: pool.Active, Since: at(2), IDs: []pool.InstanceID{"i-1", "i-2"}},
		{State: pool.ShutDown, Since: at(3), IDs: []pool.InstanceID{"i-3"}},
	}
	got := r.Mistagged()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
	tags := map[string]string{cloud.TagState: "shut_down", cloud.TagStateSince: "2026-11-22T10:00:03Z"}
	if diff := cmp.Diff(tags, got[1].Tags()); diff != "" {
		t.Errorf("tags (-want +got):\n%s", diff)
	}
	r.Tagged(got[0])
	if diff := cmp.Diff(want[1:], r.Mistagged()); diff != "" {
		t.Errorf("after tagging the first two (-want +got):\n%s", diff)
	}
	list[2].Tags[cloud.TagState] = "shut_down" // by an earlier attempt, whose answer was lost
	list[0].Tags[cloud.TagState], list[1].Tags[cloud.TagState] = "active", "active"
	r.Observe(list, at(4), at(4))
	if got := r.Mistagged(); len(got) != 0 {
		t.Errorf("after a list with the right tags: got %+v, want none", got)
	}
}

func TestAddress(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		port       int
		host, said string
		want       string
	}{
		"nothing known":          {0, "", "", ""},
		"the cloud's, no port":   {0, "h", "", ""},
		"port, no host":          {80, "", "", ""},
		"the cloud's":            {80, "h", "", "h:80"},
		"the cloud's, IPv6":      {80, "::1", "", "[::1]:80"},
		"what it says is better": {80, "h", "10.0.0.1:81", "10.0.0.1:81"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := roster.New("mem", roster.Options{ServicePort: c.port})
			in := listed("i-1", "active")
			in.Address = c.host
			r.Observe([]cloud.Instance{in}, at(1), at(1))
			s := says("i-1", 0, 1)
			s.Address = c.said
			r.Hear(s, at(1))
			r.Hear(says("i-1", 0, 2), at(2)) // it has no address, so the one reported before stays
			if got := only(t, r, at(2)).Address; got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// TestConcurrent lets the race detector find unguarded accesses.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	r := newRoster()
	var list []cloud.Instance
	for i := range 50 {
		list = append(list, listed(pool.InstanceID(fmt.Sprintf("i-%02d", i)), "active"))
	}
	done := make(chan struct{}, 4)
	work := func(f func(n int)) {
		go func() {
			defer func() { done <- struct{}{} }()
			for n := range 300 {
				f(n)
			}
		}()
	}
	work(func(n int) { r.Observe(list[:25+n%25], at(float64(n+1)), at(float64(n+1))) })
	work(func(n int) {
		r.Hear(says(list[n%50].ID, float64(n%2), float64(n)), at(float64(n)))
		r.Hear(message.Log{InstanceID: list[n%50].ID, Timestamp: at(float64(n))}, at(float64(n)))
	})
	work(func(n int) {
		for _, in := range r.Instances(at(float64(n))) {
			if !strings.HasPrefix(in.Address, string(in.ID)) {
				t.Errorf("got address %s of %s", in.Address, in.ID)
			}
		}
		r.Ready()
		r.Untold(at(float64(n)), nobody)
	})
	work(func(n int) {
		r.Mark(list[n%50].ID, pool.ShutDown, at(float64(n)))
		for _, tagging := range r.Mistagged() {
			r.Tagged(tagging)
		}
		r.Deafen()
		r.Listening(at(float64(n)))
	})
	for range 4 {
		<-done
	}
}

// nobody is lost.
func nobody(*pool.Instance) bool { return false }
