package processcloud_test

import (
	"path/filepath"
	"syscall"
	"testing"

	"cloudmaster/internal/cloud/processcloud"
	"cloudmaster/internal/pool"
)

// family launches an instance and waits until it has started three more processes, one of them in a session of its own.
func (w *world) family(c *processcloud.Cloud) pool.InstanceID {
	w.Helper()
	id := w.launchReady(c, "forks")
	poll(w, "the instance has started its processes", func() bool { return len(w.running(id)) == 4 })
	return id
}

// running returns the pids of all that runs of an instance.
func (w *world) running(id pool.InstanceID) []int {
	w.Helper()
	return runningBelow(w, filepath.Dir(w.path(id, "log")))
}

func (w *world) wantNothingOf(id pool.InstanceID) {
	w.Helper()
	poll(w, "what the instance has started is gone", func() bool { return len(w.running(id)) == 0 })
}

// TestNothingOutlivesAnInstance: a worker below a script would go on taking jobs, and no controller would know of it.
func TestNothingOutlivesAnInstance(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.open()
	other := w.launchReady(c, "stubborn")
	id := w.family(c)
	if err := c.Terminate(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	w.wantNothingOf(id)
	if got := w.wantListed(c, 1); got[0].ID != other || !runs(w.pid(other)) {
		t.Errorf("List: got %v, want the other instance, %s, to run on", got, other)
	}
}

// TestNothingOutlivesAnInstanceThatDied: the same if it died by itself while no controller ran.
func TestNothingOutlivesAnInstanceThatDied(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	before := w.open()
	id := w.family(before)
	pid := w.pid(id)
	if err := before.Close(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	w.open()
	w.wantNothingOf(id)
}
