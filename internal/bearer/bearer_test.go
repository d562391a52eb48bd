package bearer_test

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"cloudmaster/internal/bearer"
)

const (
	first  = "0123456789abcdef"
	second = "fedcba9876543210-._~+/=="
)

func write(t *testing.T, file, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, mode); err != nil {
		t.Fatal(err)
	}
}

func TestReadRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, c := range map[string]struct {
		text string
		mode os.FileMode
		want string
	}{
		"empty":        {"", 0o600, "has no token: write one into it"},
		"blank":        {"\n \n", 0o600, "has no token"},
		"short":        {"\n0123456789\n", 0o600, ":2: a token of 10 characters can be guessed"},
		"not a token":  {first + " secret-text\n", 0o600, ":1: is no token"},
		"too large":    {strings.Repeat("x", bearer.MaxFile+1), 0o600, "has more than 65536 bytes"},
		"too many":     {strings.Repeat(first+"\n", bearer.MaxTokens+1), 0o600, "has 101 tokens: 100 are the most"},
		"for everyone": {first, 0o644, "can be read by others (mode 0644)"},
	} {
		file := filepath.Join(dir, name)
		write(t, file, c.text, c.mode)
		_, err := bearer.Read(file)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), file) ||
			strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %v, want %q and no token in it", name, err, c.want)
		}
	}
	if _, err := bearer.Read(filepath.Join(dir, "none")); err == nil || !strings.Contains(err.Error(), "openssl rand") {
		t.Errorf("no file: got %v, want the next step", err)
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := bearer.Read(pipe); err == nil || !strings.Contains(err.Error(), "is no file") {
		t.Errorf("a pipe: got %v", err)
	}
	if _, err := bearer.Read(dir); err == nil || !strings.Contains(err.Error(), "is no file") {
		t.Errorf("a directory: got %v", err)
	}
}

// TestRotation: a token is replaced without a moment in which clients are refused, and what is wrong in the file locks
// nobody out.
func TestRotation(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "tokens")
	write(t, file, first+"\n", 0o600)
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		tokens, err := bearer.Open(file, slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		valid := func(when string, wantFirst, wantSecond bool) {
			t.Helper()
			if got := tokens.Valid(first); got != wantFirst {
				t.Errorf("%s: first token valid: got %t, want %t", when, got, wantFirst)
			}
			if got := tokens.Valid(second); got != wantSecond {
				t.Errorf("%s: second token valid: got %t, want %t", when, got, wantSecond)
			}
			for _, bad := range []string{"", first[:15], first + "0", "\n"} {
				if tokens.Valid(bad) {
					t.Errorf("%s: %q is valid", when, bad)
				}
			}
		}
		valid("at first", true, false)
		write(t, file, "\n"+first+"\r\n"+second+"\n\n", 0o600)
		time.Sleep(time.Second)
		valid("a moment ago", true, false)
		time.Sleep(time.Second)
		valid("both", true, true)
		write(t, file, "", 0o600)
		for range 5 {
			time.Sleep(time.Second)
			valid("emptied", true, true)
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			time.Sleep(time.Second)
			valid("removed", true, true)
		}
		if got := strings.Count(log.String(), "cannot be read again"); got != 2 {
			t.Errorf("got %d warnings, want one for each of the two:\n%s", got, log.String())
		}
		write(t, file, second, 0o600)
		time.Sleep(time.Second)
		tokens.Valid(second)
		time.Sleep(time.Second)
		valid("replaced", false, true)
		if strings.Contains(log.String(), first) || strings.Contains(log.String(), second) {
			t.Errorf("a token is in the log:\n%s", log.String())
		}
	})
}

// TestHalfWrittenFile: what an editor has written so far, which may be one token of two, locks nobody out.
func TestHalfWrittenFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "tokens")
	write(t, file, first+"\n"+second+"\n", 0o600)
	synctest.Test(t, func(t *testing.T) {
		tokens, err := bearer.Open(file, nil)
		if err != nil {
			t.Fatal(err)
		}
		for n := range 40 { // the first 40 of its characters, one a second
			write(t, file, first[:min(n+1, len(first))]+strings.Repeat("\n", n%2), 0o600)
			time.Sleep(time.Second)
			if !tokens.Valid(first) || !tokens.Valid(second) {
				t.Fatalf("after %d characters: a token of the last whole file is refused", n+1)
			}
			if half := first[:min(n+1, len(first)-1)]; tokens.Valid(half) {
				t.Fatalf("%q is valid, the beginning of a token", half)
			}
		}
		write(t, file, second+"\n", 0o600)
		for range 2 {
			time.Sleep(time.Second)
			tokens.Valid(second)
		}
		if tokens.Valid(first) || !tokens.Valid(second) {
			t.Error("two seconds after the last change it does not count")
		}
	})
}

// TestChangeWithoutClients: a token that was taken away while nobody asked is refused at once.
func TestChangeWithoutClients(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "tokens")
	write(t, file, first+"\n", 0o600)
	old := time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC) // before the bubble's time, which begins in 2000
	synctest.Test(t, func(t *testing.T) {
		tokens, err := bearer.Open(file, nil)
		if err != nil {
			t.Fatal(err)
		}
		write(t, file, second+"\n", 0o600)
		if err := os.Chtimes(file, old, old); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if tokens.Valid(first) || !tokens.Valid(second) {
			t.Error("the change of an hour ago does not count")
		}
	})
}

func BenchmarkValid(b *testing.B) {
	file := filepath.Join(b.TempDir(), "tokens")
	if err := os.WriteFile(file, []byte(first+"\n"+second+"\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	tokens, err := bearer.Open(file, nil)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if !tokens.Valid(second) {
			b.Fatal("not valid")
		}
	}
}
