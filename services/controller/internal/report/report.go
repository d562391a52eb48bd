// Package report shows records to people and machines: as lines on a console, as entries of a log, as
// metrics. Whatever a sink shows is in the record; a sink computes nothing.
package report

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode"

	"cloudmaster/internal/policy"
	"cloudmaster/internal/pool"
	"cloudmaster/services/controller/internal/price"
	"cloudmaster/services/controller/internal/record"
)

// Sink shows records to somebody. Its methods may be called concurrently for different pools. They must not
// block for long, because passes wait for them, and must not change the record.
type Sink interface {
	// Pass shows what a pass of a pool did.
	Pass(ctx context.Context, r *record.Record)
	// Intake shows what a look at a pool's status queue brought.
	Intake(ctx context.Context, in *record.Intake)
}

// All shows records to each of several sinks.
type All []Sink

// Pass passes the record on.
func (a All) Pass(ctx context.Context, r *record.Record) {
	for _, s := range a {
		s.Pass(ctx, r)
	}
}

// Intake passes the record on.
func (a All) Intake(ctx context.Context, in *record.Intake) {
	for _, s := range a {
		s.Intake(ctx, in)
	}
}

// What says what an event is about. The zero value is invalid.
type What int

// The sorts of event.
const (
	Invalid    What = iota
	Started         // an instance was launched
	Activated       // a draining instance is active again
	ShutDown        // an instance is drained
	Terminated      // an instance was told to end
	Gone            // an instance is not listed any more
	Said            // an instance has sent a message for the operator
	Summarized      // a summary of the state of the pool
	Noticed         // the controller has a message for the operator
	Stopped         // an instance is stopped, to be started again later
)

var whatNames = [...]string{
	"invalid", "started", "activated", "shut_down", "terminated", "gone", "said", "summary", "notice",
	"stopped",
}

// String returns the name as it is written in logs.
func (w What) String() string {
	if w < 0 || int(w) >= len(whatNames) {
		return whatNames[Invalid]
	}
	return whatNames[w]
}

// Event is one thing that happened in a pool.
type Event struct {
	At       time.Time
	Pool     pool.Name
	What     What
	Instance pool.InstanceID
	Ending   pool.Ending // why, for ShutDown, Terminated and Gone
	Text     string      // the message, for Said and Noticed
	Summary  Summary     // for Summarized
}

// Summary is the state of a pool at one moment.
type Summary struct {
	Backlog   pool.Backlog
	Warm      int // instances that are stopped, to be started later, or boot for that
	Instances []pool.Instance
	Cost      price.Cost
	Ages      record.Ages
	Rollout   string // how far the replacement of outdated instances is; empty: there are none
}

// Lines returns the event as lines for people.
func (e *Event) Lines() []string {
	switch e.What {
	case Started:
		return []string{strings.TrimSpace("Started instance " + string(e.Instance) + " " + e.Text)}
	case Stopped:
		return []string{"Stopping instance " + string(e.Instance) + " to keep it warm" + e.why()}
	case Activated:
		return []string{"Activating instance " + string(e.Instance)}
	case ShutDown:
		return []string{"Shutting down instance " + string(e.Instance) + e.why()}
	case Terminated:
		return []string{"Terminating instance " + string(e.Instance) + e.why()}
	case Gone:
		return []string{"Instance " + string(e.Instance) + " is gone" + e.why()}
	case Said:
		return []string{string(e.Instance) + " " + printable(e.Text)}
	case Noticed:
		return []string{printable(e.Text)}
	case Summarized:
		return e.Summary.lines(e.At)
	case Invalid:
	}
	return nil
}

// why returns the cause of an ending in brackets: " (hung: silent for 10m1s)".
func (e *Event) why() string {
	if e.Ending.Cause == "" {
		return ""
	}
	text := strings.ReplaceAll(string(e.Ending.Cause), "_", " ")
	if detail := e.Ending.Detail(); detail != "" {
		text += ": " + detail
	}
	return " (" + text + ")"
}

func (s *Summary) lines(now time.Time) []string {
	depth := "unknown"
	if s.Backlog.Known {
		depth = fmt.Sprint(s.Backlog.Visible)
	}
	warm := ""
	if s.Warm > 0 {
		warm = fmt.Sprintf(", %d warm", s.Warm)
	}
	lines := []string{fmt.Sprintf("Instances: %d Queue Depth: %s%s", len(s.Instances), depth, warm)}
	if text := s.Ages.String(); text != "" {
		lines = append(lines, text)
	}
	if !s.Cost.Silent() {
		lines = append(lines, s.Cost.String())
	}
	if s.Rollout != "" {
		lines = append(lines, s.Rollout)
	}
	if len(s.Instances) == 0 {
		return lines
	}
	lines = append(lines, "---Instance Summary---")
	for i := range s.Instances {
		in := &s.Instances[i]
		since := "never"
		if !in.ReportedAt.IsZero() {
			since = fmt.Sprint(int(max(0, now.Sub(in.ReportedAt)).Seconds()))
		}
		lines = append(lines,
			fmt.Sprintf("  %s State: %s Load: %.2f Since Last Report: %s", in.ID, in.State, in.Load, since))
	}
	return append(lines, "----------------------")
}

// printable makes the text of an instance safe for a terminal, on one line.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, text)
}

// Events lists what a record has to tell people, in the order in which it happened.
func Events(r *record.Record) []Event {
	var out []Event
	add := func(e Event) {
		e.At, e.Pool = r.At, r.Pool
		out = append(out, e)
	}
	for _, e := range r.Gone {
		add(Event{What: Gone, Instance: e.Instance, Ending: e})
	}
	if r.Breaker.Changed {
		add(Event{What: Noticed, Text: r.Breaker.String()})
	}
	if r.Rollout.Changed && (r.Rollout.State == policy.RolloutHalted || r.Rollout.State == policy.RolloutStuck) {
		add(Event{What: Noticed, Text: r.Rollout.Text})
	}
	replaced := 0 // hung instances are ended before anything is launched
	for ; replaced < len(r.Endings) &&
		(r.Endings[replaced].Act == record.StopAgain || r.Endings[replaced].Cause.Failed()); replaced++ {
		addEnding(add, &r.Endings[replaced])
	}
	for _, id := range r.Reactivated {
		add(Event{What: Activated, Instance: id})
	}
	for i := range r.Starts {
		if s := &r.Starts[i]; s.Outcome != record.StartRefused && !s.Again {
			add(Event{What: Started, Instance: s.Instance, Text: "that was warm"})
		}
	}
	for i := range r.Launches {
		for _, id := range r.Launches[i].Started {
			add(Event{What: Started, Instance: id})
		}
	}
	for i := replaced; i < len(r.Endings); i++ {
		addEnding(add, &r.Endings[i])
	}
	if r.Tell {
		add(Event{What: Summarized, Summary: Summary{
			Backlog: r.Seen.Backlog, Instances: r.Instances, Cost: r.Cost, Ages: r.Ages,
			Warm: len(r.Warm), Rollout: r.Rollout.Text,
		}})
	}
	return out
}

func addEnding(add func(Event), e *record.Ending) {
	switch {
	case e.Spared, e.Act == record.StopAgain && e.Error != "":
	case e.Act == record.KeepWarm:
		add(Event{What: Stopped, Instance: e.Instance, Ending: e.Ending})
	case e.Act == record.ShutDown && e.Error == "":
		add(Event{What: ShutDown, Instance: e.Instance, Ending: e.Ending})
	case e.Act != record.ShutDown && !e.Unpublished:
		add(Event{What: Terminated, Instance: e.Instance, Ending: e.Ending})
	}
}

// Sayings lists the messages that instances have sent for the operator.
func Sayings(in *record.Intake) []Event {
	var out []Event
	for _, s := range in.Said {
		out = append(out, Event{At: in.At, Pool: in.Pool, What: Said, Instance: s.Instance, Text: s.Text})
	}
	return out
}
