package main

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestManyPools runs the built controller with as many pools as POOLS says, twice on one store, and prints how long it
// takes until it is ready, what memory it takes and how long it takes to end. It is a measurement, for make
// bench-pools: what it prints depends on the machine, but a controller that ends with an error fails.
func TestManyPools(t *testing.T) {
	pools, err := strconv.Atoi(os.Getenv("POOLS"))
	if err != nil {
		t.Skip("set POOLS to how many pools there are to be")
	}
	bin, err := filepath.Abs("../../bin")
	if err != nil {
		t.Fatal(err)
	}
	dir, ops := t.TempDir(), freeAddress(t)
	file := filepath.Join(dir, "c.yaml")
	text := fmt.Sprintf("deployment: many\nbackend: embedded\n"+
		"broker: {listen: %q, store_dir: %s/store}\nops_listen: %q\n"+
		"clouds:\n  local: {type: process, bin_dir: %s, state_dir: %s/instances}\npools:\n",
		freeAddress(t), dir, ops, bin, dir)
	for i := range pools {
		text += fmt.Sprintf("  p%d: {policy: job, image: primes-worker, cloud: local}\n", i)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{"new store", "again"} {
		start := time.Now()
		cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "controller"), "run", "-c", file)
		var said bytes.Buffer
		cmd.Stderr = &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		awaitReady(t, ops)
		ready := time.Since(start)
		<-time.After(5 * time.Second) // the first looks at all pools
		memory := resident(t, cmd.Process.Pid)
		stop := time.Now()
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: the controller ended with %v:\n%s", what, err, said.String())
		}
		t.Logf("%d pools, %s: ready after %v, %s resident, ended within %v", pools, what,
			ready.Round(time.Millisecond), memory, time.Since(stop).Round(time.Millisecond))
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

func awaitReady(t *testing.T, ops string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); <-time.After(20 * time.Millisecond) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+ops+"/readyz", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			continue
		}
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return
		}
	}
	t.Fatal("the controller is not ready within a minute")
}

// resident returns the memory of a process, as Linux says it.
func resident(t *testing.T, pid int) string {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		if size, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			return strings.TrimSpace(size)
		}
	}
	return "unknown"
}
