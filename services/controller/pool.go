package main

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"cloudmaster/internal/daemon"
	"cloudmaster/internal/daemon/command"
	"cloudmaster/internal/pool"
	"cloudmaster/services/controller/internal/app"
)

// poolCommand has what operators do with single pools.
func poolCommand(ctx context.Context) *cobra.Command {
	cmd := &cobra.Command{
		Use: "pool", Short: "Give orders to one pool",
		Args: command.NoArgs,
		RunE: func(*cobra.Command, []string) error { return daemon.Usagef("name a command: controller pool scale") },
	}
	cmd.AddCommand(scaleCommand(ctx))
	return cmd
}

func scaleCommand(ctx context.Context) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "scale -c FILE NAME N",
		Short: "Order a number of instances",
		Long: `Order N instances for the pool NAME, whose policy must take orders. The order goes through a queue. The
controller that runs the pool carries it out, within the pool's limits, and says so in its log.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return daemon.Usagef("name a pool and a number of instances: controller pool scale -c FILE NAME N")
			}
			return nil
		},
	}
	load := configFlag(cmd)
	timeout := cmd.Flags().Duration("timeout", 10*time.Second, "how long to wait for the broker")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		n, err := strconv.Atoi(args[1])
		if err != nil {
			return daemon.Usagef("%q is not a number of instances", args[1])
		}
		cfg, err := load()
		if err != nil {
			return err
		}
		timed, cancel := context.WithTimeout(ctx, *timeout)
		defer cancel()
		log := daemon.NewLogger(cmd.ErrOrStderr(), slog.LevelInfo)
		if err := app.Scale(timed, cfg, pool.Name(args[0]), n, log); err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s: %d instances ordered\n", args[0], n)
		return nil
	}
	return cmd
}
