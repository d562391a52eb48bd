package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"cloudmaster/internal/daemon"
	"cloudmaster/internal/daemon/command"
	"cloudmaster/services/controller/internal/awssetup"
	"cloudmaster/services/controller/internal/config"
)

// errNobody says why nothing was removed: there is nobody to ask.
var errNobody = errors.New("nothing was removed: there is no terminal to ask on; " +
	"run it with --yes if all that it lists with --dry-run may go")

func setupCommand(ctx context.Context) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "setup -c FILE",
		Short: "Make on AWS what a configuration needs and what is missing",
		Long: `Make on AWS what a configuration needs and what is missing: queues, the bucket, and for
pools on EC2 security groups, roles and instance profiles. It prints what it is going to do,
and does it. What is there already and was not made by setup is used, and never changed.`,
		Args: command.NoArgs,
	}
	load := configFlag(cmd)
	dry := cmd.Flags().Bool("dry-run", false, "say what would be done, and do nothing")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := load()
		if err != nil {
			return err
		}
		if !awssetup.Needed(cfg) {
			return notOnAWS(cmd.OutOrStdout(), cfg, "set up")
		}
		return awssetup.Setup(ctx, cfg, awssetup.Options{Out: cmd.OutOrStdout(), DryRun: *dry})
	}
	return cmd
}

func teardownCommand(ctx context.Context) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "teardown -c FILE",
		Short: "Remove from AWS what setup made, with all messages and objects",
		Long: `Remove from AWS what setup made, with all messages and objects in it, after asking. What setup did not
make stays. It refuses while a controller runs the deployment or instances of it are there.`,
		Args: command.NoArgs,
	}
	load := configFlag(cmd)
	dry := cmd.Flags().Bool("dry-run", false, "say what would be removed, and remove nothing")
	yes := cmd.Flags().Bool("yes", false, "do not ask")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := load()
		if err != nil {
			return err
		}
		opts := awssetup.Options{Out: cmd.OutOrStdout(), DryRun: *dry}
		switch {
		case !awssetup.Needed(cfg):
			return notOnAWS(cmd.OutOrStdout(), cfg, "remove")
		case *dry, *yes:
		case !terminal(cmd.InOrStdin()):
			return errNobody
		default:
			opts.Confirm = awssetup.Ask(cmd.InOrStdin(), cmd.OutOrStdout())
		}
		return awssetup.Teardown(ctx, cfg, opts)
	}
	return cmd
}

func policyCommand(ctx context.Context) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy -c FILE NAME",
		Short: "Print the IAM policy of a program or a pool",
		Long: `Print the IAM policy with the rights that a program needs, for the deployment of a configuration. NAME is
controller, setup, allocator (reads active sets and requests servers), feeder (sends jobs to all pools), feed-POOL
(sends jobs to this pool alone), or a pool, whose instances get theirs from setup. If naming each thing needs more
characters than IAM takes, patterns stand for the names of many pools. If it is still too large, a warning says so.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return daemon.Usagef("name one policy: controller policy -c FILE NAME")
			}
			return nil
		},
	}
	load := configFlag(cmd)
	account := cmd.Flags().String("account", "", "`number` of the AWS account; default: that of the credentials")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		cfg, err := load()
		if err != nil {
			return err
		}
		if !awssetup.Needed(cfg) {
			return daemon.Usagef("%s has neither a backend aws://REGION nor a cloud of type ec2: nobody needs an IAM "+
				"policy",
				cfg.File)
		}
		return awssetup.PrintPolicy(ctx, cfg, awssetup.PolicyOptions{
			Name: args[0], Account: *account, Out: cmd.OutOrStdout(), Warn: cmd.ErrOrStderr(),
		})
	}
	return cmd
}

func notOnAWS(out io.Writer, cfg *config.Config, do string) error {
	_, err := fmt.Fprintf(out,
		"There is nothing to %s: %s has neither a backend aws://REGION nor a cloud of type ec2.\n",
		do, cfg.File)
	return err
}

func terminal(in io.Reader) bool {
	f, ok := in.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
