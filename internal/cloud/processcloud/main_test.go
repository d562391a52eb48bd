package processcloud_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/cloud/processcloud"
	"cloudmaster/internal/pool"
)

// bins is the directory with the images of all tests. They are written before the first test forks,
// because a file that a forked child still has open for writing cannot be executed.
var bins string

var scripts = map[string]string{
	"worker":   "#!/bin/sh\necho hello from $CLOUDMASTER_INSTANCE_ID; echo and errors >&2\nexec sleep 1000\n",
	"stubborn": "#!/bin/sh\ntrap '' TERM\necho ready\nexec sleep 1000\n",
	"brief":    "#!/bin/sh\nexit 3\n",
	"counter":  "#!/bin/sh\ntrap 'echo term' TERM\necho ready\nwhile :; do sleep 0.01; done\n",
	"forks":    "#!/bin/sh\nsleep 1000 &\nsetsid sleep 1000 &\necho ready\nsleep 1000\n",
	"garbage":  "\x7fELF is not what this is",
}

// TestMain runs the tests. The crash tests start this binary again as the launcher that they kill.
func TestMain(m *testing.M) {
	if step := os.Getenv("PROCESSCLOUD_TEST_DIE_AT"); step != "" {
		os.Exit(launcher(step))
	}
	var err error
	if bins, err = os.MkdirTemp("", "processcloud-bins-"); err != nil {
		panic(err)
	}
	for name, text := range scripts {
		if err := os.WriteFile(filepath.Join(bins, name), []byte(text), 0o700); err != nil {
			panic(err)
		}
	}
	if err := os.WriteFile(filepath.Join(bins, "plain-file"), nil, 0o600); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(bins)
		os.Exit(code)
	}))
}

// stepNone is for a launcher that is not killed: it launches and exits.
const stepNone = "none"

// launcher launches two stubborn instances and terminates them. It kills itself when it reaches the step.
func launcher(step string) int {
	opts := processcloud.Options{
		BinDir: os.Getenv("PROCESSCLOUD_TEST_BINS"), StateDir: os.Getenv("PROCESSCLOUD_TEST_STATE"),
		Grace: 50 * time.Millisecond,
	}
	opts = processcloud.WithStep(opts, func(name string) {
		if name == step {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	})
	c, err := processcloud.Open(context.Background(), "test", opts)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	out, err := c.Launch(context.Background(), stubbornSpec())
	if step == stepNone && err == nil {
		return 0
	}
	for _, inst := range out {
		err = errors.Join(err, c.Terminate(context.Background(), inst.ID))
	}
	fmt.Fprintln(os.Stderr, "not killed:", err)
	return 1
}

func stubbornSpec() cloud.Spec {
	spec := newSpec("crash-token", 2)
	spec.Image = "stubborn"
	return spec
}

func newSpec(token string, n int) cloud.Spec {
	return cloud.Spec{
		Token: token, Count: n, Image: "worker",
		Tags:     map[string]string{cloud.TagPool: "main"},
		UserData: func(id pool.InstanceID) ([]byte, error) { return []byte("instance_id: " + string(id)), nil },
	}
}

// world is a state directory with helpers for the tests.
type world struct {
	*testing.T

	opts processcloud.Options
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return &world{T: t, opts: processcloud.Options{BinDir: bins, StateDir: t.TempDir()}}
}

// open opens the deployment "test". Its instances are killed when the test ends.
func (w *world) open() *processcloud.Cloud {
	w.Helper()
	return open(w.T, "test", w.opts)
}

func open(t testing.TB, deployment string, opts processcloud.Options) *processcloud.Cloud {
	t.Helper()
	c, err := processcloud.Open(t.Context(), deployment, opts)
	if err != nil {
		t.Fatalf("Open: got error %v, want none", err)
	}
	t.Cleanup(func() {
		killAll(t, filepath.Join(opts.StateDir, deployment))
		if err := c.Close(); err != nil {
			t.Errorf("Close: got error %v, want none", err)
		}
	})
	return c
}

// killAll kills everything whose working directory is below dir, and waits until it is gone. It
// does not use the code under test.
func killAll(t testing.TB, dir string) {
	t.Helper()
	poll(t, "all instances are gone", func() bool {
		pids := runningBelow(t, dir)
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		return len(pids) == 0
	})
}

// runningBelow returns the pids of live processes whose working directory is dir or below it.
func runningBelow(t testing.TB, dir string) []int {
	t.Helper()
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil
	}
	links, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		t.Fatal(err)
	}
	var out []int
	for _, link := range links {
		cwd, err := os.Readlink(link)
		if err != nil || !strings.HasPrefix(cwd+"/", dir+"/") {
			continue
		}
		pid, err := strconv.Atoi(strings.Split(link, "/")[2])
		if err == nil {
			out = append(out, pid)
		}
	}
	return out
}

// poll calls cond until it returns true, and fails the test if that takes too long.
func poll(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(15 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within 15s: %s", what)
		}
	}
}

func (w *world) launch(c *processcloud.Cloud, spec cloud.Spec) []cloud.Instance {
	w.Helper()
	out, err := c.Launch(w.Context(), spec)
	if err != nil || len(out) != spec.Count {
		w.Fatalf("Launch: got %d instances and error %v, want %d and none", len(out), err, spec.Count)
	}
	return out
}

func (w *world) list(c *processcloud.Cloud) []cloud.Instance {
	w.Helper()
	out, err := c.List(w.Context())
	if err != nil {
		w.Fatalf("List: got error %v, want none", err)
	}
	return out
}

// wantListed waits for a list of n instances and returns it.
func (w *world) wantListed(c *processcloud.Cloud, n int) []cloud.Instance {
	w.Helper()
	var out []cloud.Instance
	poll(w, fmt.Sprintf("%d instances are listed", n), func() bool {
		out = w.list(c)
		return len(out) == n
	})
	return out
}

func (w *world) path(id pool.InstanceID, file string) string {
	return filepath.Join(w.opts.StateDir, "test", string(id), file)
}

func (w *world) read(id pool.InstanceID, file string) string {
	w.Helper()
	doc, err := os.ReadFile(w.path(id, file))
	if err != nil {
		w.Fatal(err)
	}
	return string(doc)
}

// record returns the content of instance.json; edit changes it.
func (w *world) record(id pool.InstanceID) map[string]any {
	w.Helper()
	var rec map[string]any
	if err := json.Unmarshal([]byte(w.read(id, "instance.json")), &rec); err != nil {
		w.Fatal(err)
	}
	return rec
}

func (w *world) edit(id pool.InstanceID, key string, value any) {
	w.Helper()
	rec := w.record(id)
	rec[key] = value
	doc, err := json.Marshal(rec)
	if err != nil {
		w.Fatal(err)
	}
	w.write(id, "instance.json", string(doc))
}

func (w *world) write(id pool.InstanceID, file, text string) {
	w.Helper()
	if err := os.WriteFile(w.path(id, file), []byte(text), 0o600); err != nil {
		w.Fatal(err)
	}
}

func (w *world) pid(id pool.InstanceID) int {
	w.Helper()
	pid, _ := w.record(id)["pid"].(float64)
	if pid == 0 {
		w.Fatalf("instance %s: got no pid in its record, want one", id)
	}
	return int(pid)
}

// runs reports whether a process exists and is not a zombie.
func runs(pid int) bool {
	doc, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(doc), ") ")
	return !strings.HasPrefix(rest, "Z")
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
