package authz

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"cloudmaster/integration/aws/iampolicy"
)

// root is the repository's root directory.
const root = "../../.."

// callers are the directories with the programs' code; what is in integration has no IAM policy.
var callers = []string{"internal", "services", "clients"}

// ours are the IAM policies of the sample, by program.
func ours(t *testing.T) map[string]*iampolicy.Document {
	t.Helper()
	files, err := filepath.Glob(root + "/deploy/aws/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("got %d IAM policies, error %v", len(files), err)
	}
	out := make(map[string]*iampolicy.Document)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(file)
		doc, err := iampolicy.Parse(name, iampolicy.Identity, text)
		if err != nil {
			t.Fatal(err)
		}
		out[strings.TrimSuffix(name, ".json")] = doc
	}
	return out
}

// TestOurPoliciesAreKnown: every action is in the list, and every condition is on a key that the fake gives.
func TestOurPoliciesAreKnown(t *testing.T) {
	t.Parallel()
	for _, doc := range ours(t) {
		if err := Check(doc); err != nil {
			t.Error(err)
		}
	}
}

// TestPoliciesFitThePrograms: each program's IAM policy allows what the list says that it calls, and nothing else.
func TestPoliciesFitThePrograms(t *testing.T) {
	t.Parallel()
	for program, doc := range ours(t) {
		granted := make(map[string]bool)
		for i := range doc.Statements {
			for _, a := range doc.Statements[i].Actions {
				granted[a] = true
			}
		}
		for i := range Actions {
			a := &Actions[i]
			by := strings.Fields(a.By)
			may, must := slices.Contains(by, program+"?"), slices.Contains(by, program)
			if granted[a.Name] && !may && !must {
				t.Errorf("%s.json allows %s, which the program does not call: take it out, or add the program to the "+
					"action's line", program, a.Name)
			}
			if !granted[a.Name] && must {
				t.Errorf("%s.json does not allow %s, which the program calls", program, a.Name)
			}
			delete(granted, a.Name)
		}
		for a := range granted {
			t.Errorf("%s.json allows %s, which is not in the list", program, a)
		}
	}
}

// TestListFitsTheCode: every operation of the SDK that the code uses is in the list, and every operation of an action
// that a program of the sample needs is in the code.
func TestListFitsTheCode(t *testing.T) {
	t.Parallel()
	used := operations(t)
	if len(used) < 30 {
		t.Fatalf("got %d operations, %v: the search finds too few", len(used), slices.Sorted(maps.Keys(used)))
	}
	listed := make(map[string]bool)
	for i := range Actions {
		a := &Actions[i]
		for op := range strings.FieldsSeq(a.Calls) {
			listed[op] = true
			if used[op] == "" && !strings.Contains(a.By, "?") {
				t.Errorf("%s is for %s, which no code calls", a.Name, op)
			}
		}
	}
	for op, where := range used {
		if !listed[op] {
			t.Errorf("%s calls %s, which no action in the list is for", where, op)
		}
	}
}

// operations are those of the SDK whose inputs the code mentions, each with a place.
func operations(t *testing.T) map[string]string {
	t.Helper()
	out := make(map[string]string)
	for _, dir := range callers {
		err := filepath.WalkDir(filepath.Join(root, dir), func(file string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
				return err
			}
			return operationsOf(file, out)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// operationsOf adds those of one file.
func operationsOf(file string, to map[string]string) error {
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, file, nil, parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	services := imported(f)
	ast.Inspect(f, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		pkg, ok := sel.X.(*ast.Ident)
		op, isInput := strings.CutSuffix(sel.Sel.Name, "Input")
		if ok && isInput && services[pkg.Name] != "" {
			to[services[pkg.Name]+"."+op] = set.Position(n.Pos()).String()
		}
		return true
	})
	return nil
}

// imported are the SDK's services that a file imports, by the name that they have in it.
func imported(f *ast.File) map[string]string {
	out := make(map[string]string)
	for _, imp := range f.Imports {
		path, _ := strconv.Unquote(imp.Path.Value) // the parser has read it
		_, service, found := strings.Cut(path, "aws-sdk-go-v2/service/")
		if !found || strings.Contains(service, "/") {
			continue
		}
		name := service
		if imp.Name != nil {
			name = imp.Name.Name
		}
		out[name] = service
	}
	return out
}
