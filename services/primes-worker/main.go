// Command primes-worker is the sample's batch service: it takes jobs "ID|N" from a work
// queue and reports the N-th prime. Run primes-worker --help for its settings.
package main

import (
	"os"

	"cloudmaster/internal/awsconf"
	"cloudmaster/internal/backend"
	"cloudmaster/internal/backend/awsqueues"
	"cloudmaster/internal/backend/natsbackend"
	"cloudmaster/internal/daemon"
	"cloudmaster/services/primes-worker/internal/app"
)

func main() {
	program := app.Program{
		Openers:  backend.Openers{"nats": natsbackend.Open, "aws": awsqueues.Open},
		Metadata: awsconf.NewMetadata(awsconf.MetadataOptions{}),
	}
	os.Exit(daemon.Main(app.Name, program.Run))
}
