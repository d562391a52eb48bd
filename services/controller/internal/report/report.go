// Package report tells operators what a pool does: events of their own type,
// rendered as the lines that docs/formats.md shows, sent to one or more sinks.
package report

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"
	"unicode"

	"cloudmaster/internal/pool"
)

// Kind is what an event is about. The zero value is invalid.
type Kind int

// The kinds of event.
const (
	Invalid    Kind = iota
	Started         // an instance was launched
	Activated       // a draining instance is active again
	ShutDown        // an instance is drained
	Terminated      // an instance was told to end
	Gone            // an instance is not listed any more
	Said            // an instance has something for the operator
	Summarized      // how the pool is
	Noticed         // the controller has something for the operator
)

var kindNames = [...]string{"invalid", "started", "activated", "shut_down", "terminated", "gone", "said", "summary", "notice"}

// String returns the kind's name.
func (k Kind) String() string {
	if k < 0 || int(k) >= len(kindNames) {
		return kindNames[Invalid]
	}
	return kindNames[k]
}

// Event is one thing that happened in a pool.
type Event struct {
	At       time.Time
	Pool     pool.Name
	Kind     Kind
	Instance pool.InstanceID
	Text     string  // Said and Noticed: what
	Summary  Summary // Summarized: how
}

// Summary is the state of a pool at one moment.
type Summary struct {
	Backlog   pool.Backlog
	Instances []pool.Instance
}

// Lines renders the event for people.
func (e *Event) Lines() []string {
	switch e.Kind {
	case Started:
		return []string{"Started instance " + string(e.Instance)}
	case Activated:
		return []string{"Activating instance " + string(e.Instance)}
	case ShutDown:
		return []string{"Shutting down instance " + string(e.Instance)}
	case Terminated:
		return []string{"Terminating instance " + string(e.Instance)}
	case Gone:
		return []string{"Instance " + string(e.Instance) + " is gone"}
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

func (s *Summary) lines(now time.Time) []string {
	depth := "unknown"
	if s.Backlog.Known {
		depth = fmt.Sprint(s.Backlog.Visible)
	}
	lines := []string{fmt.Sprintf("Instances: %d Queue Depth: %s", len(s.Instances), depth)}
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
		lines = append(lines, fmt.Sprintf("  %s State: %s Load: %.2f Since Last Report: %s", in.ID, in.State, in.Load, since))
	}
	return append(lines, "----------------------")
}

// printable makes what an instance says safe for a terminal, on one line.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, text)
}

// Reporter takes events. It must not block for long: passes wait for it.
type Reporter interface {
	Report(ctx context.Context, e Event)
}

// Console writes lines of time, pool and text.
type Console struct {
	mu sync.Mutex
	w  io.Writer // guarded by mu
}

// NewConsole returns a reporter that writes to w.
func NewConsole(w io.Writer) *Console { return &Console{w: w} }

// Report writes the event's lines. A console that is gone loses them.
func (c *Console) Report(_ context.Context, e Event) {
	var b strings.Builder
	for _, line := range e.Lines() {
		fmt.Fprintf(&b, "%s %s %s\n", e.At.Format("Jan 02 15:04:05"), e.Pool, line)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	fmt.Fprint(c.w, b.String())
}

// Log writes events to the operator's log, for machines to read.
type Log struct{ log *slog.Logger }

// NewLog returns a reporter that writes to log.
func NewLog(log *slog.Logger) Log { return Log{log: log} }

// Report logs the event with its parts as attributes.
func (l Log) Report(ctx context.Context, e Event) {
	attrs := []slog.Attr{slog.String("pool", string(e.Pool)), slog.String("kind", e.Kind.String())}
	if e.Instance != "" {
		attrs = append(attrs, slog.String("instance", string(e.Instance)))
	}
	if e.Text != "" {
		attrs = append(attrs, slog.String("text", e.Text))
	}
	if e.Kind == Summarized {
		b := e.Summary.Backlog
		attrs = append(attrs, slog.Int("instances", len(e.Summary.Instances)),
			slog.Bool("backlog_known", b.Known), slog.Int("visible", b.Visible), slog.Int("in_flight", b.InFlight))
	}
	l.log.LogAttrs(ctx, slog.LevelInfo, "report", attrs...)
}

// All reports to each of several reporters.
type All []Reporter

// Report passes the event on.
func (a All) Report(ctx context.Context, e Event) {
	for _, r := range a {
		r.Report(ctx, e)
	}
}
