package report

import (
	"context"
	"io"
	"log/slog"

	"cloudmaster/internal/backend"
	"cloudmaster/internal/kind"
)

// SinkKind describes a report to the configuration.
type SinkKind struct {
	Name     string               // its value of the key report
	Help     string               // one line
	Settings func() kind.Settings // its keys, with the defaults
	Open     func(ctx context.Context, settings kind.Settings, world World) (Sink, error)
}

// World is what reports can write to. The backend is open.
type World struct {
	Stdout  io.Writer
	Log     *slog.Logger
	Backend backend.Backend
}

// Kinds are the reports that come with CloudMaster.
func Kinds() []SinkKind {
	none := func() kind.Settings { return &kind.None{} }
	return []SinkKind{
		{
			Name: "console", Help: "lines for people on standard output", Settings: none,
			Open: func(_ context.Context, _ kind.Settings, w World) (Sink, error) { return NewConsole(w.Stdout), nil },
		},
		{
			Name: "log", Help: "one entry for each event in the controller's log", Settings: none,
			Open: func(_ context.Context, _ kind.Settings, w World) (Sink, error) { return NewLog(w.Log), nil },
		},
	}
}
