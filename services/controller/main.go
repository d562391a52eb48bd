// Command controller keeps each pool of servers at the right size.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"cloudmaster/internal/daemon"
	"cloudmaster/internal/daemon/command"
	"cloudmaster/services/controller/internal/app"
	"cloudmaster/services/controller/internal/awssetup"
	"cloudmaster/services/controller/internal/config"
)

func main() { os.Exit(daemon.Main("controller", run)) }

// errInvalid is followed by the list of problems.
var errInvalid = errors.New("the configuration cannot be used")

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	root := command.NewRoot("controller", "Keep each pool of servers at the right size", args, stdout, stderr)
	root.AddCommand(runCommand(ctx, stderr), checkCommand(ctx), poolCommand(ctx),
		setupCommand(ctx), teardownCommand(ctx), policyCommand(ctx), userDataCommand(ctx), keysTopic())
	return root.ExecuteContext(ctx)
}

func runCommand(ctx context.Context, stderr io.Writer) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "run -c FILE",
		Short: "Run the controller until it is told to stop; instances run on",
		Long: `Run the controller until it is told to stop; instances run on. At SIGHUP it reads the configuration
again: pools are added, changed and removed. Instances that would be launched otherwise now are replaced
one by one. A file with an error is refused as a whole, and the pools run on unchanged.`,
		Args: command.NoArgs,
	}
	load := configFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := load()
		if err != nil {
			return err
		}
		var level slog.Level
		if err := level.UnmarshalText([]byte(cfg.LogLevel)); err != nil {
			return fmt.Errorf("log level: %w", err)
		}
		log := daemon.NewLogger(stderr, level)
		saveMemory()
		return app.RunConfig(ctx, cfg, load, daemon.Hangups(ctx), cmd.OutOrStdout(), log)
	}
	return cmd
}

// saveMemory lets the heap grow by 30% of what is in use before it is collected, not by as much again, unless GOGC says
// otherwise. The controller is seldom busy, and with many pools the embedded broker holds much that never changes.
func saveMemory() {
	const percent = 30
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
}

func checkCommand(ctx context.Context) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check-config -c FILE",
		Short: "Say all that is wrong with a configuration, and start nothing",
		Args:  command.NoArgs,
	}
	load := configFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := load()
		if err != nil {
			return err
		}
		if err := awssetup.Check(ctx, cfg); err != nil {
			return fmt.Errorf("%w:\n%w", errInvalid, err)
		}
		var pools []string
		for _, name := range slices.Sorted(maps.Keys(cfg.Pools)) {
			pools = append(pools, string(name))
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s: ok, pools: %s\n", cfg.File, strings.Join(pools, ", "))
		return nil
	}
	return cmd
}

// keysTopic returns the command that shows controller help keys.
func keysTopic() *cobra.Command {
	topic := &cobra.Command{Use: "keys", Short: "All keys of the configuration, with their defaults"}
	topic.SetHelpFunc(func(cmd *cobra.Command, _ []string) {
		fmt.Fprint(cmd.OutOrStdout(), config.Help(app.Kinds()))
	})
	return topic
}

// configFlag adds the flags -c and --set, and returns a function that loads the configuration that they name.
func configFlag(cmd *cobra.Command) func() (*config.Config, error) {
	file := cmd.Flags().StringP("config", "c", "", "configuration `FILE` (YAML)")
	set := cmd.Flags().StringArray("set", nil,
		"`KEY=VALUE` that overrides file and environment, such as pools.primes.start_limit=3; "+
			"may be given several times")
	return func() (*config.Config, error) {
		if *file == "" {
			return nil, daemon.Usagef("name the configuration: %s -c FILE", cmd.CommandPath())
		}
		cfg, err := config.Load(*file, app.Kinds(), *set...)
		if err != nil {
			return nil, fmt.Errorf("%w:\n%w", errInvalid, err)
		}
		return cfg, nil
	}
}
