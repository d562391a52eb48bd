package dirlock_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cloudmaster/internal/dirlock"
)

func TestTake(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a", "b")
	first, err := dirlock.Take(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = dirlock.Take(dir)
	want := fmt.Sprintf("directory %s is in use by process %d;", dir, os.Getpid())
	if !errors.Is(err, dirlock.ErrHeld) || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := dirlock.Take(dir)
	if err != nil {
		t.Fatalf("after the first has gone: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

func TestTakeRefuses(t *testing.T) {
	t.Parallel()
	inTheWay := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(inTheWay, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{inTheWay, "/proc/nothing"} {
		if _, err := dirlock.Take(dir); err == nil || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: got %v, want an error that names it", dir, err)
		}
	}
}
