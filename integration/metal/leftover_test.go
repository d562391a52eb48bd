package metal

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// pid returns a process id that the instance has written down under that name.
func (b bench) pid(id, name string) int {
	b.t.Helper()
	_, text, _ := strings.Cut(b.log(id), name+"=")
	text, _, _ = strings.Cut(text, "\n")
	pid, err := strconv.Atoi(text)
	if err != nil {
		b.t.Fatalf("log of %s: got %q, want %s and a number in it", id, b.log(id), name)
	}
	return pid
}

// alive reports whether the process runs. A process that has ended does not, even if nobody has
// waited for it yet.
func alive(pid int) bool {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	_, state, _ := strings.Cut(string(stat), ") ")
	return err == nil && !strings.HasPrefix(state, "Z")
}

// TestNothingIsLeftOfAnInstance: however an instance's process ends, the processes that it has
// started end, too.
func TestNothingIsLeftOfAnInstance(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(b bench){
		"terminated": func(b bench) { b.cloud.set("i-1", "terminated") },
		"crashed":    func(b bench) { b.must(b.Crash("i-1")) },
		"closed":     func(b bench) { b.close() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, "parent")
			b.cloud.set("i-1", "running")
			b.ready("i-1")
			parent, child := b.pid("i-1", "pid"), b.pid("i-1", "child")
			if !alive(parent) || !alive(child) {
				t.Errorf("before: got parent %t, child %t, want both alive", alive(parent), alive(child))
			}
			end(b)
			b.eventually("both ended", func() bool { return !alive(parent) && !alive(child) })
			if name != "closed" {
				b.close()
			}
		})
	}
}

// TestNothingIsLeftWhenTheRunnerIsKilled: a killed program cannot end the processes that metal runs
// for it, and they end nevertheless.
func TestNothingIsLeftWhenTheRunnerIsKilled(t *testing.T) {
	t.Parallel()
	cloud := &records{state: make(map[string]string)}
	server := httptest.NewServer(cloud)
	defer server.Close()
	b := bench{cloud: cloud, dir: t.TempDir(), t: t}
	host := exec.CommandContext(t.Context(), os.Args[0])
	host.Env = append(os.Environ(), hostVar+"="+server.URL, hostDirVar+"="+b.dir)
	if err := host.Start(); err != nil {
		t.Fatal(err)
	}
	cloud.set("i-1", "running")
	b.Metal = &Metal{} // eventually prints its instances when the time is over
	b.eventually("i-1 ready", func() bool { return strings.Contains(b.log("i-1"), "ready\n") })
	pid := b.pid("i-1", "pid")
	if !alive(pid) {
		t.Errorf("got process %d ended, want it alive", pid)
	}
	b.must(host.Process.Kill())
	_ = host.Wait() // the error is that it was killed
	b.eventually("i-1 ended", func() bool { return !alive(pid) })
}

func TestReclaim(t *testing.T) {
	t.Parallel()
	b := setup(t, "good")
	defer b.close()
	b.cloud.set("i-1", "running")
	b.cloud.set("i-2", "running")
	b.ready("i-1")
	b.ready("i-2")
	b.must(b.Reclaim("i-1", time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)))
	for id, want := range map[string]int{"i-1": http.StatusOK, "i-2": http.StatusNotFound} {
		service := b.machine(id).metadata.URL()
		token, _ := ask(http.MethodPut, service+"/latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds", "60")
		text, status := ask(http.MethodGet, service+"/latest/meta-data/spot/instance-action",
			"X-aws-ec2-metadata-token", token)
		if status != want || status == http.StatusOK && !strings.Contains(text, "2030-01-02T03:04:05Z") {
			t.Errorf("%s: got %d %s, want %d", id, status, text, want)
		}
	}
	b.must(b.Crash("i-1"))
	b.gone("i-1")
	if err := b.Reclaim("i-1", time.Now()); err == nil {
		t.Error("Reclaim of an instance that has ended: got no error")
	}
}

func (b bench) machine(id string) *machine {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.machines[id]
}
