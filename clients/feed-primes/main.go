// Command feed-primes puts jobs for primes-worker on its work queue. Run feed-primes
// --help for its usage.
package main

import (
	"io"
	"os"

	"golang.org/x/term"

	"cloudmaster/clients/feed-primes/internal/app"
	"cloudmaster/internal/backend"
	"cloudmaster/internal/backend/awsqueues"
	"cloudmaster/internal/backend/natsbackend"
	"cloudmaster/internal/daemon"
)

func main() {
	program := app.Program{
		Openers:  backend.Openers{"nats": natsbackend.Open, "aws": awsqueues.Open},
		Stdin:    os.Stdin,
		Terminal: terminal,
	}
	os.Exit(daemon.Main(app.Name, program.Run))
}

func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
