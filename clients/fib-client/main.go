// Command fib-client prints Fibonacci numbers from a fib server that the allocator
// chooses. Run fib-client --help for its settings.
package main

import (
	"os"

	"cloudmaster/clients/fib-client/internal/app"
	"cloudmaster/internal/daemon"
)

func main() {
	os.Exit(daemon.Main(app.Name, app.Run))
}
