package command_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"cloudmaster/internal/daemon/command"
)

func TestRoot(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		args     []string
		err, out string
	}{
		"nothing":         {nil, "name a command", "Usage:"},
		"unknown command": {[]string{"fly"}, `unknown command "fly"`, ""},
		"unknown flag":    {[]string{"go", "--fast"}, "unknown flag: --fast", ""},
		"argument":        {[]string{"go", "home"}, `prog go takes no arguments, and "home" is one`, ""},
		"good":            {[]string{"go"}, "", "gone"},
		"version":         {[]string{"--version"}, "", "prog version "},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			root := command.NewRoot("prog", "test", c.args, &out, &out)
			root.AddCommand(&cobra.Command{
				Use: "go", Args: command.NoArgs, Run: func(cmd *cobra.Command, _ []string) { cmd.Print("gone") },
			})
			err := root.ExecuteContext(t.Context())
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != c.err || !strings.Contains(out.String(), c.out) {
				t.Errorf("%q: got error %q and %q, want %q and %q", c.args, got, out.String(), c.err, c.out)
			}
		})
	}
}
