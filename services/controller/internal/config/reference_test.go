package config_test

import (
	"flag"
	"os"
	"strings"
	"testing"

	"cloudmaster/services/controller/internal/app"
	"cloudmaster/services/controller/internal/config"
)

var update = flag.Bool("update", false, "rewrite docs/reference.md")

const referenceFile = "../../../../docs/reference.md"

func TestReference(t *testing.T) {
	t.Parallel()
	want := config.Reference(app.Kinds())
	if *update {
		if err := os.WriteFile(referenceFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(referenceFile); err != nil || string(got) != want {
		t.Errorf("%s is not what the kinds say (%v): go test ./services/controller/internal/config -run Reference -update",
			referenceFile, err)
	}
}

// TestEveryKeyIsExplained: whoever reads the reference need not look elsewhere for what a key is.
func TestEveryKeyIsExplained(t *testing.T) {
	t.Parallel()
	for line := range strings.SplitSeq(config.Reference(app.Kinds()), "\n") {
		if strings.HasPrefix(line, "| `") && strings.HasSuffix(line, "|  |") {
			t.Errorf("a key has no help: %s", line)
		}
	}
	for line := range strings.SplitSeq(config.Help(app.Kinds()), "\n") {
		if len([]rune(line)) > 100 {
			t.Errorf("more than 100 columns: %s", line)
		}
	}
}
