package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"unicode"

	"cloudmaster/integration/localstack"
)

// event is one line of "go test -json".
type event struct {
	Action     string
	Package    string
	ImportPath string // while building, in place of Package
	Test       string
	Output     string
	Elapsed    float64
}

// unit is a top-level test, or, with an empty test, what a package prints outside its tests.
type unit struct{ pkg, test string }

// report follows one run of "go test".
type report struct {
	out io.Writer
	// output is what units that are not over yet have printed. A package that does not build is there by
	// its import path.
	output   map[unit]*strings.Builder
	failedIn map[string]bool // packages with a failed test
	// absent are the units that were skipped, perhaps only in part, because there was no LocalStack.
	absent map[unit]bool
	// longest is the time of each unit's longest part in seconds. A test's own time would not do, because
	// it does not include parallel parts.
	longest        map[unit]float64
	passed, failed int
	skipped        int
}

func newReport(out io.Writer) *report {
	return &report{
		out: out, output: make(map[unit]*strings.Builder), failedIn: make(map[string]bool),
		absent: make(map[unit]bool), longest: make(map[unit]float64),
	}
}

// read reads events until there are no more.
func (r *report) read(events io.Reader) error {
	lines := bufio.NewReader(events)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			r.line(line)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read what go test says: %w", err)
		}
	}
}

// line handles one event. A line that is not an event comes from "go test" itself, and is printed unchanged.
func (r *report) line(line []byte) {
	var e event
	if err := json.Unmarshal(line, &e); err != nil {
		fmt.Fprintf(r.out, "%s", line)
		return
	}
	top, _, sub := strings.Cut(e.Test, "/")
	u := unit{pkg: cmp.Or(e.Package, e.ImportPath), test: top}
	switch e.Action {
	case "output", "build-output":
		r.add(u, e.Output)
	case "pass", "fail", "skip":
		r.longest[u] = max(r.longest[u], e.Elapsed)
		if !sub {
			r.over(u, e)
		}
	case "build-fail":
		fmt.Fprintf(r.out, "%s does not build\n%s", u.pkg, r.take(u))
	}
}

func (r *report) add(u unit, text string) {
	if r.output[u] == nil {
		r.output[u] = &strings.Builder{}
	}
	r.output[u].WriteString(text)
	// The reason of a skip is not in the event but in a line of output, in which the tests name the variable.
	if u.test != "" && strings.Contains(text, localstack.EndpointVar) {
		r.absent[u] = true
	}
}

func (r *report) take(u unit) string {
	defer delete(r.output, u)
	if b := r.output[u]; b != nil {
		return b.String()
	}
	return ""
}

// over prints how a test or a package ended.
func (r *report) over(u unit, e event) {
	text := r.take(u)
	if u.test == "" {
		r.packageOver(u.pkg, e, text)
		return
	}
	skippedInPart := r.absent[u] && strings.Contains(text, "--- SKIP")
	word := "ok"
	switch {
	case e.Action == "fail" || skippedInPart:
		word = "FAIL"
		r.failed++
		r.failedIn[u.pkg] = true
	case e.Action == "skip":
		word = "skip"
		r.skipped++
	default:
		r.passed++
	}
	fmt.Fprintf(r.out, "%-4s  %s: %s (%.1f s)\n", word, path.Base(u.pkg), words(u.test), r.longest[u])
	if word == "FAIL" {
		fmt.Fprint(r.out, text)
	}
}

// packageOver prints what failed outside the tests: a package that does not build, a panic, or a
// TestMain that fails. Tests that were running at a panic never end; they are listed here.
func (r *report) packageOver(pkg string, e event, text string) {
	for u := range r.output {
		if u.pkg == pkg && u.test != "" {
			r.over(u, event{Action: "fail"})
		}
	}
	if e.Action == "fail" && !r.failedIn[pkg] {
		r.failed++
		fmt.Fprintf(r.out, "FAIL  %s (%.1f s)\n%s", pkg, e.Elapsed, text)
	}
}

// verdict returns the error of the whole run. err is how "go test" itself ended.
func (r *report) verdict(err error) error {
	fmt.Fprintf(r.out, "%d ok, %d failed, %d skipped\n", r.passed, r.failed, r.skipped)
	switch {
	case r.failed > 0:
		return fmt.Errorf("%d of %d failed, see above", r.failed, r.failed+r.passed)
	case err != nil:
		return fmt.Errorf("go test: %w", err)
	case r.passed == 0:
		return errors.New("no test ran: name packages that have tests, and a --run that matches some of them")
	}
	return nil
}

// words turns a test's name into words: TestOpenMissing becomes "open missing".
func words(test string) string {
	var b strings.Builder
	lower := false // whether the letter before was a small one or a digit
	for _, c := range strings.TrimPrefix(test, "Test") {
		switch {
		case c == '_':
			c = ' '
		case unicode.IsUpper(c) && lower:
			b.WriteByte(' ')
		}
		lower = unicode.IsLower(c) || unicode.IsDigit(c)
		b.WriteRune(unicode.ToLower(c))
	}
	return cmp.Or(strings.TrimSpace(b.String()), test)
}
