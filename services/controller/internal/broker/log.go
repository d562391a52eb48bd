package broker

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/nats-io/nats-server/v2/server"
)

var _ server.Logger = (*serverLog)(nil)

// serverLog writes the server's log to the controller's: what needs attention as warnings, the rest for
// debugging.
type serverLog struct {
	log   *slog.Logger
	fatal chan string // gets the first reason why the server gave up; its capacity is 1
	sick  chan string // gets the first reason why the store cannot be written; its capacity is 1
}

func (l *serverLog) write(level slog.Level, format string, args []any) {
	l.log.Log(context.Background(), level, "broker", "text", fmt.Sprintf(format, args...))
}

// Noticef implements server.Logger.
func (l *serverLog) Noticef(format string, args ...any) { l.write(slog.LevelDebug, format, args) }

// Warnf implements server.Logger.
func (l *serverLog) Warnf(format string, args ...any) {
	l.write(slog.LevelWarn, format, args)
	l.diagnose(fmt.Sprintf(format, args...))
}

// storeFailures are parts of what the server logs when a stream cannot be written. It tells of it in no other
// way.
var storeFailures = []string{
	"no space left on device", "critical write error", "disk quota exceeded", "read-only file system",
	"input/output error",
}

// ofLogins are parts of what the server logs of clients that do not log in. It does not know their addresses and logs
// each of them; the gate logs them with their addresses, and not more than an operator reads.
var ofLogins = []string{"authentication error", "authentication timeout"}

// Errorf implements server.Logger.
func (l *serverLog) Errorf(format string, args ...any) {
	text := strings.ToLower(fmt.Sprintf(format, args...))
	if slices.ContainsFunc(ofLogins, func(part string) bool { return strings.Contains(text, part) }) {
		l.write(slog.LevelDebug, format, args)
		return
	}
	l.write(slog.LevelWarn, format, args)
	l.diagnose(fmt.Sprintf(format, args...))
}

func (l *serverLog) diagnose(text string) {
	if !slices.ContainsFunc(storeFailures, func(f string) bool { return strings.Contains(strings.ToLower(text), f) }) {
		return
	}
	select {
	case l.sick <- text:
	default:
	}
}

// Debugf implements server.Logger.
func (l *serverLog) Debugf(format string, args ...any) { l.write(slog.LevelDebug, format, args) }

// Tracef implements server.Logger.
func (l *serverLog) Tracef(format string, args ...any) { l.write(slog.LevelDebug, format, args) }

// Fatalf implements server.Logger. The server goes on after it but does not work, so Start returns the text
// as an error.
func (l *serverLog) Fatalf(format string, args ...any) {
	l.write(slog.LevelWarn, format, args)
	select {
	case l.fatal <- fmt.Sprintf(format, args...):
	default:
	}
}
