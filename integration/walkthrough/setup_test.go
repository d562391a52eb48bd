package walkthrough

import (
	"strings"
	"testing"

	"cloudmaster/integration/program"
)

// TestSetupTwiceAndTeardown runs setup a second time, after the one in begin, and then teardown twice.
func TestSetupTwiceAndTeardown(t *testing.T) {
	w := begin(t, plot{})
	second := w.succeeds("controller", "setup", "-c", w.config)
	if _, ok := program.Find(second, "Nothing is to be done"); !ok {
		t.Errorf("the second setup printed %q", second)
	}
	if line, ok := program.Find(second, "create"); ok {
		t.Errorf("the second setup would %q", line)
	}

	w.controllerStarts()
	w.feeds("1|" + long)
	w.worksOn(0, "1")
	if code := w.ends("controller", "teardown", "-c", w.config, "--yes"); code == 0 {
		t.Error("teardown has removed resources of a controller that runs")
	}
	w.processed("1|" + long)
	w.sees("no instances", w.empty("primes", "fib"))
	w.controllerStops()

	if code := w.ends("controller", "teardown", "-c", w.config); code == 0 {
		t.Error("teardown has not asked for a confirmation")
	}
	planned := w.succeeds("controller", "teardown", "-c", w.config, "--dry-run")
	removed := w.succeeds("controller", "teardown", "-c", w.config, "--yes")
	for _, want := range []string{
		"primes-work-" + deployment, "fib-status-" + deployment, "cloudmaster-" + deployment + "-primes", "bucket",
	} {
		if _, ok := program.Find(planned, want); !ok {
			t.Errorf("teardown would not remove %s: %q", want, planned)
		}
		if line, ok := program.Find(removed, "removed", want); !ok {
			t.Errorf("teardown has not removed %s: %q, %q", want, line, removed)
		}
	}
	again := strings.Join(w.succeeds("controller", "teardown", "-c", w.config, "--yes"), "\n")
	if !strings.Contains(again, "nothing to remove") {
		t.Errorf("the second teardown printed %q", again)
	}
}
