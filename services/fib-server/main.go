// Command fib-server is the sample's connection service: TCP clients get the next
// Fibonacci number for each line they send. Run fib-server --help for its settings.
package main

import (
	"os"

	"cloudmaster/internal/awsconf"
	"cloudmaster/internal/backend"
	"cloudmaster/internal/backend/awsqueues"
	"cloudmaster/internal/backend/natsbackend"
	"cloudmaster/internal/daemon"
	"cloudmaster/services/fib-server/internal/app"
)

func main() {
	program := app.Program{
		Openers:  backend.Openers{"nats": natsbackend.Open, "aws": awsqueues.Open},
		Metadata: awsconf.NewMetadata(awsconf.MetadataOptions{}),
	}
	os.Exit(daemon.Main(app.Name, program.Run))
}
