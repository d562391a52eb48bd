package server_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"cloudmaster/services/fib-server/internal/server"
)

const (
	idleClients  = 10_000
	idleMemory   = 16 << 10 // bytes that each may hold
	spareFiles   = 100
	numbersAsked = 100
)

// 10,000 clients that have asked for some numbers and then say nothing hold at most 16 KiB
// of the server's resident memory each. The server is a process of its own,
// so that the clients' memory does not count.
func TestIdleClientsHoldLittleMemory(t *testing.T) {
	if testing.Short() || runtime.GOOS != "linux" || raceDetector() {
		t.Skip("opens 10,000 connections and reads /proc; the race detector's own memory would count")
	}
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil || files.Cur < idleClients+spareFiles {
		t.Skipf("needs %d open files, the limit is %d: raise it with ulimit -n", idleClients+spareFiles, files.Cur)
	}
	pid, address := startChild(t)
	conns := make([]net.Conn, 0, idleClients)
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	before := resident(t, pid)
	for range idleClients {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
		askFor(t, conn, numbersAsked)
	}
	each := (resident(t, pid) - before) / idleClients
	t.Logf("%d bytes of resident memory for each of %d idle clients", each, idleClients)
	if each > idleMemory {
		t.Errorf("got %d bytes for each idle client, want at most %d", each, idleMemory)
	}
}

func askFor(t *testing.T, conn net.Conn, numbers int) {
	t.Helper()
	if _, err := io.WriteString(conn, strings.Repeat("\n", numbers)); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReaderSize(conn, 512)
	for range numbers {
		if _, err := r.ReadSlice('\n'); err != nil {
			t.Fatal(err)
		}
	}
}

// startChild starts this test binary as a server and returns where it listens.
func startChild(t *testing.T) (pid int, address string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), envChild+"=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	address, err = bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid, strings.TrimSpace(address)
}

// child is the server of startChild; the test kills it.
func child() int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	l, err := server.Listen(ctx, "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	s, err := server.New(server.Options{ConnectionLimit: 2 * idleClients})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Fprintln(os.Stdout, l.Addr())
	if err := s.Serve(ctx, l); err != nil {
		return 1
	}
	return 0
}

// raceDetector reports whether this binary was built with -race.
func raceDetector() bool {
	info, _ := debug.ReadBuildInfo()
	return info != nil && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

var residentLine = regexp.MustCompile(`(?m)^VmRSS:\s*(\d+) kB$`)

func resident(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	found := residentLine.FindSubmatch(status)
	if found == nil {
		t.Fatalf("no VmRSS in %s", status)
	}
	kb, err := strconv.Atoi(string(found[1]))
	if err != nil {
		t.Fatal(err)
	}
	return kb << 10
}
