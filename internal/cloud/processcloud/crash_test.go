package processcloud_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/cloud/processcloud"
	"cloudmaster/internal/pool"
)

// launcher returns a process that launches stubbornSpec and kills itself when it reaches the step.
func (w *world) launcher(step string) *exec.Cmd {
	w.Helper()
	self, err := os.Executable()
	if err != nil {
		w.Fatal(err)
	}
	cmd := exec.CommandContext(w.Context(), self)
	cmd.Env = append(os.Environ(), "PROCESSCLOUD_TEST_DIE_AT="+step,
		"PROCESSCLOUD_TEST_BINS="+bins, "PROCESSCLOUD_TEST_STATE="+w.opts.StateDir)
	cmd.Stderr = os.Stderr
	return cmd
}

func (w *world) dieAt(step string) {
	w.Helper()
	err := w.launcher(step).Run()
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		w.Fatalf("launcher: got %v, want it killed at step %q", err, step)
	}
}

func sortedIDs(list []cloud.Instance) []pool.InstanceID {
	out := make([]pool.InstanceID, len(list))
	for i, inst := range list {
		out[i] = inst.ID
	}
	slices.Sort(out)
	return out
}

// TestLauncherKilled: the launcher is killed between any two steps. Whoever repeats the launch gets
// what was asked for, and nothing runs that is not listed.
func TestLauncherKilled(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"begun", "intended", "forked", "recorded"} {
		for name, prepare := range map[string]func(*world) *processcloud.Cloud{
			"opened after": func(w *world) *processcloud.Cloud { w.dieAt(step); return w.open() },
			"opened before": func(w *world) *processcloud.Cloud {
				c := w.open()
				w.dieAt(step)
				return c
			},
		} {
			t.Run(step+" "+name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				c := prepare(w)
				want := map[string]int{"forked": 1, "recorded": 1}[step]
				if got := w.wantListed(c, want); len(runningBelow(t, w.opts.StateDir)) != want {
					t.Errorf("after the crash: got %d processes and %d listed, want %d",
						len(runningBelow(t, w.opts.StateDir)), len(got), want)
				}
				first := w.launch(c, stubbornSpec())
				again := w.launch(c, stubbornSpec())
				listed := w.list(c)
				if !slices.Equal(sortedIDs(first), sortedIDs(again)) ||
					!slices.Equal(sortedIDs(first), sortedIDs(listed)) {
					t.Errorf("got %v, %v and %v listed, want the same two", sortedIDs(first), sortedIDs(again),
						sortedIDs(listed))
				}
				if got := len(runningBelow(t, w.opts.StateDir)); got != 2 {
					t.Errorf("got %d processes, want 2", got)
				}
			})
		}
	}
}

// TestLauncherKilledAndRepeatedAtOnce: a launch that is repeated before anybody has listed must not
// start an instance twice either.
func TestLauncherKilledAndRepeatedAtOnce(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"intended", "forked", "recorded"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			c := w.open()
			w.dieAt(step)
			w.launch(c, stubbornSpec())
			if got := len(runningBelow(t, w.opts.StateDir)); got != 2 {
				t.Errorf("got %d processes, want 2", got)
			}
		})
	}
}

// TestLauncherKilledAnywhere: the test above kills between the steps that we know. This one kills
// at random moments, also between fork and exec.
func TestLauncherKilledAnywhere(t *testing.T) {
	t.Parallel()
	for i := range 10 {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			c := w.open()
			l := w.launcher(stepNone)
			if err := l.Start(); err != nil {
				t.Fatal(err)
			}
			launches := filepath.Join(w.opts.StateDir, "test", ".launches", "crash-token.json")
			poll(t, "the launch has begun", func() bool { return exists(launches) })
			<-time.After(rand.N(15 * time.Millisecond))
			_ = l.Process.Kill()
			_ = l.Wait()
			w.launch(c, stubbornSpec())
			if got := len(runningBelow(t, w.opts.StateDir)); got != 2 || len(w.list(c)) != 2 {
				t.Errorf("got %d processes and %d listed, want 2", got, len(w.list(c)))
			}
		})
	}
}

// TestTerminatorKilled: the process that terminates an instance is killed before or after the first
// signal. The next one that opens the directory completes the termination, although the instance
// ignores SIGTERM.
func TestTerminatorKilled(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"marked", "signalled"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.dieAt(step)
			if got := len(runningBelow(t, w.opts.StateDir)); got == 0 {
				t.Fatal("after the crash: got no processes, want them to live on")
			}
			w.opts.Grace = 50 * time.Millisecond
			w.wantListed(w.open(), 1) // of two
			if got := len(runningBelow(t, w.opts.StateDir)); got != 1 {
				t.Errorf("got %d processes, want 1", got)
			}
		})
	}
}

func TestInstancesOutliveTheirLauncher(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if err := w.launcher(stepNone).Run(); err != nil {
		t.Fatalf("launcher: got %v, want none", err)
	}
	c := w.open()
	for _, inst := range w.wantListed(c, 2) {
		if inst.Phase != cloud.Running || inst.Tags[cloud.TagPool] != "main" || inst.Image != "stubborn" {
			t.Errorf("got %+v, want it running, of its image and with its tags", inst)
		}
		if err := c.Tag(t.Context(), map[string]string{cloud.TagState: "active"}, inst.ID); err != nil {
			t.Errorf("Tag: got error %v, want none", err)
		}
	}
}

func TestProcessesLaunchOneTokenAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.open()
	launchers := make([]*exec.Cmd, 3)
	for i := range launchers {
		launchers[i] = w.launcher(stepNone)
		launchers[i].Stderr = nil
		if err := launchers[i].Start(); err != nil {
			t.Fatal(err)
		}
	}
	w.launch(c, stubbornSpec())
	for _, l := range launchers {
		if err := l.Wait(); err != nil {
			t.Errorf("launcher: got %v, want none", err)
		}
	}
	if got := len(runningBelow(t, w.opts.StateDir)); got != 2 || len(w.list(c)) != 2 {
		t.Errorf("got %d processes and %d listed, want 2", got, len(w.list(c)))
	}
}

// TestProcessThatCannotBeToldYet: between fork and exec a process has its log locked, but does not
// carry the marks of its instance yet.
func TestProcessThatCannotBeToldYet(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.open()
	spec := newSpec("one", 1)
	id := w.launch(c, spec)[0].ID
	pid := w.pid(id)
	launchRecord := w.path(".launches", "one.json")
	if err := os.Remove(launchRecord); err != nil {
		t.Fatal(err)
	}
	w.edit(id, "pid", 0)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	poll(t, "the process is gone", func() bool { return !runs(pid) })
	log, err := os.Open(w.path(id, "log"))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(log.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if out, err := c.Launch(ctx, spec); !errors.Is(err, context.DeadlineExceeded) || len(out) != 0 {
		t.Errorf("Launch while the log is locked: got %v and error %v, want none and the deadline", out, err)
	}
	if got := runningBelow(t, w.opts.StateDir); len(got) != 0 {
		t.Errorf("meanwhile: got processes %v, want none", got)
	}
	time.AfterFunc(50*time.Millisecond, func() { _ = log.Close() })
	if out := w.launch(c, spec); out[0].ID != id {
		t.Errorf("Launch that waits for the lock of the log: got %s, want %s", out[0].ID, id)
	}
}

func TestRecycledPID(t *testing.T) {
	t.Parallel()
	for key, value := range map[string]any{"start_ticks": 12345, "boot_id": "00000000-0000-0000-0000-000000000000"} {
		t.Run("other "+key, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			id := w.launch(w.open(), newSpec("one", 1))[0].ID
			pid := w.pid(id)
			w.edit(id, key, value)
			w.opts.Grace = time.Millisecond
			c := w.open()
			if got := w.list(c); len(got) != 0 {
				t.Errorf("List: got %v, want nothing", got)
			}
			if err := c.Terminate(t.Context(), id); err != nil {
				t.Errorf("Terminate: got error %v, want none", err)
			}
			if err := c.Tag(t.Context(), nil, id); !errors.Is(err, cloud.ErrNotFound) {
				t.Errorf("Tag: got error %v, want ErrNotFound", err)
			}
			if !runs(pid) {
				t.Error("the process that has the instance's pid by chance: it was ended, want it left alone")
			}
		})
	}
}

func TestZombieIsDead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.launch(w.open(), newSpec("one", 1))[0].ID
	zombie := exec.CommandContext(t.Context(), "true")
	if err := zombie.Start(); err != nil {
		t.Fatal(err)
	}
	poll(t, "the child is a zombie", func() bool { return !runs(zombie.Process.Pid) })
	w.edit(id, "pid", zombie.Process.Pid)
	w.edit(id, "start_ticks", startTicks(t, zombie.Process.Pid))
	if got := w.list(w.open()); len(got) != 0 {
		t.Errorf("List: got %v, want nothing", got)
	}
	if err := zombie.Wait(); err != nil {
		t.Fatal(err)
	}
}

// TestUnknownIsNotDead: a process table that cannot be read does not mean that anything has died.
func TestUnknownIsNotDead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.open()
	id := w.launch(c, newSpec("one", 1))[0].ID
	proc := t.TempDir()
	// A directory in place of the file makes reading it fail.
	if err := os.MkdirAll(filepath.Join(proc, strconv.Itoa(w.pid(id)), "stat"), 0o700); err != nil {
		t.Fatal(err)
	}
	restore, err := processcloud.SetProc(c, proc)
	if err != nil {
		t.Fatal(err)
	}
	_, launchErr := c.Launch(t.Context(), newSpec("one", 1))
	_, listErr := c.List(t.Context())
	for name, err := range map[string]error{
		"Launch": launchErr, "List": listErr,
		"Tag": c.Tag(t.Context(), nil, id), "Terminate": c.Terminate(t.Context(), id),
	} {
		if err == nil || errors.Is(err, cloud.ErrNotFound) {
			t.Errorf("%s: got error %v, want one that says that the state is unknown", name, err)
		}
	}
	restore()
	if got := w.list(c); len(got) != 1 || got[0].Phase != cloud.Running {
		t.Errorf("List afterwards: got %v, want the instance running", got)
	}
}
