package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"time"
)

// The oldest Packer with which the templates work is 1.10.
const leastMajor, leastMinor = 1, 10

const howToGet = "install 1.10 or newer (https://developer.hashicorp.com/packer/install), " +
	"or build one with make packer-tool"

// stopGrace is how long Packer may take, after an interrupt, to remove what it has made in the account.
const stopGrace = 5 * time.Minute

// packer is a Packer program that is new enough.
type packer struct {
	path    string
	plugins string // where its plugins are; "" means Packer's own place, into which it fetches them itself
}

// findPacker returns the Packer on PATH or, if there is none that is new enough, the one in the
// directory tools.
func findPacker(ctx context.Context, tools string) (packer, error) {
	problem := "Packer is not installed"
	if path, err := exec.LookPath("packer"); err == nil {
		version, err := versionOf(ctx, path)
		if err == nil && version.enough() {
			return packer{path: path}, nil
		}
		problem = fmt.Sprintf("%s is Packer %d.%d, too old", path, version.major, version.minor)
		if err != nil {
			problem = fmt.Sprintf("%s does not say its version (%v)", path, err)
		}
	}
	path, err := filepath.Abs(filepath.Join(tools, "packer"))
	if err != nil {
		return packer{}, err
	}
	if version, err := versionOf(ctx, path); err == nil && version.enough() {
		return packer{path: path, plugins: filepath.Join(filepath.Dir(path), "packer-plugins")}, nil
	}
	return packer{}, fmt.Errorf("%s: %s", problem, howToGet)
}

type version struct{ major, minor int }

func (v version) enough() bool {
	return v.major > leastMajor || v.major == leastMajor && v.minor >= leastMinor
}

var versionText = regexp.MustCompile(`(?i)packer v?(\d+)\.(\d+)\.`)

func versionOf(ctx context.Context, path string) (version, error) {
	out, err := environment(exec.CommandContext(ctx, path, "version"), "").Output()
	if err != nil {
		return version{}, err
	}
	m := versionText.FindSubmatch(out)
	if m == nil {
		return version{}, errors.New("no version in its answer")
	}
	major, errMajor := strconv.Atoi(string(m[1]))
	minor, errMinor := strconv.Atoi(string(m[2]))
	return version{major, minor}, errors.Join(errMajor, errMinor)
}

// init fetches the plugins that the templates need, unless they are there.
func (p packer) init(ctx context.Context, recipe string, stdout, stderr io.Writer) error {
	if p.plugins != "" {
		return nil
	}
	if err := p.run(ctx, stdout, stderr, "init", recipe); err != nil {
		return fmt.Errorf("fetch Packer's plugins: %w; if this machine cannot reach them, run make packer-tool", err)
	}
	return nil
}

// run runs Packer. After an interrupt Packer gets the time to remove what it has launched.
func (p packer) run(ctx context.Context, stdout, stderr io.Writer, args ...string) error {
	cmd := environment(exec.CommandContext(ctx, p.path, args...), p.plugins)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	// A group of its own, so that a Ctrl-C reaches Packer only once, by Cancel.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = stopGrace
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		//nolint:errorlint // with the wrapped cause the exit code would be 0
		return fmt.Errorf("packer %s was interrupted: %v", args[0], context.Cause(ctx))
	case err != nil:
		return fmt.Errorf("packer %s: %w", args[0], err)
	}
	return nil
}

// environment keeps Packer from asking its maker for newer versions.
func environment(cmd *exec.Cmd, plugins string) *exec.Cmd {
	cmd.Env = append(os.Environ(), "CHECKPOINT_DISABLE=1")
	if plugins != "" {
		cmd.Env = append(cmd.Env, "PACKER_PLUGIN_PATH="+plugins)
	}
	return cmd
}
