package schedule

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // small images have no time zones

	"cloudmaster/internal/pool"
)

// Window is a time that comes again on the same days of each week, and the limits of that time.
type Window struct {
	Days     []string `key:"days"`     // mon … sun, or mon-fri; those on which the window begins; none: every day
	From     string   `key:"from"`     // HH:MM; empty: 00:00
	To       string   `key:"to"`       // HH:MM, on the next day if it is not after From; empty: 24:00
	Timezone string   `key:"timezone"` // of the IANA database, as Europe/Zurich; empty: UTC
	Minimum  *int     `key:"minimum"`  // nil: the pool's
	Maximum  *int     `key:"maximum"`  // nil: the pool's
}

// window is a Window that was understood.
type window struct {
	text     string // for people
	days     [7]bool
	from, to clock
	zone     *time.Location
	least    *int
	most     *int
}

// clock is a time of day, as clocks on walls show it.
type clock struct{ hour, minute int }

func (c clock) before(other clock) bool { return c.hour*60+c.minute < other.hour*60+other.minute }

// parse understands a window, or returns all that is wrong with it.
func (w *Window) parse() (*window, error) {
	out := &window{text: w.text(), to: clock{24, 0}, least: w.Minimum, most: w.Maximum}
	var errs [4]error
	out.days, errs[0] = parseDays(w.Days)
	if w.From != "" {
		out.from, errs[1] = parseClock("from", w.From)
	}
	if w.To != "" {
		out.to, errs[2] = parseClock("to", w.To)
	}
	out.zone, errs[3] = parseZone(w.Timezone)
	err := errors.Join(errs[:]...)
	switch {
	case err != nil:
	case out.from == clock{24, 0}:
		err = errors.New("from is 24:00: write 00:00, and the days after")
	case out.from == out.to:
		err = fmt.Errorf("from and to are both %02d:%02d: leave both out for whole days", out.from.hour,
			out.from.minute)
	case w.Minimum == nil && w.Maximum == nil:
		err = errors.New("neither minimum nor maximum is given, so the window changes nothing")
	}
	return out, err
}

// text is the window as people speak of it: "mon-fri 10:00-18:00 Europe/Zurich".
func (w *Window) text() string {
	or := func(s, other string) string {
		if s == "" {
			return other
		}
		return s
	}
	days := or(strings.Join(w.Days, ","), "daily")
	return days + " " + or(w.From, "00:00") + "-" + or(w.To, "24:00") + " " + or(w.Timezone, "UTC")
}

var dayNames = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"} // as time.Weekday counts

// parseDays understands days and spans of days, as "mon-fri" or "sat-mon".
func parseDays(list []string) (days [7]bool, err error) {
	if len(list) == 0 {
		return [7]bool{true, true, true, true, true, true, true}, nil
	}
	for _, item := range list {
		first, last, span := strings.Cut(strings.ToLower(strings.TrimSpace(item)), "-")
		if !span {
			last = first
		}
		from, to := slices.Index(dayNames, first), slices.Index(dayNames, last)
		if from < 0 || to < 0 {
			return days, fmt.Errorf("days has %q, which is neither a day, as mon, nor a span of days, as mon-fri", item)
		}
		for d := from; ; d = (d + 1) % 7 {
			days[d] = true
			if d == to {
				break
			}
		}
	}
	return days, nil
}

func parseClock(key, text string) (clock, error) {
	if text == "24:00" {
		return clock{24, 0}, nil
	}
	t, err := time.Parse("15:04", text)
	if err != nil || len(text) != len("15:04") {
		return clock{}, fmt.Errorf(`%s is %q, which is not a time from "00:00" to "24:00"`, key, text)
	}
	return clock{t.Hour(), t.Minute()}, nil
}

func parseZone(name string) (*time.Location, error) {
	if name == "" {
		return time.UTC, nil
	}
	zone, err := time.LoadLocation(name)
	if err != nil || name == "Local" { // that of whatever machine the controller runs on
		return nil, fmt.Errorf("timezone is %q, which is not a time zone of the IANA database, as Europe/Zurich", name)
	}
	return zone, nil
}

// limits returns the configured limits as the window changes them.
func (w *window) limits(configured pool.Limits) pool.Limits {
	if w.least != nil {
		configured.Minimum = *w.least
	}
	if w.most != nil {
		configured.Maximum = *w.most
	}
	return configured
}

// open reports whether the window is in force.
func (w *window) open(now time.Time) bool {
	for day := -1; day <= 0; day++ { // it may have begun yesterday
		if begin, end, ok := w.on(now, day); ok && !now.Before(begin) && now.Before(end) {
			return true
		}
	}
	return false
}

// next returns when the window begins or ends next; zero if it never does.
func (w *window) next(now time.Time) (first time.Time) {
	for day := -1; day <= 8; day++ {
		begin, end, ok := w.on(now, day)
		for _, at := range []time.Time{begin, end} {
			if ok && at.After(now) && (first.IsZero() || at.Before(first)) {
				first = at
			}
		}
	}
	return first
}

// on returns from when to when the window lasts that begins so many days after today; false if none begins then.
func (w *window) on(now time.Time, day int) (begin, end time.Time, ok bool) {
	year, month, today := now.In(w.zone).Date()
	date := time.Date(year, month, today+day, 0, 0, 0, 0, time.UTC)
	if !w.days[date.Weekday()] {
		return begin, end, false
	}
	last := date
	if !w.from.before(w.to) {
		last = date.AddDate(0, 0, 1)
	}
	begin, end = w.from.moment(date, w.zone, earliest), w.to.moment(last, w.zone, latest)
	return begin, end, begin.Before(end)
}

// which of two moments is meant when clocks are set back, and show the same time twice.
type which bool

const (
	earliest which = false
	latest   which = true
)

// moment returns when clocks in a zone show a time on a date. If they never do, because they are set forward over
// it, that is the moment at which they are. A window that lasts from the earliest to the latest moment is never
// shorter than it looks.
func (c clock) moment(date time.Time, zone *time.Location, which which) time.Time {
	shown := date.Add(time.Duration(c.hour)*time.Hour + time.Duration(c.minute)*time.Minute) // as if in UTC
	guess := time.Date(shown.Year(), shown.Month(), shown.Day(), shown.Hour(), shown.Minute(), 0, 0, zone)
	start, end := guess.ZoneBounds()
	near := []time.Time{guess}
	if !start.IsZero() {
		near = append(near, start.Add(-time.Nanosecond))
	}
	if !end.IsZero() {
		near = append(near, end)
	}
	var found []time.Time
	for _, t := range near {
		_, offset := t.Zone()
		at := shown.Add(-time.Duration(offset) * time.Second).In(zone)
		if _, there := at.Zone(); there == offset {
			found = append(found, at)
		}
	}
	switch {
	case len(found) > 0 && which == latest:
		return slices.MaxFunc(found, time.Time.Compare)
	case len(found) > 0:
		return slices.MinFunc(found, time.Time.Compare)
	case asUTC(guess).Before(shown): // the guess is before the time that is left out
		return end
	}
	return start
}

// asUTC is the moment at which clocks in UTC show what clocks in t's zone show at t.
func asUTC(t time.Time) time.Time {
	_, offset := t.Zone()
	return t.UTC().Add(time.Duration(offset) * time.Second)
}
