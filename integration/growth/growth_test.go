package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// grown is a row that was measured: each operation takes so long at 300 and at 3,000.
func grown(t *testing.T, times ...[2]float64) *row {
	t.Helper()
	r := &row{path: "pass", pkg: "./loop", bench: "Growth/pass"}
	for _, in := range times {
		out := fmt.Sprintf("goos: linux\ncpu: x\nBenchmarkGrowth/pass/n=300-2 \t 100 \t 7 ns/op \t %v cpu-ns/op\n"+
			"BenchmarkGrowth/pass/n=3000-2 \t 10 \t 9 ns/op \t %v cpu-ns/op \t 5 B/op\nPASS\n", in[0], in[1])
		got, err := read(strings.NewReader(out), "test")
		if err != nil {
			t.Fatal(err)
		}
		if err := r.add(got); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		times [][2]float64
		want  string // part of the error; empty: there is none
	}{
		"linear":                  {times: [][2]float64{{1e3, 1e4}, {1e3, 1.1e4}, {1e3, 1e4}}},
		"the machine is slow":     {times: [][2]float64{{1e3, 1e4}, {9e3, 9e4}, {1e3, 1e4}}},
		"one round was disturbed": {times: [][2]float64{{1e3, 1e4}, {1e3, 9e4}, {1e3, 1e4}}},
		"quadratic": {
			[][2]float64{{1e3, 1e5}, {1e3, 9e4}, {1e3, 8e4}},
			"pass: 1 µs at n=300 and 90 µs at n=3000, 80.0 times as long, and the most is 15",
		},
		"not measured": {nil, "pass was not measured"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := grown(t, c.times...).verdict()
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestVerdictBesideAPeer(t *testing.T) {
	t.Parallel()
	for ratio, want := range map[float64]string{
		0.8: "", 0.7: "", 0.5: "answers: 0.50 of the speed of an echo, and the least is 0.70",
	} {
		r := row{path: "answers", bench: "Answers", peer: &peer{beside: "an echo", least: 0.7}}
		if err := r.add(sample{"Answers": {"ratio": ratio}}); err != nil {
			t.Fatal(err)
		}
		if err := r.verdict(); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("ratio %v: got %v, want %q", ratio, err, want)
		}
	}
}

func TestWhatIsMissingIsAnError(t *testing.T) {
	t.Parallel()
	r := row{path: "pass", bench: "Growth/pass"}
	for name, got := range map[string]sample{
		"nothing":     {},
		"one size":    {"Growth/pass/n=300": {"cpu-ns/op": 1}},
		"wrong sizes": {"Growth/pass/n=300": {"cpu-ns/op": 1}, "Growth/pass/n=600": {"cpu-ns/op": 2}},
	} {
		if r.add(got) == nil {
			t.Errorf("%s: want an error", name)
		}
	}
	r.peer = &peer{}
	if r.add(sample{"Growth/pass": {"cpu-ns/op": 1}}) == nil {
		t.Error("no ratio: want an error")
	}
}

func TestUpdate(t *testing.T) {
	t.Parallel()
	page := filepath.Join(t.TempDir(), "page.md")
	before, after := "# Title\n"+begin+"\nold\n"+end+"\nrest\n", "# Title\n"+begin+"\n\nnew\n\n"+end+"\nrest\n"
	if err := os.WriteFile(page, []byte(before), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := update(page, "new\n"); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(page); err != nil || string(got) != after {
		t.Errorf("got %q and %v, want %q", got, err, after)
	}
	if err := os.WriteFile(page, []byte("# Title\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if update(page, "new\n") == nil {
		t.Error("a page without markers: want an error")
	}
}

// TestPageHasEveryPath: the page was made since a path or its goal was last changed.
func TestPageHasEveryPath(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/performance.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), begin)
	table, _, _ = strings.Cut(table, end)
	wanted := func(path, goal string) {
		line := regexp.MustCompile(`(?m)^\| ` + regexp.QuoteMeta(path) + ` \|.*\| ` + regexp.QuoteMeta(goal) + ` \|$`)
		if !line.MatchString(table) {
			t.Errorf("docs/performance.md does not say %s (%s): run make bench-growth UPDATE=1", path, goal)
		}
	}
	for _, g := range growing {
		for _, path := range g.paths {
			wanted(path, fmt.Sprintf("≤ %.0f ×", mostGrowth))
		}
	}
	for i := range peers {
		wanted(peers[i].path, fmt.Sprintf("≥ %.2f", peers[i].least))
	}
}
