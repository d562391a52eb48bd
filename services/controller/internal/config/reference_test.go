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
		t.Errorf("%s is not what the kinds say (%v): go test ./services/controller/internal/config -run Reference "+
			"-update",
			referenceFile, err)
	}
}

// TestKeysMeanOneThing: the keys of a pool's policy and cloud stand beside those of all pools.
func TestKeysMeanOneThing(t *testing.T) {
	t.Parallel()
	var owner map[string]string
	for line := range strings.SplitSeq(config.Reference(app.Kinds()), "\n") {
		title, isTitle := strings.CutPrefix(line, "## ")
		switch {
		case isTitle && title == "Pools":
			owner = make(map[string]string)
		case strings.HasPrefix(line, "### Policy "):
			title = strings.TrimPrefix(line, "### ")
		case strings.HasPrefix(line, "## Clouds"):
			return
		}
		key, _, isKey := strings.Cut(strings.TrimPrefix(line, "| `"), "`")
		if owner == nil || !isKey || !strings.HasPrefix(line, "| `") {
			continue
		}
		if other, taken := owner[key]; taken {
			t.Errorf("%s is a key twice: %s%s", key, other, title)
		}
		owner[key] = line
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
