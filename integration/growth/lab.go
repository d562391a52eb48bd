package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/perf/benchfmt"
)

// lab runs benchmarks.
type lab struct {
	settings

	dir string // for the compiled tests
	log io.Writer
}

// sample is what the benchmarks of one package said in one round: the value of each metric by benchmark.
type sample map[string]map[string]float64

// measure measures all paths, and up to twice more those that fail.
func (l *lab) measure(ctx context.Context) ([]row, error) {
	rows := l.rows()
	for range 3 {
		open := make(map[string][]*row) // by package
		for i := range rows {
			if rows[i].verdict() != nil {
				rows[i].rounds = nil
				open[rows[i].pkg] = append(open[rows[i].pkg], &rows[i])
			}
		}
		for round := range l.rounds {
			for pkg, of := range open {
				fmt.Fprintf(l.log, "round %d of %d: %s\n", round+1, l.rounds, pkg)
				if err := l.round(ctx, pkg, of); err != nil {
					return nil, fmt.Errorf("measure %s: %w", pkg, err)
				}
			}
		}
	}
	return rows, nil
}

// rows lists the paths that are asked for, before they are measured.
func (l *lab) rows() []row {
	var rows []row
	for _, g := range growing {
		for _, path := range g.paths {
			rows = append(rows, row{path: path, pkg: g.pkg, bench: "Growth/" + path, benchtime: l.benchtime})
		}
	}
	for i := range peers {
		p := &peers[i]
		if _, err := exec.LookPath(p.needs); p.needs != "" && err != nil {
			fmt.Fprintf(l.log, "left out, because %s is not installed: %s\n", p.needs, p.path)
			continue
		}
		rows = append(rows, row{
			path: p.path, pkg: p.pkg, bench: strings.TrimPrefix(p.bench, "Benchmark"), benchtime: p.benchtime, peer: p,
		})
	}
	var asked []row
	for i := range rows {
		if l.only.MatchString(rows[i].path) {
			asked = append(asked, rows[i])
		}
	}
	return asked
}

// round runs the benchmarks of some rows of one package once.
func (l *lab) round(ctx context.Context, pkg string, rows []*row) error {
	program, err := l.compile(ctx, pkg)
	if err != nil {
		return err
	}
	for _, r := range rows {
		got, err := l.run(ctx, program, pkg, r)
		if err != nil {
			return err
		}
		if err := r.add(got); err != nil {
			return err
		}
	}
	return nil
}

// compile returns the path of a package's compiled tests.
func (l *lab) compile(ctx context.Context, pkg string) (string, error) {
	out := filepath.Join(l.dir, strings.NewReplacer("/", "-", ".", "").Replace(pkg)+".test")
	if _, err := os.Stat(out); err == nil {
		return out, nil
	}
	if text, err := exec.CommandContext(ctx, "go", "test", "-c", "-o", out, pkg).CombinedOutput(); err != nil {
		return "", fmt.Errorf("go test -c: %w: %s", err, text)
	}
	return out, nil
}

// run runs the benchmarks of one row once, and reads what they say.
func (l *lab) run(ctx context.Context, program, pkg string, r *row) (sample, error) {
	var parts []string
	for part := range strings.SplitSeq("Benchmark"+r.bench, "/") {
		parts = append(parts, "^"+part+"$")
	}
	cmd := exec.CommandContext(ctx, program, "-test.run=^$", "-test.bench="+strings.Join(parts, "/"),
		"-test.benchtime="+r.benchtime, "-test.timeout=5m")
	cmd.Dir = filepath.FromSlash(pkg)
	if r.peer == nil {
		// One processor, and no collection of garbage as long as there is room: it would come now and then, and
		// differently often in the two sizes.
		cmd.Env = append(cmd.Environ(), "GOMAXPROCS=1", "GOGC=off", "GOMEMLIMIT=512MiB")
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("benchmark %s: %w: %s%s", r.bench, err, out.String(), errs.String())
	}
	return read(&out, r.bench)
}

// read reads the output of benchmarks.
func read(from io.Reader, name string) (sample, error) {
	got := make(sample)
	reader := benchfmt.NewReader(from, name)
	for reader.Scan() {
		switch rec := reader.Result().(type) {
		case *benchfmt.SyntaxError:
			return nil, rec
		case *benchfmt.Result:
			base, parts := rec.Name.Parts()
			for _, part := range parts {
				if !bytes.HasPrefix(part, []byte("-")) { // that is the number of processors
					base = append(base, part...)
				}
			}
			values := make(map[string]float64)
			for _, v := range rec.Values {
				values[v.Unit] = v.Value
				if v.OrigUnit != "" {
					values[v.OrigUnit] = v.OrigValue
				}
			}
			got[string(base)] = values
		}
	}
	return got, reader.Err()
}
