package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"cloudmaster/internal/awsconf"
	"cloudmaster/internal/daemon"
	"cloudmaster/services/controller/internal/app"
	"cloudmaster/services/controller/internal/config"
)

// errNoUserData says what to do about an instance that was launched without a configuration.
var errNoUserData = errors.New("this instance was launched without user data: stop it, put the configuration into " +
	"its user data (aws ec2 modify-instance-attribute), and start it again")

// userDataCommand returns the command with which the unit of a machine image gets its configuration.
func userDataCommand(ctx context.Context) *cobra.Command {
	return &cobra.Command{
		Use:   "user-data FILE",
		Short: "Write the configuration in this EC2 instance's user data to a file",
		Long: `Write the configuration in this EC2 instance's user data to a file that only its owner can read. User
data that are no valid configuration are refused, and the file stays as it is. Nothing in them is run.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return daemon.Usagef("name one file: controller user-data FILE")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			m := awsconf.NewMetadata(awsconf.MetadataOptions{DMI: os.DirFS("/sys/class/dmi/id")})
			if !m.OnEC2() {
				return errors.New("this machine is no EC2 instance, so it has no user data: write the file by hand")
			}
			text, err := m.UserData(ctx)
			if err != nil {
				return fmt.Errorf("read the user data: %w", err)
			}
			return writeUserData(args[0], text)
		},
	}
}

// writeUserData writes a configuration to a file, which is replaced as a whole or not at all.
func writeUserData(file string, text []byte) error {
	if len(text) == 0 {
		return errNoUserData
	}
	if _, err := config.Parse("user data", text, app.Kinds()); err != nil {
		return fmt.Errorf("%w:\n%w", errInvalid, err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(file), ".user-data-*") // its mode is 0600
	if err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	_, err = tmp.Write(text)
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), file)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write the configuration: %w", err), os.Remove(tmp.Name()))
	}
	return nil
}
