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

// event is a line of go test -json.
type event struct {
	Action     string
	Package    string
	ImportPath string // instead of Package while building
	Test       string
	Output     string
	Elapsed    float64
}

// unit is a top-level test, or with an empty test what a package says outside its tests.
type unit struct{ pkg, test string }

// report follows a run of go test.
type report struct {
	out            io.Writer
	output         map[unit]*strings.Builder // of what is not over yet; of packages that did not build, by import path
	failedIn       map[string]bool           // packages with a failed test
	absent         map[unit]bool             // skipped, or in part, for want of a LocalStack
	longest        map[unit]float64          // seconds; a test's own leave out its parallel parts
	passed, failed int
	skipped        int
}

func newReport(out io.Writer) *report {
	return &report{out: out, output: make(map[unit]*strings.Builder), failedIn: make(map[string]bool), absent: make(map[unit]bool), longest: make(map[unit]float64)}
}

// read takes events until there are no more.
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

// line takes an event. What is none, go test has said outside the format: it is passed on.
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
	// The reason of a skip is a line of output. The tests name the variable in it.
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

// over says how a test or a package ended.
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

// packageOver reports what failed outside a test: a package that does not build,
// a panic, a TestMain that complains. Tests that a panic left open are not over and are listed here.
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

// verdict is the error of the run, with how go test itself ended.
func (r *report) verdict(err error) error {
	fmt.Fprintf(r.out, "%d ok, %d failed, %d skipped\n", r.passed, r.failed, r.skipped)
	switch {
	case r.failed > 0:
		return fmt.Errorf("%d of %d failed, see above", r.failed, r.failed+r.passed)
	case err != nil:
		return fmt.Errorf("go test: %w", err)
	case r.passed == 0:
		return errors.New("no test ran: name packages that have tests, and a -run that matches some")
	}
	return nil
}

// words makes a sentence of a test's name: TestOpenMissing is "open missing".
func words(test string) string {
	var b strings.Builder
	lower := false // the letter before was a small one or a digit
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
