package daemon

import (
	"io"
	"log/slog"
	"os"

	"github.com/spf13/pflag"
	"golang.org/x/term"
)

// Logger returns the operator's log: text if stderr is a terminal, else JSON, from the level --log-level up. If that
// level is unknown, info is used and a warning logged.
func Logger(stderr io.Writer, fs *pflag.FlagSet) *slog.Logger {
	level, err := ParseLevel(fs)
	log := NewLogger(stderr, level)
	if err != nil {
		log.Warn("log level is not known, using info", "error", err)
	}
	return log
}

// ParseLevel reads --log-level.
func ParseLevel(fs *pflag.FlagSet) (slog.Level, error) {
	var level slog.Level
	text, err := fs.GetString(flagLogLevel)
	if err == nil {
		err = level.UnmarshalText([]byte(text))
	}
	return level, err
}

// NewLogger returns a logger for the operator: text if w is a terminal, else JSON.
func NewLogger(w io.Writer, level slog.Level) *slog.Logger {
	opts := &slog.HandlerOptions{Level: level}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return slog.New(slog.NewTextHandler(w, opts))
	}
	return slog.New(slog.NewJSONHandler(w, opts))
}
