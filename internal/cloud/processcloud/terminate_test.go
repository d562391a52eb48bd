package processcloud_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/cloud/processcloud"
	"cloudmaster/internal/pool"
)

func startTicks(t *testing.T, pid int) uint64 {
	t.Helper()
	doc, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(doc), ") ")
	ticks, err := strconv.ParseUint(strings.Fields(rest)[19], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return ticks
}

// launchReady launches one instance and waits until it has installed its signal handlers.
func (w *world) launchReady(c *processcloud.Cloud, image string) pool.InstanceID {
	w.Helper()
	spec := newSpec("ready-"+image, 1)
	spec.Image = image
	id := w.launch(c, spec)[0].ID
	poll(w, "the instance is ready", func() bool { return strings.Contains(w.read(id, "log"), "ready") })
	return id
}

func TestGrace(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.opts.Grace = time.Second
	c := w.open()
	id := w.launchReady(c, "stubborn")
	pid := w.pid(id)
	begin := time.Now()
	for range 3 {
		if err := c.Terminate(t.Context(), id); err != nil {
			t.Fatalf("Terminate: got error %v, want none", err)
		}
	}
	if took := time.Since(begin); took >= w.opts.Grace {
		t.Errorf("Terminate: got %s for three, want it to return at once", took)
	}
	if got := w.list(c); len(got) != 1 || got[0].Phase != cloud.Terminating {
		t.Errorf("List: got %v, want the instance in phase terminating", got)
	}
	w.wantListed(c, 0)
	if took := time.Since(begin); took < w.opts.Grace || runs(pid) {
		t.Errorf("killed: got it after %s (still running: %t), want it after %s", took, runs(pid), w.opts.Grace)
	}
}

// TestOneSIGTERMOnly: many programs take a second SIGTERM for "end at once, whatever is lost".
func TestOneSIGTERMOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.opts.Grace = 2 * time.Second
	c := w.open()
	id := w.launchReady(c, "counter")
	for range 3 {
		if err := c.Terminate(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		poll(t, "SIGTERM has arrived", func() bool { return strings.Contains(w.read(id, "log"), "term") })
	}
	w.wantListed(c, 0)
	if got := strings.Count(w.read(id, "log"), "term\n"); got != 1 {
		t.Errorf("got %d SIGTERMs, want 1", got)
	}
}

func TestCloseLeavesTheKillToTheNext(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.open()
	id := w.launchReady(c, "stubborn")
	if err := c.Terminate(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil || !runs(w.pid(id)) {
		t.Fatalf("Close: got error %v, instance runs: %t; want none, true", err, runs(w.pid(id)))
	}
	w.opts.Grace = 10 * time.Millisecond
	w.wantListed(w.open(), 0)
}

func (w *world) directories() []string {
	w.Helper()
	out, err := filepath.Glob(filepath.Join(w.opts.StateDir, "test", "i-*"))
	if err != nil {
		w.Fatal(err)
	}
	return out
}

func TestKeepDead(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ keep, want int }{
		"two": {2, 2}, "none": {-1, 0}, "the default": {0, 4},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.opts.KeepDead = tc.keep
			c := w.open()
			var last []cloud.Instance
			for i := range 4 {
				spec := newSpec(fmt.Sprintf("short-%d", i), 1)
				spec.Image = "brief"
				last = w.launch(c, spec)
				w.wantListed(c, 0)
			}
			alive := w.launch(c, newSpec("alive", 1))[0]
			w.open() // this sweeps, and must not count live instances
			poll(t, "superfluous directories are gone", func() bool {
				w.list(c)
				return len(w.directories()) == tc.want+1
			})
			if !exists(w.path(alive.ID, "log")) || tc.want > 0 && !exists(w.path(last[0].ID, "log")) {
				t.Errorf("kept: got %v, want %s (alive) and %s (newest) in it", w.directories(), alive.ID, last[0].ID)
			}
			spec := newSpec("short-0", 1)
			spec.Image = "brief"
			if again := w.launch(c, spec); again[0].Phase != cloud.Terminating || len(w.directories()) != tc.want+1 {
				t.Errorf("token of an instance that was removed: got %v, want it known still", again)
			}
		})
	}
}

// TestDeadWithLiveChildrenIsKept: an instance's directory is not removed while a process still
// writes its log.
func TestDeadWithLiveChildrenIsKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.opts.KeepDead = -1
	c := w.open()
	id := w.launch(c, newSpec("one", 1))[0].ID
	log, err := os.Open(w.path(id, "log"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Terminate(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	poll(t, "the log is free", func() bool {
		return syscall.Flock(int(log.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
	})
	w.wantListed(c, 0)
	if w.list(c); !exists(log.Name()) {
		t.Error("got the directory removed while its log is in use, want it kept")
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	poll(t, "the directory is removed", func() bool { w.list(c); return !exists(w.path(id, "")) })
}

func TestOpenClearsWhatCrashesLeft(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.open()
	w.launch(first, newSpec("alive", 1))
	old := time.Now().Add(-2 * time.Hour)
	for _, name := range []string{".new-i-000000000000", ".dead-i-000000000000"} {
		if err := os.MkdirAll(w.path(pool.InstanceID(name), "x"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	w.write(".launches", "forgotten.json", `{"token":"forgotten","count":1}`)
	w.write(".launches", "recent.json", `{"token":"recent","count":1}`)
	w.write(".launches", "damaged.json", `{`)
	for _, name := range []string{"forgotten.json", "damaged.json", "alive.json"} {
		if err := os.Chtimes(w.path(".launches", name), old, old); err != nil {
			t.Fatal(err)
		}
	}
	w.open()
	for name, want := range map[string]bool{
		".new-i-000000000000": false, ".dead-i-000000000000": false, ".launches/forgotten.json": false,
		".launches/damaged.json": false, ".launches/recent.json": true, ".launches/alive.json": true,
	} {
		if got := exists(w.path(pool.InstanceID(name), "")); got != want {
			t.Errorf("%s: got present %t, want %t", name, got, want)
		}
	}
}

// listTime returns the shortest time of several lists.
func listTime(t testing.TB, c *processcloud.Cloud, want int) time.Duration {
	t.Helper()
	best := time.Hour
	for range 5 {
		begin := time.Now()
		got, err := c.List(context.Background())
		if err != nil || len(got) != want {
			t.Fatalf("List: got %d instances and error %v, want %d and none", len(got), err, want)
		}
		best = min(best, time.Since(begin))
	}
	return best
}

func TestManyInstances(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.open()
	w.launch(c, newSpec("ten", 10))
	ten := listTime(t, c, 10)
	w.launch(c, newSpec("ninety", 90))
	hundred := listTime(t, c, 100)
	t.Logf("List: 10 instances %s, 100 instances %s", ten, hundred)
	if hundred > 40*ten {
		t.Errorf("List: got %s for 100 and %s for 10 instances, want about 10 times as long", hundred, ten)
	}
	var ids []pool.InstanceID
	for _, inst := range w.list(c) {
		ids = append(ids, inst.ID)
	}
	if err := c.Terminate(t.Context(), ids...); err != nil {
		t.Errorf("Terminate: got error %v, want none", err)
	}
	w.wantListed(c, 0)
}

func BenchmarkList100(b *testing.B) {
	c := open(b, "test", processcloud.Options{BinDir: bins, StateDir: b.TempDir()})
	if _, err := c.Launch(b.Context(), newSpec("bench", 100)); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.List(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
