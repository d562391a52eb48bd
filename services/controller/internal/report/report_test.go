package report_test

import (
	"bytes"
	"flag"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cloudmaster/internal/pool"
	"cloudmaster/services/controller/internal/report"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var noon = time.Date(2026, 11, 22, 10, 0, 0, 0, time.Local)

// events are one of each kind, in the order of docs/formats.md.
func events() []report.Event {
	summary := report.Summary{
		Backlog: pool.Backlog{Known: true, Visible: 3, InFlight: 1},
		Instances: []pool.Instance{
			{ID: "i-0abc", State: pool.Active, Load: 1, ReportedAt: noon.Add(-29 * time.Second)},
			{ID: "i-0def", State: pool.Startup},
			{ID: "i-0fed", State: pool.ShutDown, Load: 0.304, ReportedAt: noon.Add(time.Second)},
		},
	}
	return []report.Event{
		{Pool: "primes", Kind: report.Summarized, Summary: summary},
		{Pool: "primes", Kind: report.Summarized, Summary: report.Summary{Backlog: pool.Backlog{Known: true}}},
		{Pool: "primes", Kind: report.Summarized},
		{Pool: "primes", Kind: report.Started, Instance: "i-0def"},
		{Pool: "primes", Kind: report.Said, Instance: "i-0abc", Text: "Processed: 1 6573 primes (65809) in 2"},
		{Pool: "primes", Kind: report.Said, Instance: "i-0abc", Text: "two\nlines \x1b[31mred"},
		{Pool: "primes", Kind: report.Gone, Instance: "i-0def"},
		{Pool: "fib", Kind: report.ShutDown, Instance: "i-0123"},
		{Pool: "fib", Kind: report.Activated, Instance: "i-0123"},
		{Pool: "fib", Kind: report.Terminated, Instance: "i-0123"},
		{Pool: "fib", Kind: report.Noticed, Text: "breaker open"},
	}
}

func TestConsole(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	c := report.NewConsole(&out)
	for _, e := range events() {
		e.At = noon
		c.Report(t.Context(), e)
	}
	golden := filepath.Join("testdata", "console.txt")
	if *update {
		if err := os.WriteFile(golden, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got := out.String(); got != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestLog(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	l := report.All{report.NewLog(slog.New(slog.NewJSONHandler(&out, nil)))}
	for _, e := range events() {
		l.Report(t.Context(), e)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != len(events()) {
		t.Fatalf("got %d lines, want one for each of %d events", len(lines), len(events()))
	}
	for i, want := range map[int]string{
		0: `"kind":"summary","instances":3,"backlog_known":true,"visible":3,"in_flight":1`,
		3: `"kind":"started","instance":"i-0def"`,
		4: `"kind":"said","instance":"i-0abc","text":"Processed: 1 6573 primes (65809) in 2"`,
	} {
		if !strings.Contains(lines[i], want) {
			t.Errorf("line %d: got %s, want it to have %s", i, lines[i], want)
		}
	}
}

func TestKindNames(t *testing.T) {
	t.Parallel()
	if got := report.Kind(99).String(); got != "invalid" {
		t.Errorf("got %q", got)
	}
}
