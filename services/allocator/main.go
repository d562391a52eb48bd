// Command allocator tells clients over HTTP which server of a pool to use.
//
// Usage:
//
//	allocator --pool fib [--backend nats://HOST:4222] [--listen HOST:PORT]
//
// See the package web for what it answers and the package allocate for how it chooses.
package main

import (
	"context"
	"io"
	"os"

	"cloudmaster/internal/backend"
	"cloudmaster/internal/backend/awsbackend"
	"cloudmaster/internal/backend/natsbackend"
	"cloudmaster/internal/daemon"
	"cloudmaster/services/allocator/internal/app"
)

func main() { os.Exit(daemon.Main(app.Name, run)) }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	return app.Run(ctx, args, stdout, stderr, backend.Openers{"nats": natsbackend.Open, "aws": awsbackend.Open})
}
