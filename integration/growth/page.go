package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"
)

// The table on the page stands between these two lines, and nobody else writes there.
const (
	begin = "<!-- The next lines are made by make bench-growth UPDATE=1. -->"
	end   = "<!-- Until here. -->"
)

// cells returns what a table says of a path with and without a peer.
func (r *row) cells() []string {
	if r.peer != nil {
		return []string{
			r.path, "beside " + r.peer.beside, fmt.Sprintf("%.2f", r.ratio()), fmt.Sprintf("≥ %.2f", r.peer.least),
		}
	}
	small, fast := r.at(0)
	large, slow := r.at(1)
	return []string{
		r.path, fmt.Sprintf("%s at n=%d, %s at n=%d", duration(fast), small, duration(slow), large),
		fmt.Sprintf("%.1f ×", r.factor()), fmt.Sprintf("≤ %.0f ×", mostGrowth),
	}
}

var heads = []string{"path", "measured", "seen", "goal"}

// plain returns the table for a terminal.
func plain(rows []row) string {
	var out bytes.Buffer
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, strings.Join(heads, "\t"))
	for i := range rows {
		fmt.Fprintln(w, strings.Join(rows[i].cells(), "\t"))
	}
	_ = w.Flush() // a buffer does not fail
	return out.String()
}

// markdown returns the table for the page.
func markdown(rows []row) string {
	var out strings.Builder
	fmt.Fprintf(&out, "| %s |\n|%s\n", strings.Join(heads, " | "), strings.Repeat("---|", len(heads)))
	for i := range rows {
		fmt.Fprintf(&out, "| %s |\n", strings.Join(rows[i].cells(), " | "))
	}
	return out.String()
}

// caption says when and of what the table was made.
func caption(ctx context.Context, now time.Time) (string, error) {
	revision, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty=, with changes").Output()
	if err != nil {
		return "", fmt.Errorf("ask git for the revision: %w", err)
	}
	return fmt.Sprintf("Measured on %s at revision %s, with %s on %d processors of %s.\n\n", now.Format(time.DateOnly),
		bytes.TrimSpace(revision), runtime.Version(), runtime.NumCPU(), processor()), nil
}

// processor returns the name of the processor as far as Linux tells it.
func processor() string {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	for line := range strings.Lines(string(info)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

// update replaces what stands between the markers of a page.
func update(page, text string) error {
	old, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	before, rest, found := strings.Cut(string(old), begin+"\n")
	_, after, ended := strings.Cut(rest, end+"\n")
	if !found || !ended {
		return fmt.Errorf("page %s has no lines %q and %q", page, begin, end)
	}
	//nolint:gosec // a page that everybody may read
	return os.WriteFile(page, []byte(before+begin+"\n\n"+text+"\n"+end+"\n"+after), 0o644)
}
