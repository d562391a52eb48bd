// Package command is what programs with sub-commands share: a root command that reports wrong usage in the way that
// daemon.Main expects. It is not part of package daemon so that programs without sub-commands do not link cobra.
package command

import (
	"errors"
	"io"

	"github.com/spf13/cobra"

	"cloudmaster/internal/daemon"
)

// NewRoot returns the root command of a program. It does nothing itself: to call it without a sub-command, or with one
// that does not exist, is a usage error.
func NewRoot(name, short string, args []string, stdout, stderr io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use: name, Short: short, Version: daemon.Version(),
		SilenceUsage: true, SilenceErrors: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return daemon.Usagef("unknown command %q", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return errors.Join(cmd.Help(), daemon.Usagef("name a command"))
		},
	}
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return daemon.Usagef("%v", err) })
	return root
}

// NoArgs refuses arguments behind a sub-command.
func NoArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return daemon.Usagef("%s takes no arguments, and %q is one", cmd.CommandPath(), args[0])
	}
	return nil
}
