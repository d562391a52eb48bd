// Command demo plays the sample on one machine with the real programs: a controller with its
// embedded broker, workers, servers, an allocator and clients. It is the first thing that a
// newcomer runs, and it is the end-to-end test.
package main

import (
	"context"
	"io"
	"os"

	"github.com/spf13/cobra"

	"cloudmaster/internal/daemon"
	"cloudmaster/internal/daemon/command"
)

func main() { os.Exit(daemon.Main("demo", run)) }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	root := command.NewRoot("demo", "Play the sample suite on one machine", args, stdout, stderr)
	opts := options{}
	flags := root.PersistentFlags()
	flags.StringVar(&opts.bin, "bin", "bin", "directory of the programs")
	flags.StringVar(&opts.config, "config", "deploy/local/demo.yaml", "the controller's configuration")
	flags.StringVar(&opts.dir, "dir", "var/demo", "directory for everything that is written; play empties it first")
	flags.Uint64Var(&opts.seed, "seed", 0, "when play kills the controller at random; 0 takes new moments")
	root.AddCommand(&cobra.Command{
		Use: "play", Short: "Play all acts, check what happens, and say PASS or FAIL", Args: command.NoArgs,
		RunE: func(*cobra.Command, []string) error { return play(ctx, opts, stdout) },
	}, &cobra.Command{
		Use: "up", Short: "Start the suite and leave it running until Ctrl-C", Args: command.NoArgs,
		RunE: func(*cobra.Command, []string) error { return up(ctx, opts, stdout) },
	})
	return root.ExecuteContext(ctx)
}
