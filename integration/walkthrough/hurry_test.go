package walkthrough

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// hurriedRest is for how long a hurried controller does not ask again for what had no capacity.
const hurriedRest = 6 * time.Second

// Pauses that nobody can configure, and that are minutes long. A story that sees their end would take as long, so its
// controller is built from a tree in which these lines differ, and nothing else.
var pauses = []struct{ file, line, shorter string }{
	{"internal/cloud/ec2cloud/choice.go", "const restTime = 3 * time.Minute", "const restTime = 6 * time.Second"},
	{
		"internal/cloud/ec2cloud/preview.go",
		"const previewMemory = 5 * time.Minute", "const previewMemory = 2 * time.Second",
	},
	{
		"services/controller/internal/launcher/deaths.go",
		"leastDeathPause, mostDeathPause = time.Minute, 30 * time.Minute",
		"leastDeathPause, mostDeathPause = 6 * time.Second, 10 * time.Second",
	},
}

// hurry builds a controller whose pauses are short, once.
var hurry = sync.OnceValue(func() error {
	dir := filepath.Join(binDir, "hurried")
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	overlay, err := shorten(dir)
	if err != nil {
		return err
	}
	cmd := exec.Command("go", "build", "-trimpath", "-overlay", overlay, "-o", dir+"/",
		"cloudmaster/services/controller")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the controller with short pauses: %w\n%s", err, out)
	}
	return nil
})

// shorten writes copies of the files with short pauses into a directory, and returns the file that tells the compiler
// to use them.
func shorten(dir string) (overlay string, err error) {
	root, err := filepath.Abs("../..")
	if err != nil {
		return "", err
	}
	replace := make(map[string]string)
	for i, p := range pauses {
		file := filepath.Join(root, p.file)
		text, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		if strings.Count(string(text), p.line) != 1 {
			return "", fmt.Errorf("%s has no line %q any more: write into pauses what it is now", p.file, p.line)
		}
		replace[file] = filepath.Join(dir, fmt.Sprintf("%d.go", i))
		changed := strings.Replace(string(text), p.line, p.shorter, 1)
		if err := os.WriteFile(replace[file], []byte(changed), 0o600); err != nil {
			return "", err
		}
	}
	doc, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	overlay = filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, doc, 0o600)
}
