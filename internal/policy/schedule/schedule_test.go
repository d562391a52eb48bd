package schedule_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"cloudmaster/internal/policy"
	"cloudmaster/internal/policy/schedule"
	"cloudmaster/internal/pool"
)

var configured = pool.Limits{Minimum: 1, Maximum: 2}

func number(n int) *int { return &n }

// window is "mon-fri 10:00-18:00 Europe/Zurich" with a minimum of 4 and a maximum of 10.
func window(text string) schedule.Window {
	words := strings.Fields(text)
	from, to, _ := strings.Cut(words[1], "-")
	return schedule.Window{
		Days: strings.Split(words[0], ","), From: from, To: to, Timezone: words[2],
		Minimum: number(4), Maximum: number(10),
	}
}

func over(t *testing.T, base policy.Policy, windows ...schedule.Window) policy.Policy {
	t.Helper()
	p, err := schedule.Kind().New(&schedule.Settings{Windows: windows}, base)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func judge(t *testing.T, windows ...schedule.Window) policy.Judge {
	t.Helper()
	return policy.Judge{Policy: over(t, policy.Fixed{}, windows...), Limits: configured}
}

func at(t *testing.T, text string) time.Time {
	t.Helper()
	moment, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return moment
}

// TestWindows: from when to when a window is in force, to the second. 2026-11-25 is a Wednesday.
func TestWindows(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		window, after, begin, end string // begin and end are the next ones after a time
	}{
		"on a day": {
			"mon-fri 10:00-18:00 Europe/Zurich", "2026-11-25T00:00:00Z", "2026-11-25T09:00:00Z", "2026-11-25T17:00:00Z",
		},
		"not at the weekend": {
			"mon-fri 10:00-18:00 Europe/Zurich", "2026-11-27T17:00:00Z", "2026-11-30T09:00:00Z", "2026-11-30T17:00:00Z",
		},
		"once a week": {
			"wed 10:00-18:00 UTC", "2026-11-25T18:00:00Z", "2026-12-02T10:00:00Z", "2026-12-02T18:00:00Z",
		},
		"over midnight": {
			"fri 22:00-06:00 UTC", "2026-11-25T00:00:00Z", "2026-11-27T22:00:00Z", "2026-11-28T06:00:00Z",
		},
		"over midnight and the end of the week": {
			"sat-sun 22:00-06:00 UTC", "2026-11-29T12:00:00Z", "2026-11-29T22:00:00Z", "2026-11-30T06:00:00Z",
		},
		"a span over the end of the week": {
			"fri-mon 10:00-11:00 UTC", "2026-11-29T12:00:00Z", "2026-11-30T10:00:00Z", "2026-11-30T11:00:00Z",
		},
		"to the end of the day": {
			"wed 10:00-24:00 Europe/Zurich", "2026-11-25T00:00:00Z", "2026-11-25T09:00:00Z", "2026-11-25T23:00:00Z",
		},
		"a day whose clocks are set forward is short": {
			"sun 00:00-24:00 Europe/Zurich", "2026-03-28T12:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z",
		},
		"a day whose clocks are set back is long": {
			"sun 00:00-24:00 Europe/Zurich", "2026-10-24T12:00:00Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z",
		},
		"it begins in the hour that is left out": {
			"sun 02:30-04:00 Europe/Zurich", "2026-03-28T12:00:00Z", "2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z",
		},
		"it ends in the hour that is left out": {
			"sun 01:00-02:30 Europe/Zurich", "2026-03-28T12:00:00Z", "2026-03-29T00:00:00Z", "2026-03-29T01:00:00Z",
		},
		"it lies in the hour that is left out, so it begins a week later": {
			"sun 02:10-02:50 Europe/Zurich", "2026-03-28T12:00:00Z", "2026-04-05T00:10:00Z", "2026-04-05T00:50:00Z",
		},
		"it begins when clocks show the time first": {
			"sun 02:30-04:00 Europe/Zurich", "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z", "2026-10-25T03:00:00Z",
		},
		"it ends when clocks show the time last": {
			"sun 01:00-02:30 Europe/Zurich", "2026-10-24T12:00:00Z", "2026-10-24T23:00:00Z", "2026-10-25T01:30:00Z",
		},
		"midnight is left out": { // in Cairo, on 2026-04-24
			"fri 00:00-06:00 Africa/Cairo", "2026-04-23T12:00:00Z", "2026-04-23T22:00:00Z", "2026-04-24T03:00:00Z",
		},
		"the end of the day is left out": {
			"thu 12:00-24:00 Africa/Cairo", "2026-04-22T22:00:00Z", "2026-04-23T10:00:00Z", "2026-04-23T22:00:00Z",
		},
		"half an hour": { // Lord Howe Island sets its clocks by half an hour, on 2026-04-05 back
			"sun 01:45-03:00 Australia/Lord_Howe", "2026-04-04T00:00:00Z",
			"2026-04-04T14:45:00Z", "2026-04-04T16:30:00Z",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := judge(t, window(c.window))
			now := at(t, c.after)
			for _, step := range []struct {
				at   string
				want int // the minimum from then on
			}{{c.begin, 4}, {c.end, 1}} {
				next := j.Next(&pool.Snapshot{Now: now})
				if want := at(t, step.at); !next.Equal(want) {
					t.Errorf("got %s as the next change after %s, want %s", next.UTC(), now.UTC(), want)
				}
				before, from := j.LimitsAt(next.Add(-time.Nanosecond)).Minimum, j.LimitsAt(next).Minimum
				if before == from || from != step.want {
					t.Errorf("at %s the minimum goes from %d to %d, want it to become %d",
						next.UTC(), before, from, step.want)
				}
				now = next
			}
		})
	}
}

// TestNothingBetween: between two changes that the policy announces, its limits stay, in every zone and season.
func TestNothingBetween(t *testing.T) {
	t.Parallel()
	for _, zone := range []string{
		"UTC", "Europe/Zurich", "America/Santiago", "Africa/Cairo",
		"Australia/Lord_Howe", "Asia/Tehran",
	} {
		for _, text := range []string{
			"mon-fri 10:00-18:00 ", "sat,sun 23:30-01:30 ",
			"fri-mon 00:00-24:00 ", "sun 02:15-02:45 ",
		} {
			j := judge(t, window(text+zone))
			now := at(t, "2026-01-01T00:00:00Z")
			next := j.Next(&pool.Snapshot{Now: now})
			changes := 0
			for ; now.Year() == 2026; now = now.Add(15 * time.Minute) {
				if !now.Before(next) {
					next = j.Next(&pool.Snapshot{Now: now})
					changes++
				}
				if got, before := j.LimitsAt(next.Add(-time.Nanosecond)), j.LimitsAt(now); got != before {
					t.Fatalf("%s%s: the limits change between %s and %s", text, zone, now, next)
				}
			}
			if changes < 2*51 {
				t.Errorf("%s%s: got %d changes in a year, want two in each week", text, zone, changes)
			}
		}
	}
}

// TestFirstCounts: the first window that is in force counts, and one that leaves a limit out leaves it as it is.
func TestFirstCounts(t *testing.T) {
	t.Parallel()
	noon := schedule.Window{From: "12:00", To: "13:00", Maximum: number(7)}
	day := window("mon-sun 10:00-18:00 UTC")
	for moment, want := range map[string]pool.Limits{
		"2026-11-25T09:59:59Z": configured, "2026-11-25T11:00:00Z": {Minimum: 4, Maximum: 10},
		"2026-11-25T12:00:00Z": {Minimum: 1, Maximum: 7}, "2026-11-25T13:00:00Z": {Minimum: 4, Maximum: 10},
		"2026-11-25T18:00:00Z": configured,
	} {
		if got := judge(t, noon, day).LimitsAt(at(t, moment)); got != want {
			t.Errorf("%s: got %+v, want %+v", moment, got, want)
		}
	}
}

func TestSaysTheWindow(t *testing.T) {
	t.Parallel()
	j := judge(t, window("mon-fri 10:00-18:00 Europe/Zurich"))
	d, _ := j.Decide(&pool.Snapshot{Now: at(t, "2026-11-25T12:00:00Z")}, pool.Budget{})
	if want := "launch 4: in the window mon-fri 10:00-18:00 Europe/Zurich (minimum 4 adds 4)"; d.String() != want {
		t.Errorf("got %s, want %s", d.String(), want)
	}
	d, _ = j.Decide(&pool.Snapshot{Now: at(t, "2026-11-25T20:00:00Z")}, pool.Budget{})
	if want := "launch 1 (minimum 1 adds 1)"; d.String() != want {
		t.Errorf("got %s, want %s", d.String(), want)
	}
}

// timed is a policy that fails, and wants to be asked at a time.
type timed struct {
	at  time.Time
	err error
}

// Decide fails.
func (p timed) Decide(*pool.Snapshot) (pool.Decision, error) { return pool.Decision{}, p.err }

// Next is that time.
func (p timed) Next(*pool.Snapshot) time.Time { return p.at }

// TestOverAnother: the policy beneath keeps its own times and errors.
func TestOverAnother(t *testing.T) {
	t.Parallel()
	now := at(t, "2026-11-25T09:00:00Z")
	broken := errors.New("broken")
	p := over(t, timed{now.Add(time.Minute), broken}, window("mon-sun 10:00-18:00 UTC"))
	if _, err := p.Decide(&pool.Snapshot{Now: now}); !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
	for base, want := range map[time.Time]time.Time{
		now.Add(time.Minute): now.Add(time.Minute), now.Add(-time.Minute): now.Add(time.Hour), {}: now.Add(time.Hour),
		now.Add(2 * time.Hour): now.Add(time.Hour),
	} {
		j := policy.Judge{Policy: over(t, timed{base, nil}, window("mon-sun 10:00-18:00 UTC"))}
		if got := j.Next(&pool.Snapshot{Now: now}); !got.Equal(want) {
			t.Errorf("base wants %s: got %s, want %s", base, got, want)
		}
	}
	two := over(t, over(t, policy.Fixed{}, window("mon-sun 08:00-10:00 UTC")), schedule.Window{Maximum: number(5)})
	if got := (policy.Judge{Policy: two, Limits: configured}).LimitsAt(now); got.Minimum != 4 || got.Maximum != 5 {
		t.Errorf("a schedule over a schedule: got %+v, want a minimum of 4 and a maximum of 5", got)
	}
}

func TestComplaints(t *testing.T) {
	t.Parallel()
	for want, w := range map[string]schedule.Window{
		`number 1: days has "noday"`:             {Days: []string{"noday"}, Minimum: number(1)},
		`days is empty: leave it out`:            {Days: []string{" "}, Minimum: number(1)},
		`days has "mon-", which is neither a`:    {Days: []string{"mon-"}, Minimum: number(1)},
		`from is "25:00", which is not a time`:   {From: "25:00", Minimum: number(1)},
		`to is "6", which is not a time from`:    {To: "6", Minimum: number(1)},
		`timezone is "Europe/Zürich", which is`:  {Timezone: "Europe/Zürich", Minimum: number(1)},
		`timezone is "Local", which is not a`:    {Timezone: "Local", Minimum: number(1)},
		`from and to are both 10:00: leave both`: {From: "10:00", To: "10:00", Minimum: number(1)},
		`from is 24:00: write 00:00`:             {From: "24:00", Minimum: number(1)},
		`neither minimum nor maximum is given`:   {From: "10:00"},
	} {
		err := (&schedule.Settings{Windows: []schedule.Window{w}}).Validate()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to say %s", err, want)
		}
	}
	err := new(schedule.Settings).Validate()
	if err == nil || !strings.Contains(err.Error(), "windows: there are none") {
		t.Errorf("got %v, want windows demanded", err)
	}
	for want, w := range map[string]schedule.Window{
		"windows: number 1: in it the minimum is 3, more than the maximum, 2": {Minimum: number(3)},
		"windows: number 1: in it the minimum is 1, more than the maximum, 0": {Maximum: number(0)},
		"windows: number 1: minimum -1 and maximum 2: neither may be less":    {Minimum: number(-1)},
	} {
		if err := judge(t, w).Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to say %s", err, want)
		}
	}
	if _, err := schedule.Kind().New(&schedule.Settings{Windows: []schedule.Window{{}}}, nil); err == nil {
		t.Error("without a base: got no error")
	}
}

func ExampleKind() {
	office := schedule.Window{
		Days: []string{"mon-fri"}, From: "10:00", To: "18:00", Timezone: "Europe/Zurich",
		Minimum: number(4), Maximum: number(10),
	}
	p, err := schedule.Kind().New(&schedule.Settings{Windows: []schedule.Window{office}}, policy.Fixed{})
	if err != nil {
		fmt.Println(err)
		return
	}
	j := policy.Judge{Policy: p, Limits: pool.Limits{Minimum: 1, Maximum: 2}}
	for _, hour := range []int{8, 9, 17} { // an hour less than in Zurich in winter
		l := j.LimitsAt(time.Date(2026, 11, 25, hour, 0, 0, 0, time.UTC))
		fmt.Println(l.Minimum, l.Maximum)
	}
	// Output:
	// 1 2
	// 4 10
	// 1 2
}
