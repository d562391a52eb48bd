package loop_test

import (
	"bytes"
	"context"
	"strings"
	"sync"

	"cloudmaster/services/controller/internal/record"
	"cloudmaster/services/controller/internal/report"
)

// events collects what is reported.
type events struct {
	mu   sync.Mutex
	list []report.Event
}

// Pass implements report.Sink.
func (e *events) Pass(_ context.Context, r *record.Record) { e.add(report.Events(r)) }

// Intake implements report.Sink.
func (e *events) Intake(_ context.Context, in *record.Intake) { e.add(report.Sayings(in)) }

func (e *events) add(list []report.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, ev := range list {
		if ev.What != report.Summarized {
			e.list = append(e.list, ev)
		}
	}
}

// of returns the instances or texts of one kind of event.
func (e *events) of(kind report.What) (out []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, ev := range e.list {
		if ev.What == kind {
			out = append(out, string(ev.Instance)+ev.Text)
		}
	}
	return out
}

// causes returns the instances of one kind of event with their causes: "i-000001 hung".
func (e *events) causes(kind report.What) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []string
	for _, ev := range e.list {
		if ev.What == kind {
			out = append(out, string(ev.Instance)+" "+string(ev.Ending.Cause))
		}
	}
	return strings.Join(out, ", ")
}

type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

// Write implements io.Writer.
func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.Write(p)
}

func (l *lockedBuffer) tail(most int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := l.String()
	return text[max(0, len(text)-most):]
}

func (l *lockedBuffer) count(text string) int { return strings.Count(l.tail(1<<30), text) }
