package main

import (
	"context"
	"io"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"cloudmaster/clients/feed-primes/internal/app"
	"cloudmaster/internal/backend"
	"cloudmaster/internal/backend/membackend"
	"cloudmaster/internal/backend/natsbackend"
	"cloudmaster/internal/daemon"
	"cloudmaster/internal/queue"
	"cloudmaster/internal/queue/memqueue"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		// The program with one broker more: mem:FILE writes what the queue
		// primes-work holds in the end to a file; with ?fail=xx all sends after the
		// first two fail.
		"feed-primes": func() {
			program := app.Program{
				Openers: backend.Openers{"nats": natsbackend.Open, "mem": openFile},
				Stdin:   os.Stdin,
				Terminal: func(w io.Writer) bool {
					return strings.Contains(os.Getenv("TERMINAL"), w.(*os.File).Name())
				},
			}
			os.Exit(daemon.Main(app.Name, program.Run))
		},
	})
}

func TestScript(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		UpdateScripts:       os.Getenv("UPDATE") != "",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

// fileBackend is a backend in memory that is written to a file when it is closed.
type fileBackend struct {
	backend.Backend
	file  string
	queue *memqueue.Queue
}

func openFile(ctx context.Context, address *url.URL, _ backend.Options) (backend.Backend, error) {
	b := membackend.New()
	q, err := b.Ensure(ctx, "primes-work", queue.Limits{})
	if err != nil {
		return nil, err
	}
	mem := q.(*memqueue.Queue)
	if address.Query().Has("fail") {
		mem.FailAfter(memqueue.OpSend, len(address.Query().Get("fail")), io.ErrUnexpectedEOF)
	}
	return &fileBackend{Backend: b, file: address.Opaque, queue: mem}, nil
}

func (f *fileBackend) Close() error {
	return os.WriteFile(f.file, []byte(strings.Join(append(f.queue.Bodies(), ""), "\n")), 0o600)
}
