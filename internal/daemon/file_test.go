package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestReadFileIsBounded: a read that waits for ever cannot be ended by SIGTERM, and an endless one takes all memory.
func TestReadFileIsBounded(t *testing.T) {
	t.Parallel()
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if raw, err := ReadFile(pipe); err != nil || len(raw) != 0 {
		t.Errorf("a pipe without a writer: got %q and %v, want nothing", raw, err)
	}
	writer, err := os.OpenFile(pipe, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = writer.Close() }()
	if _, err := readFile(pipe, time.Millisecond); err == nil || !strings.Contains(err.Error(), "was not complete") {
		t.Errorf("a pipe whose writer is silent: got %v, want an error that says so", err)
	}
	if _, err := ReadFile("/dev/zero"); err == nil || !strings.Contains(err.Error(), "more than 16 MiB") {
		t.Errorf("an endless device: got %v, want an error that says so", err)
	}
}

func TestReadFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("a: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if raw, err := ReadFile(file); err != nil || string(raw) != "a: 1\n" {
		t.Errorf("got %q and %v, want what is in the file", raw, err)
	}
}
