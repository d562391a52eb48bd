package roster_test

import (
	"testing"

	"cloudmaster/internal/activeset"
	"cloudmaster/internal/cloud"
	"cloudmaster/internal/pool"
	"cloudmaster/services/controller/internal/roster"
)

// TestOutside checks that the end of an instance that this controller did not ask for is told once, with its load, and
// that one it did ask for is not told at all.
func TestOutside(t *testing.T) {
	t.Parallel()
	r, list := newRoster(), []cloud.Instance{}
	for _, id := range []pool.InstanceID{"i-5", "i-4", "i-3", "i-2", "i-1"} {
		list = append(list, listed(id, "active"))
	}
	r.Observe(list, at(1), at(1))
	r.Hear(says("i-4", 0.5, 2), at(2))
	r.End(pool.Ending{Instance: "i-2", Cause: pool.IdleSurplus}, r.Heard(), at(3))
	for i := range list {
		list[i] = ending(list[i])
	}
	c := r.Observe(list, at(4), at(4))
	wantIDs(t, "outside", pool.IDs(c.Outside), "i-1", "i-3", "i-4", "i-5")
	if e := c.Outside[2]; e.Cause != pool.Outside || e.Load != 0.5 {
		t.Errorf("got %+v, want the cause %s and load 0.5", e, pool.Outside)
	}
	wantIDs(t, "outside again", pool.IDs(r.Observe(list, at(5), at(5)).Outside))
	c = r.Observe(nil, at(40), at(40))
	wantIDs(t, "gone", goneOf(c), "i-1", "i-2", "i-3", "i-4", "i-5")
	for _, e := range c.Gone {
		want := pool.Outside
		if e.Instance == "i-2" {
			want = pool.IdleSurplus
		}
		if e.Cause != want {
			t.Errorf("%s: got cause %s, want %s", e.Instance, e.Cause, want)
		}
	}
}

// TestGoneBeforeTheLagIsOver checks what a list proves about an instance that was told to end: one that was listed and
// is not any more has ended, and one that no list has shown yet may still come.
func TestGoneBeforeTheLagIsOver(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ shown, told, gone bool }{
		"shown, told to end":     {true, true, true},
		"not shown, told to end": {false, true, false},
		"shown, not told":        {true, false, false},
		"not shown, not told":    {false, false, false},
	} {
		r := newRoster()
		r.Launched([]cloud.Instance{listed("i-1")}, at(0))
		if c.shown {
			r.Observe([]cloud.Instance{listed("i-1")}, at(1), at(1))
		}
		if c.told && !r.End(pool.Ending{Instance: "i-1", Cause: pool.NeverStarted}, r.Heard(), at(2)) {
			t.Fatal("it cannot be told to end")
		}
		if got := len(r.Observe(nil, at(3), at(3)).Gone) == 1; got != c.gone {
			t.Errorf("%s: got gone %v, want %v", name, got, c.gone)
		}
	}
}

// TestDefaultListLag checks that without a setting lists may be two minutes behind.
func TestDefaultListLag(t *testing.T) {
	t.Parallel()
	r := roster.New("mem", roster.Options{})
	r.Launched([]cloud.Instance{listed("i-1")}, at(0))
	wantIDs(t, "gone after 119 s", goneOf(r.Observe(nil, at(119), at(119))))
	wantIDs(t, "gone after 121 s", goneOf(r.Observe(nil, at(121), at(121))), "i-1")
}

// TestSetAddresses checks that the new port is published for instances that report no address.
func TestSetAddresses(t *testing.T) {
	t.Parallel()
	r := newRoster()
	r.Observe([]cloud.Instance{listed("i-1", "active")}, at(1), at(1))
	r.SetAddresses(81, false)
	if in := only(t, r, at(1)); in.Address != "i-1.example:81" {
		t.Errorf("got address %s, want i-1.example:81", in.Address)
	}
}

// TestSeedMakesActiveWhatWasPublished: its tags could not be written.
func TestSeedMakesActiveWhatWasPublished(t *testing.T) {
	t.Parallel()
	r := newRoster()
	r.Observe([]cloud.Instance{listed("i-1"), listed("i-2", "shut_down")}, at(1), at(1))
	r.Seed(activeset.Set{Pool: "fib", Instances: []activeset.Instance{
		{ID: "i-1", Address: "a:1", ReportedAt: at(0)}, {ID: "i-2", Address: "b:1", ReportedAt: at(0)},
	}}, at(2))
	list := r.Instances(at(2))
	if list[0].State != pool.Active || list[0].ActiveAt != at(2) || list[1].State != pool.ShutDown {
		t.Errorf("got %+v, want i-1 active from now on, and i-2 draining as before", list)
	}
}

// TestUntoldHasTheCause for which an instance was told to end first.
func TestUntoldHasTheCause(t *testing.T) {
	t.Parallel()
	r := one()
	r.End(pool.Ending{Instance: "i-1", Cause: pool.IdleSurplus}, r.Heard(), at(3))
	if got := r.Untold(at(4), nobody); len(got) != 1 || got[0].Cause != pool.IdleSurplus {
		t.Errorf("got %+v, want the cause %s", got, pool.IdleSurplus)
	}
}

// TestUntoldFinishNothingForEver checks that an instance which was told to end, and has found work since, may go on
// only until it is due or lost.
func TestUntoldFinishNothingForEver(t *testing.T) {
	t.Parallel()
	silent := func(in *pool.Instance) bool { return at(100).Sub(in.HeardAt) > 60e9 }
	for name, c := range map[string]struct {
		due, heard float64
		deaf       bool
		untold     bool
	}{
		"due later":            {due: 101, heard: 99, untold: false},
		"due now":              {due: 100, heard: 99, untold: true},
		"never due":            {heard: 99, untold: false},
		"lost":                 {heard: 4, untold: true},
		"nobody can be heard":  {heard: 4, deaf: true, untold: false},
		"lost, but due later":  {due: 101, heard: 4, untold: true},
		"not lost, due before": {due: 50, heard: 99, untold: true},
	} {
		r, e := one(), pool.Ending{Instance: "i-1", Cause: pool.Drained}
		if c.due > 0 {
			e.Due = at(c.due)
		}
		r.End(e, r.Heard(), at(3))
		r.Hear(says("i-1", 1, c.heard), at(c.heard))
		if c.deaf {
			r.Deafen()
		}
		if got := len(r.Untold(at(100), silent)) == 1; got != c.untold {
			t.Errorf("%s: got untold %v, want %v", name, got, c.untold)
		}
	}
}

// TestStoppedIsToldToEnd: an instance that somebody stops does no work, whatever it last said, and costs until it ends.
// The cloud's word of why is told, and so is that of one that ended before it reported.
func TestStoppedIsToldToEnd(t *testing.T) {
	t.Parallel()
	r := newRoster()
	busy, dead := listed("i-1", "active"), listed("i-2", "startup")
	r.Observe([]cloud.Instance{busy}, at(1), at(1))
	r.Hear(says("i-1", 0.5, 2), at(2))
	r.Launched([]cloud.Instance{dead}, at(2))
	busy.Phase, busy.Reason = cloud.Stopped, "somebody"
	dead.Phase, dead.Reason = cloud.Terminated, "no key"
	c := r.Observe([]cloud.Instance{busy, dead}, at(3), at(3))
	wantIDs(t, "outside", pool.IDs(c.Outside), "i-1")
	if e := c.Outside[0]; e.Detail() != "the cloud says: somebody" || e.Unheard {
		t.Errorf("got %+v, %q", e, e.Detail())
	}
	wantIDs(t, "gone", goneOf(c), "i-2")
	if e := c.Gone[0]; e.Detail() != "before it ever reported; the cloud says: no key" || !e.Unheard {
		t.Errorf("got %+v, %q", e, e.Detail())
	}
	notLost := func(*pool.Instance) bool { return false }
	wantIDs(t, "to be told to end", pool.IDs(r.Untold(at(4), notLost)), "i-1")
	r.Ended(at(4), "i-1")
	wantIDs(t, "right after it was told", pool.IDs(r.Untold(at(5), notLost)))
}

// TestAddressesOfOthers: clients are sent to the address that an instance reports only if the cloud knows the host as
// the instance's, or knows none, or the pool says that any will do.
func TestAddressesOfOthers(t *testing.T) {
	t.Parallel()
	mine := []string{"10.0.0.1", "ip-10-0-0-1.example", "2001:db8::1"}
	for name, c := range map[string]struct {
		said  string
		hosts []string
		any   bool
		want  string
	}{
		"its address":           {"10.0.0.1:99", mine, false, "10.0.0.1:99"},
		"its name":              {"IP-10-0-0-1.example:99", mine, false, "IP-10-0-0-1.example:99"},
		"its IPv6 address":      {"[2001:db8::1]:99", mine, false, "[2001:db8::1]:99"},
		"another's":             {"192.0.2.66:99", mine, false, ""},
		"no port":               {"10.0.0.1", mine, false, ""},
		"the cloud knows none":  {"192.0.2.66:99", nil, false, "192.0.2.66:99"},
		"any will do":           {"192.0.2.66:99", mine, true, "192.0.2.66:99"},
		"from the earlier set":  {"", mine, false, ""},
		"earlier, any will do":  {"", mine, true, "192.0.2.77:1"},
		"earlier, none known":   {"", nil, false, "192.0.2.77:1"},
		"the end of its name":   {"0.0.1:99", mine, false, ""},
		"its name, and another": {"ip-10-0-0-1.example.evil:99", mine, false, ""},
	} {
		r := newRoster()
		r.SetAddresses(20808, c.any)
		in := listed("i-1", "active")
		in.Hosts = c.hosts
		r.Observe([]cloud.Instance{in}, at(1), at(1))
		before := activeset.Instance{ID: "i-1", Address: "192.0.2.77:1", ReportedAt: at(0)}
		r.Seed(activeset.Set{Instances: []activeset.Instance{before}}, at(1))
		s := says("i-1", 0.5, 2)
		s.Address = c.said
		r.Hear(s, at(2))
		got, strangers := r.Serving(), len(r.Strangers())
		if c.want == "" && (len(got) > 0 || strangers != 1) ||
			c.want != "" && (len(got) != 1 || got[0].Address != c.want || strangers > 0) {
			t.Errorf("%s: got %+v and %d strangers, want %q", name, got, strangers, c.want)
		}
	}
}

// TestALateAnswerTellsWhoLaunched: the answer to a launch was lost, a list has shown the instance first, and then it
// ends before it ever reports. It is one of ours all the same.
func TestALateAnswerTellsWhoLaunched(t *testing.T) {
	t.Parallel()
	r, in := newRoster(), listed("i-1", "startup")
	r.Observe([]cloud.Instance{in}, at(1), at(1))
	r.Launched([]cloud.Instance{in}, at(2))
	in.Phase = cloud.Terminated
	if c := r.Observe([]cloud.Instance{in}, at(3), at(3)); len(c.Gone) != 1 || !c.Gone[0].Unheard {
		t.Errorf("got %+v, want it gone, ours and unheard", c)
	}
}
