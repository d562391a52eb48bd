package roster_test

import (
	"fmt"
	"testing"
	"time"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/message"
	"cloudmaster/internal/pool"
	"cloudmaster/services/controller/internal/roster"
)

// one returns a roster with the active instance i-1, which listens from second 1 on.
func one() *roster.Roster {
	r := newRoster()
	r.Observe([]cloud.Instance{listed("i-1", "active")}, at(1), at(1))
	r.Listening(at(1))
	return r
}

func TestStatusOrder(t *testing.T) {
	t.Parallel()
	status := func(seconds float64, seq uint64) message.Status {
		s := says("i-1", 0.7, seconds)
		s.Sequence = seq
		return s
	}
	cases := map[string]struct {
		second message.Status
		want   roster.Outcome
	}{
		"newer":                      {status(11, 0), roster.Accepted},
		"newer, lower sequence":      {status(11, 3), roster.Accepted},
		"same time, higher sequence": {status(10, 6), roster.Accepted},
		"the same again":             {status(10, 5), roster.Outdated},
		"same time, lower sequence":  {status(10, 4), roster.Outdated},
		// Its clock may have been set back: then it is at work.
		"older, higher sequence, busy": {status(9, 9), roster.Accepted},
		"much older, higher sequence":  {status(-60, 9), roster.Accepted},
		"much older, lower sequence":   {status(-60, 4), roster.Outdated},
		"ahead of our clock, a little": {status(80, 0), roster.Accepted},
		"ahead of our clock, too much": {status(80.001, 0), roster.Future},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := one()
			first := says("i-1", 0.2, 10)
			first.Sequence = 5
			if got := r.Hear(first, at(12)); got != roster.Accepted {
				t.Fatalf("first: got %s, want accepted", got)
			}
			if got := r.Hear(c.second, at(20)); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			load, heard := 0.2, at(12)
			if c.want != roster.Outdated {
				load, heard = 0.7, at(20)
			}
			if in := only(t, r, at(20)); in.Load != load || in.HeardAt != heard {
				t.Errorf("got load %v heard at %s, want %v at %s", in.Load, in.HeardAt, load, heard)
			}
		})
	}
}

// TestIdleByAnEarlierClockIsOnlyASignOfLife: whether it was said after what was said by the later one nobody knows.
func TestIdleByAnEarlierClockIsOnlyASignOfLife(t *testing.T) {
	t.Parallel()
	r := one()
	busy, idle := says("i-1", 1, 10), says("i-1", 0, 9)
	busy.Sequence, idle.Sequence = 5, 6
	r.Hear(busy, at(12))
	if got := r.Hear(idle, at(20)); got != roster.Outdated {
		t.Errorf("got %s, want outdated", got)
	}
	if in := only(t, r, at(20)); in.Load != 1 || in.HeardAt != at(20) {
		t.Errorf("got load %v heard at %s, want 1 at second 20", in.Load, in.HeardAt)
	}
}

// TestBusyByAnEarlierClock is at work, but has said it no later than what it said before.
func TestBusyByAnEarlierClock(t *testing.T) {
	t.Parallel()
	for name, busy := range map[string]message.Status{
		"a load":            {Load: 0.5, Activity: message.Idle},
		"work without load": {Activity: message.Busy},
	} {
		r := one()
		first := says("i-1", 0, 10)
		first.Sequence = 5
		busy.InstanceID, busy.Timestamp, busy.Sequence = "i-1", at(9), 6
		r.Hear(first, at(12))
		if got := r.Hear(busy, at(20)); got != roster.Accepted {
			t.Errorf("%s: got %s, want accepted", name, got)
		}
		if in := only(t, r, at(20)); in.Idle() || in.ReportedAt != at(10) {
			t.Errorf("%s: got %+v, want it at work, and reported at second 10", name, in)
		}
	}
}

// TestClockThatWasSetBackFarBeginsAnew: messages are not so late, so what it says now counts.
func TestClockThatWasSetBackFarBeginsAnew(t *testing.T) {
	t.Parallel()
	r := one()
	busy, idle := says("i-1", 1, 100), says("i-1", 0, 39)
	busy.Sequence, idle.Sequence = 5, 6
	r.Hear(busy, at(100))
	if got := r.Hear(idle, at(101)); got != roster.Accepted {
		t.Errorf("got %s, want accepted", got)
	}
	if in := only(t, r, at(101)); !in.Idle() {
		t.Errorf("got %+v, want it idle", in)
	}
}

// TestClockThatIsFarAheadStillBeginsNothingAnew: an earlier message may be late.
func TestClockThatIsFarAheadStillBeginsNothingAnew(t *testing.T) {
	t.Parallel()
	r := one()
	ahead, before := says("i-1", 0.5, 10_000), says("i-1", 0.2, 5_000)
	ahead.Sequence, before.Sequence = 5, 4
	r.Hear(ahead, at(10))
	for _, late := range []message.Status{ahead, before} {
		if got := r.Hear(late, at(20)); got != roster.Outdated {
			t.Errorf("got %s, want outdated", got)
		}
	}
}

// TestReportsAreNoLaterThanTheirClockAllows: what is said in our future was said before now.
func TestReportsAreNoLaterThanTheirClockAllows(t *testing.T) {
	t.Parallel()
	r := one()
	r.Hear(says("i-1", 0.5, 40), at(10)) // 30 s ahead, as far as we know
	r.Hear(says("i-1", 0.5, 50), at(25)) // late
	if in := only(t, r, at(25)); in.ReportedAt != at(20) {
		t.Errorf("got it reported at %s, want second 20", in.ReportedAt)
	}
}

// TestClockThatWasFarAheadIsForgotten when it was put right, also if the program began anew with it.
func TestClockThatWasFarAheadIsForgotten(t *testing.T) {
	t.Parallel()
	for name, seq := range map[string]uint64{"the same program": 6, "a new one": 1} {
		r := one()
		ahead, right := says("i-1", 0.5, 10_000), says("i-1", 0.2, 20)
		ahead.Sequence, right.Sequence = 5, seq
		r.Hear(ahead, at(10))
		if got := r.Hear(right, at(20)); got != roster.Accepted {
			t.Errorf("%s: got %s, want accepted", name, got)
		}
		if in := only(t, r, at(20)); in.Load != 0.2 || in.ReportedAt != at(20) {
			t.Errorf("%s: got load %v reported at %s, want 0.2 at second 20", name, in.Load, in.ReportedAt)
		}
	}
}

func TestBusyAndIdle(t *testing.T) {
	t.Parallel()
	r := one()
	steps := []struct {
		activity  message.Activity
		load      float64
		busy      bool
		idleSince float64 // 0: not idle
	}{
		{"", 0, false, 1},
		{message.Idle, 0, false, 1}, // still idle since then
		{message.Busy, 0, true, 0},
		{message.Idle, 0, false, 4},
		{"", 0.1, true, 0},
		{message.Idle, 0.1, false, 0}, // it says that it is idle, but its load is above 0
		{message.Busy, 1, true, 0},
		{"", 0, false, 8},
	}
	for i, c := range steps {
		s := says("i-1", c.load, float64(i+1))
		s.Activity = c.activity
		r.Hear(s, at(100))
		want := time.Time{}
		if c.idleSince > 0 {
			want = at(c.idleSince)
		}
		if in := only(t, r, at(100)); in.Busy != c.busy || in.IdleSince != want {
			t.Errorf("step %d: got busy %v, idle since %s, want %v, %s", i+1, in.Busy, in.IdleSince, c.busy, want)
		}
	}
}

func TestReady(t *testing.T) {
	t.Parallel()
	r := newRoster()
	r.Observe([]cloud.Instance{
		listed("i-2", "startup"), listed("i-1", "startup"), listed("i-3", "active"),
		listed("i-4", "startup"),
	}, at(1), at(1))
	wantIDs(t, "before anybody has reported", r.Ready())
	for _, id := range []pool.InstanceID{"i-3", "i-2", "i-1"} {
		r.Hear(says(id, 0, 2), at(2))
	}
	wantIDs(t, "ready", r.Ready(), "i-1", "i-2")
	r.Mark("i-1", pool.Active, at(3))
	wantIDs(t, "after one was activated", r.Ready(), "i-2")
}

func TestStrays(t *testing.T) {
	t.Parallel()
	hear := func(t *testing.T, r *roster.Roster, s message.Status, now float64, want roster.Outcome) {
		t.Helper()
		if got := r.Hear(s, at(now)); got != want {
			t.Errorf("status of %s at second %v: got %s, want %s", s.InstanceID, now, got, want)
		}
	}
	t.Run("explained by a list", func(t *testing.T) {
		t.Parallel()
		r := one()
		hear(t, r, says("i-2", 0.4, 2), 3, roster.Unknown)
		hear(t, r, says("i-2", 0.3, 1), 4, roster.Outdated)
		hear(t, r, says("i-2", 0.4, 2), 4, roster.Outdated)
		r.Observe([]cloud.Instance{listed("i-1", "active"), listed("i-2", "startup")}, at(5), at(6))
		wantIDs(t, "ready", r.Ready(), "i-2")
		if in := r.Instances(at(6))[1]; in.Load != 0.4 || in.HeardAt != at(3) || in.ReportedAt != at(2) {
			t.Errorf("got load %v, heard at %s, reported at %s", in.Load, in.HeardAt, in.ReportedAt)
		}
		hear(t, r, says("i-2", 0.4, 2), 7, roster.Outdated)
	})
	t.Run("foreign when lists have had their time", func(t *testing.T) {
		t.Parallel()
		r := one()
		for second := 2.0; second <= 62; second += 10 {
			want := roster.Unknown
			if second > 2+lag.Seconds() {
				want = roster.Foreign
			}
			r.Observe([]cloud.Instance{listed("i-1", "active")}, at(second), at(second))
			hear(t, r, says("i-9", 0, second), second, want)
		}
	})
	t.Run("unknown while there is no list", func(t *testing.T) {
		t.Parallel()
		r := newRoster()
		hear(t, r, says("i-1", 0, 1), 1, roster.Unknown)
		hear(t, r, says("i-1", 0, 200), 200, roster.Unknown)
		r.Observe([]cloud.Instance{listed("i-1", "startup")}, at(201), at(201))
		wantIDs(t, "ready", r.Ready(), "i-1")
	})
	t.Run("forgotten when silent", func(t *testing.T) {
		t.Parallel()
		r := one()
		hear(t, r, says("i-9", 1, 2), 2, roster.Unknown)
		r.Observe([]cloud.Instance{listed("i-1", "active")}, at(33), at(33))
		r.Observe([]cloud.Instance{listed("i-1", "active"), listed("i-9", "startup")}, at(34), at(34))
		wantIDs(t, "ready by what was forgotten", r.Ready())
	})
	t.Run("bounded", func(t *testing.T) {
		t.Parallel()
		r := one()
		for i := range 10_000 {
			hear(t, r, says(pool.InstanceID(fmt.Sprintf("x-%d", i)), 0, 2), 2, roster.Unknown)
		}
		hear(t, r, says("x-more", 0, 2), 2, roster.Foreign)
		hear(t, r, says("x-0", 0, 3), 3, roster.Unknown)
		hear(t, r, says("i-1", 0, 3), 3, roster.Accepted)
	})
}

func TestLogMessages(t *testing.T) {
	t.Parallel()
	r := one()
	hear := func(id pool.InstanceID, second float64, seq uint64, want roster.Outcome) {
		t.Helper()
		got := r.Hear(message.Log{InstanceID: id, Text: "x", Timestamp: at(second), Sequence: seq}, at(10))
		if got != want {
			t.Errorf("log message %v/%d of %s: got %s, want %s", second, seq, id, got, want)
		}
	}
	hear("i-1", 2, 1, roster.Accepted)
	hear("i-1", 2, 1, roster.Outdated)
	hear("i-1", 2, 2, roster.Accepted)
	hear("i-1", 1, 9, roster.Accepted) // it is late, but was not heard before
	hear("i-1", 1, 9, roster.Outdated)
	hear("i-1", 71, 1, roster.Accepted) // its clock is its own affair
	hear("i-2", 2, 1, roster.Unknown)
	for seq := range uint64(64) {
		hear("i-1", 3, seq, roster.Accepted)
	}
	hear("i-1", 3, 0, roster.Outdated)
	hear("i-1", 2, 1, roster.Accepted) // it was heard too long ago to be remembered
	if in := only(t, r, at(10)); !in.ReportedAt.IsZero() {
		t.Error("a log message counts as a status")
	}
	if got := r.Hear(nil, at(1)); got != roster.Invalid {
		t.Errorf("no message: got %s, want invalid", got)
	}
}

// TestSilence checks that silence counts only while statuses could be received.
func TestSilence(t *testing.T) {
	t.Parallel()
	r := newRoster()
	silence := func(now float64, want time.Duration) {
		t.Helper()
		if got := at(now).Sub(only(t, r, at(now)).HeardAt); got != want {
			t.Errorf("second %v: got a silence of %s, want %s", now, got, want)
		}
	}
	r.Observe([]cloud.Instance{listed("i-1", "active")}, at(1), at(1))
	if !r.Deaf() {
		t.Error("not deaf before the first Listening")
	}
	silence(500, 0)
	if !r.Listening(at(500)) || r.Listening(at(505)) || r.Deaf() {
		t.Error("Listening is news once, and ends being deaf")
	}
	silence(510, 10*time.Second) // counted from the take-over
	r.Hear(says("i-1", 0, 520), at(520))
	silence(530, 10*time.Second)
	r.Deafen()
	silence(2330, 0)
	r.Listening(at(2330))
	silence(2331, time.Second)
	r.Hear(says("i-1", 0, 2332), at(2332))
	silence(2340, 8*time.Second)
}

func TestOutcomeNames(t *testing.T) {
	t.Parallel()
	for outcome, want := range map[roster.Outcome]string{
		roster.Invalid: "invalid", roster.Accepted: "accepted", roster.Outdated: "outdated", roster.Future: "future",
		roster.Unknown: "unknown", roster.Foreign: "foreign", -1: "invalid", roster.Foreign + 1: "invalid",
	} {
		if got := outcome.String(); got != want {
			t.Errorf("outcome %d: got %s, want %s", outcome, got, want)
		}
	}
}

// BenchmarkIntake measures what a status message costs with 1,000 instances: to parse it and to enter it. The
// design asks for 20,000 a second.
func BenchmarkIntake(b *testing.B) {
	const instances = 1000
	r := newRoster()
	list := make([]cloud.Instance, instances)
	for i := range list {
		list[i] = listed(pool.InstanceID(fmt.Sprintf("i-%04d", i)), "active")
	}
	r.Observe(list, at(1), at(1))
	bodies := make([][]byte, 64*instances)
	for i := range bodies {
		s := says(list[i%instances].ID, float64(i%10)/10, float64(2+i/instances))
		s.Address = "10.0.0.7:20808"
		body, err := message.EncodeStatus(s)
		if err != nil {
			b.Fatal(err)
		}
		bodies[i] = body
	}
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		m, err := message.ParseStd(bodies[n%len(bodies)])
		if err != nil {
			b.Fatal(err)
		}
		r.Hear(m, at(100))
		n++
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "messages/s")
}
