package daemon_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"cloudmaster/internal/daemon"
)

func logFlags(t *testing.T, args ...string) *pflag.FlagSet {
	t.Helper()
	fs := pflag.NewFlagSet("fib-server", pflag.ContinueOnError)
	if err := daemon.Parse(fs, args, nil); err != nil {
		t.Fatal(err)
	}
	return fs
}

func TestLoggerWritesJSONAwayFromATerminal(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	daemon.Logger(&out, logFlags(t)).Info("hello", "pool", "fib")
	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatalf("%v in %q", err, out.String())
	}
	if line["msg"] != "hello" || line["pool"] != "fib" || line["level"] != "INFO" {
		t.Errorf("got %v", line)
	}
}

// The terminal echoes what is written to its master, so it is read back from there.
func TestLoggerWritesTextToATerminal(t *testing.T) {
	t.Parallel()
	tty, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no terminal to be had: %v", err)
	}
	t.Cleanup(func() { _ = tty.Close() })
	daemon.Logger(tty, logFlags(t)).Info("hello", "pool", "fib")
	if err := tty.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Skipf("this system cannot wait for a terminal: %v", err)
	}
	line, err := bufio.NewReader(tty).ReadString('\n')
	if err != nil || !strings.Contains(line, "level=INFO msg=hello pool=fib") {
		t.Errorf("got %q, %v, want a line of text", line, err)
	}
}

func TestLogLevel(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		args []string
		want slog.Level
	}{
		"default": {nil, slog.LevelInfo},
		"debug":   {[]string{"--log-level=debug"}, slog.LevelDebug},
		"WARN":    {[]string{"--log-level=WARN"}, slog.LevelWarn},
		"error":   {[]string{"--log-level", "error"}, slog.LevelError},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			log := daemon.Logger(&out, logFlags(t, c.args...))
			for _, level := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
				if got, want := log.Enabled(t.Context(), level), level >= c.want; got != want {
					t.Errorf("%s is logged: got %t, want %t", level, got, want)
				}
			}
			if out.Len() > 0 {
				t.Errorf("got %q, want nothing", out.String())
			}
		})
	}
}

func TestUnknownLogLevelIsSaid(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := daemon.Logger(&out, logFlags(t, "--log-level=loud"))
	if !strings.Contains(out.String(), "loud") {
		t.Errorf("got %q, want the level named", out.String())
	}
	if !log.Enabled(t.Context(), slog.LevelInfo) || log.Enabled(t.Context(), slog.LevelDebug) {
		t.Error("want the level info")
	}
}
