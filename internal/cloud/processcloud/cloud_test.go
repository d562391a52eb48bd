package processcloud_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/cloud/cloudtest"
	"cloudmaster/internal/cloud/processcloud"
	"cloudmaster/internal/pool"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	dirs := map[*testing.T]string{} // one state directory for all values of a test; guarded by mu
	stateDir := func(t *testing.T) string {
		mu.Lock()
		defer mu.Unlock()
		if dirs[t] == "" {
			dirs[t] = t.TempDir()
		}
		return dirs[t]
	}
	cloudtest.Run(t, cloudtest.Harness{
		Open: func(t *testing.T, deployment string, capacity int) cloud.Cloud {
			t.Helper()
			return open(t, deployment, processcloud.Options{BinDir: bins, StateDir: stateDir(t), Capacity: capacity})
		},
		Image: "worker", MissingImage: "no-such-binary", UnknownID: "i-0123456789ab",
		UserData: func(t *testing.T, _ cloud.Cloud, inst cloud.Instance) ([]byte, bool) {
			t.Helper()
			dir := filepath.Join(stateDir(t), inst.Tags[cloud.TagDeployment], string(inst.ID))
			for _, pid := range runningBelow(t, filepath.Dir(dir)) {
				env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
				if err != nil || !bytes.Contains(env, []byte("CLOUDMASTER_INSTANCE_ID="+string(inst.ID))) {
					continue
				}
				for entry := range bytes.SplitSeq(env, []byte{0}) {
					if doc, ok := bytes.CutPrefix(entry, []byte("CLOUDMASTER_USER_DATA=")); ok {
						return doc, true
					}
				}
			}
			return nil, false
		},
		KnowsIDs: true, Capacity: true, Tokens: true, Conflicts: true,
	})
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		deployment string
		opts       processcloud.Options
		want       []string
	}{
		"a file in place of the state directory": {
			"test", processcloud.Options{StateDir: file}, []string{file, "set state_dir"},
		},
		"a read-only state directory": {
			"test", processcloud.Options{StateDir: "/proc/x"}, []string{"/proc/x", "set state_dir"},
		},
		"no deployment":                 {"", processcloud.Options{}, []string{`deployment ""`}},
		"a deployment that is a path":   {"../x", processcloud.Options{}, []string{`deployment "../x"`}},
		"a variable without a name":     {"test", processcloud.Options{Inherit: []string{"A=b"}}, []string{`"A=b"`}},
		"an environment without values": {"test", processcloud.Options{Env: []string{"A=b", "B"}}, []string{`"B"`}},
		"numbers below 0": {
			"test", processcloud.Options{Grace: -1, Capacity: -2}, []string{"-1ns", "-2"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tc.opts.BinDir = bins
			_, err := processcloud.Open(t.Context(), tc.deployment, tc.opts)
			for _, want := range tc.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("Open: got error %v, want %q in it", err, want)
				}
			}
		})
	}
}

func TestOpenCreatesTheStateDirectory(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.opts.StateDir = filepath.Join(w.opts.StateDir, "a", "b")
	w.launch(w.open(), newSpec("one", 1))
}

// TestInstanceSurroundings checks what workers may rely on: their directory, environment, session and files.
func TestInstanceSurroundings(t *testing.T) {
	w := newWorld(t)
	t.Setenv("PROCESSCLOUD_SECRET", "must stay here")
	t.Setenv("TZ", "Europe/Zurich")
	t.Setenv("HOME", "/home/somebody")
	t.Setenv("SSL_CERT_FILE", "/etc/ours.pem")
	w.opts.Env, w.opts.Inherit = []string{"EXTRA=more"}, []string{"SSL_CERT_FILE"}
	w.opts.Host = "10.1.2.3"
	c := w.open()
	inst := w.launch(c, newSpec("one", 1))[0]
	if inst.Address != "10.1.2.3" {
		t.Errorf("address: got %q, want 10.1.2.3", inst.Address)
	}
	poll(t, "the log has both streams", func() bool {
		return w.read(inst.ID, "log") == "hello from "+string(inst.ID)+"\nand errors\n"
	})
	if got, want := w.read(inst.ID, "user-data.yaml"), "instance_id: "+string(inst.ID); got != want {
		t.Errorf("user-data.yaml: got %q, want %q", got, want)
	}
	proc := fmt.Sprintf("/proc/%d/", w.pid(inst.ID))
	var env []byte
	// The kernel shows no environment at the moment in which the worker's script becomes sleep.
	poll(t, "the environment is there", func() bool {
		env, _ = os.ReadFile(proc + "environ")
		return len(env) > 0
	})
	vars := strings.Split(string(env), "\x00")
	for _, want := range []string{
		"EXTRA=more", "TZ=Europe/Zurich", "SSL_CERT_FILE=/etc/ours.pem", "CLOUDMASTER_INSTANCE_ID=" + string(inst.ID),
		"CLOUDMASTER_USER_DATA=instance_id: " + string(inst.ID),
	} {
		if !slices.Contains(vars, want) {
			t.Errorf("environment: got %q, want %q in it", vars, want)
		}
	}
	for _, secret := range []string{"PROCESSCLOUD_SECRET", "HOME="} {
		if strings.Contains(string(env), secret) {
			t.Errorf("environment: got %s, which is not on the list of inherited ones", secret)
		}
	}
	if stdin, err := os.Readlink(proc + "fd/0"); err != nil || stdin != os.DevNull {
		t.Errorf("standard input: got %q (%v), want %s", stdin, err, os.DevNull)
	}
	if cwd, err := os.Readlink(proc + "cwd"); err != nil || filepath.Base(cwd) != string(inst.ID) {
		t.Errorf("working directory: got %q (%v), want the instance's", cwd, err)
	}
	stat, err := os.ReadFile(proc + "stat")
	if err != nil {
		t.Fatal(err)
	}
	if fields := strings.Fields(string(stat)); fields[0] != fields[5] {
		t.Errorf("session: got %s, want its own, %s", fields[5], fields[0])
	}
}

func TestLaunchRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.open()
	for name, tc := range map[string]struct {
		change func(*cloud.Spec)
		want   error
		text   string
	}{
		"a missing binary": {
			func(s *cloud.Spec) { s.Image = "missing" }, cloud.ErrNotFound,
			filepath.Join(bins, "missing") + " (no such file or directory); run make build",
		},
		"a file that is no binary": {
			func(s *cloud.Spec) { s.Image = "plain-file" }, cloud.ErrNotFound, "run make build",
		},
		"an image with a path": {func(s *cloud.Spec) { s.Image = "../bin/sh" }, cloud.ErrInvalid, `"../bin/sh"`},
		"a broken binary":      {func(s *cloud.Spec) { s.Image = "garbage" }, cloud.ErrInvalid, "exec format error"},
		"NUL in the user data": {func(s *cloud.Spec) {
			s.UserData = func(pool.InstanceID) ([]byte, error) { return []byte("a\x00b"), nil }
		}, cloud.ErrInvalid, "NUL"},
	} {
		spec := newSpec("token", 1)
		tc.change(&spec)
		out, err := c.Launch(t.Context(), spec)
		if !errors.Is(err, tc.want) || len(out) != 0 || !strings.Contains(err.Error(), tc.text) {
			t.Errorf("%s: got %d instances and error %v, want none, %v and %q in it", name, len(out), err, tc.want,
				tc.text)
		}
	}
	w.launch(c, newSpec("token", 1)) // refused launches left neither the token used nor anything else
	if entries, err := os.ReadDir(filepath.Join(w.opts.StateDir, "test")); err != nil || len(entries) != 2 {
		t.Errorf("state directory: got %v (%v), want the launches and one instance", entries, err)
	}
}

func TestClosedCloud(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.open()
	inst := w.launch(first, newSpec("one", 1))[0]
	if err := errors.Join(first.Close(), first.Close()); err != nil {
		t.Errorf("Close twice: got error %v, want none", err)
	}
	if !runs(w.pid(inst.ID)) {
		t.Error("after Close: got a dead instance, want it to live on")
	}
	if _, err := first.Launch(t.Context(), newSpec("two", 1)); err == nil {
		t.Error("Launch after Close: got no error, want one")
	}
	if err := first.Terminate(t.Context(), inst.ID); err == nil {
		t.Error("Terminate after Close: got no error, want one")
	}
	if got := w.list(w.open()); len(got) != 1 || got[0].Phase != cloud.Running {
		t.Errorf("List after a new Open: got %v, want the running instance", got)
	}
}

func TestTagOfEndedInstance(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.open()
	inst := w.launch(c, newSpec("one", 1))[0]
	if err := c.Terminate(t.Context(), inst.ID); err != nil {
		t.Fatal(err)
	}
	w.wantListed(c, 0)
	if err := c.Tag(t.Context(), map[string]string{"a": "b"}, inst.ID); !errors.Is(err, cloud.ErrNotFound) {
		t.Errorf("Tag: got error %v, want ErrNotFound", err)
	}
}

func TestExitedIsCalledOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	launched := w.launch(w.open(), newSpec("inherited", 1)) // by a value that does not know the next one
	gone := make(chan pool.InstanceID, 10)
	w.opts.Exited = func(id pool.InstanceID) { gone <- id }
	c := w.open()
	spec := newSpec("short", 1)
	spec.Image = "brief"
	launched = append(launched, w.launch(c, spec)...)
	if err := c.Terminate(t.Context(), launched[0].ID); err != nil {
		t.Fatal(err)
	}
	poll(t, "both ends are reported", func() bool { return len(gone) == 2 })
	got := []pool.InstanceID{<-gone, <-gone}
	for _, inst := range launched {
		if !slices.Contains(got, inst.ID) {
			t.Errorf("Exited: got %v, want %s in it", got, inst.ID)
		}
	}
	w.wantListed(c, 0)
	if err := c.Close(); err != nil || len(gone) != 0 {
		t.Errorf("Close: got error %v and %d more calls, want none", err, len(gone))
	}
}

func TestChildrenLeaveNoZombies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.open()
	spec := newSpec("short", 5)
	spec.Image = "brief"
	out := w.launch(c, spec)
	for _, inst := range out {
		pid := w.pid(inst.ID)
		poll(t, "the child is reaped", func() bool { return !exists(fmt.Sprintf("/proc/%d", pid)) })
	}
	w.wantListed(c, 0)
}

func TestDamage(t *testing.T) {
	t.Parallel()
	var log lockedBuffer
	w := newWorld(t)
	w.opts.Log = slog.New(slog.NewTextHandler(&log, nil))
	first := w.open()
	alive := w.launch(first, newSpec("alive", 3))
	dead := w.launch(first, newSpec("dead", 1))[0]
	if err := first.Terminate(t.Context(), dead.ID); err != nil {
		t.Fatal(err)
	}
	w.wantListed(first, 3)
	pid := w.pid(alive[0].ID)
	w.write(alive[0].ID, "instance.json", "{half a rec")
	w.write(alive[1].ID, "tags.json", "")
	w.edit(alive[2].ID, "deployment", "of somebody else")
	if err := os.Remove(w.path(dead.ID, "instance.json")); err != nil {
		t.Fatal(err)
	}

	c := w.open()
	got := w.list(c)
	if len(got) != 3 || len(w.list(c)) != 3 {
		t.Fatalf("List: got %v, want the three live instances", got)
	}
	if got := w.record(alive[2].ID)["deployment"]; got != "test" {
		t.Errorf("rescued deployment: got %v, want test", got)
	}
	if w.pid(alive[0].ID) != pid {
		t.Errorf("rescued pid: got %d, want %d", w.pid(alive[0].ID), pid)
	}
	for _, inst := range got {
		if inst.ID == alive[1].ID && inst.Tags[cloud.TagPool] != "main" {
			t.Errorf("tags of %s: got %v, want those of the launch", inst.ID, inst.Tags)
		}
	}
	for _, id := range []pool.InstanceID{alive[0].ID, alive[1].ID, alive[2].ID, dead.ID} {
		warning := "level=WARN msg=\"an instance's files are damaged\" deployment=test instance=" + string(id)
		if n := strings.Count(log.String(), warning); n < 1 || n > 2 {
			t.Errorf("log: got %d reports of %s, want one from each value at most\n%s", n, id, log.String())
		}
	}
	if !exists(w.path(dead.ID, "log")) {
		t.Error("damaged directory of a dead instance: got it removed, want it kept")
	}
	if err := c.Terminate(t.Context(), alive[0].ID); err != nil {
		t.Fatal(err)
	}
	poll(t, "the rescued instance ends", func() bool { return !runs(pid) })
}

// lockedBuffer is a log to which several goroutines may write.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
