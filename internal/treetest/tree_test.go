package treetest_test

import (
	"bytes"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

const (
	mostLines   = 450
	mostColumns = 120
)

// root returns the root of the repository, which is the directory with go.work.
func root(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		_, err := os.Stat(filepath.Join(dir, "go.work"))
		if err == nil {
			return dir
		}
		if parent := filepath.Dir(dir); errors.Is(err, fs.ErrNotExist) && parent != dir {
			dir = parent
			continue
		}
		t.Fatalf("no go.work from here upwards: %v", err)
	}
}

// noSources are directories with test data, and with what programs write.
var noSources = []string{"testdata", "vendor", "bin", "var"}

// files returns the paths of all files with the suffix, relative to the root. Hidden directories and noSources are
// left out.
func files(t *testing.T, root, suffix string) []string {
	t.Helper()
	var out []string
	err := fs.WalkDir(os.DirFS(root), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || slices.Contains(noSources, d.Name())) {
			return fs.SkipDir
		}
		if !d.IsDir() && strings.HasSuffix(path, suffix) {
			out = append(out, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) == 0 {
		t.Fatalf("found no file %s under %s", suffix, root)
	}
	return out
}

// sources parses every Go file that is no test and not generated, by path.
func sources(t *testing.T, root string, fset *token.FileSet) map[string]*ast.File {
	t.Helper()
	out := make(map[string]*ast.File)
	for _, path := range files(t, root, ".go") {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(fset, filepath.Join(root, path), nil,
			parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Errorf("%s does not parse: %v", path, err)
			continue
		}
		if !ast.IsGenerated(f) {
			out[path] = f
		}
	}
	return out
}

func TestEveryPackageHasOneDocComment(t *testing.T) {
	t.Parallel()
	documented := make(map[string][]string) // files with a package comment, by directory
	for path, f := range sources(t, root(t), token.NewFileSet()) {
		dir := filepath.Dir(path)
		docs := documented[dir]
		if f.Doc != nil && strings.TrimSpace(f.Doc.Text()) != "" {
			docs = append(docs, filepath.Base(path))
		}
		documented[dir] = docs
	}
	for dir, files := range documented {
		switch len(files) {
		case 0:
			t.Errorf("%s: no file has a package comment, want one", dir)
		case 1:
		default:
			slices.Sort(files)
			t.Errorf("%s: %s all have a package comment, want one", dir, strings.Join(files, ", "))
		}
	}
}

func TestNoFileIsTooLong(t *testing.T) {
	t.Parallel()
	root := root(t)
	for path := range sources(t, root, token.NewFileSet()) {
		text, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			t.Fatal(err)
		}
		if lines := bytes.Count(text, []byte("\n")); lines > mostLines {
			t.Errorf("%s: got %d lines, want at most %d", path, lines, mostLines)
		}
	}
}

// longProse returns the numbers of the lines of Markdown that are too long, without those that cannot be broken:
// code blocks, rows of tables, headings, and lines with nothing but a link.
func longProse(text string) (numbers []int) {
	code, n := false, 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimRight(line, "\r\n")
		bare := strings.TrimLeft(line, " -*0123456789.")
		switch {
		case strings.HasPrefix(bare, "```"):
			code = !code
		case code, strings.HasPrefix(bare, "|"), strings.HasPrefix(bare, "#"):
		case strings.HasPrefix(bare, "[") && strings.Count(bare, "](") == 1 && strings.HasSuffix(bare, ")"):
		case utf8.RuneCountInString(line) > mostColumns:
			numbers = append(numbers, n)
		}
	}
	return numbers
}

func TestProseIsWrapped(t *testing.T) {
	t.Parallel()
	root := root(t)
	for _, path := range files(t, root, ".md") {
		text, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			t.Fatal(err)
		}
		if long := longProse(string(text)); len(long) > 0 {
			t.Errorf("%s: lines %d have more than %d columns; wrap their sentences", path, long, mostColumns)
		}
	}
}

func TestNoInit(t *testing.T) {
	t.Parallel()
	fset := token.NewFileSet()
	for path, f := range sources(t, root(t), fset) {
		for _, decl := range f.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s:%d: got an init function, want a function that is called where it is needed", path,
					fset.Position(fn.Pos()).Line)
			}
		}
	}
}

func TestModulesAgreeOnTheGoVersion(t *testing.T) {
	t.Parallel()
	root := root(t)
	want := goLine(t, filepath.Join(root, "go.work"))
	for _, path := range files(t, root, "go.mod") {
		if got := goLine(t, filepath.Join(root, path)); got != want {
			t.Errorf("%s: got %q, want %q as in go.work", path, got, want)
		}
	}
}

// goLine returns the go directive of a go.mod or go.work file.
func goLine(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "go ") {
			return strings.TrimSpace(line)
		}
	}
	t.Fatalf("%s has no go line", file)
	return ""
}
