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

// The oldest Packer that the templates work with: 1.10.
const leastMajor, leastMinor = 1, 10

const howToGet = "install 1.10 or newer (https://developer.hashicorp.com/packer/install), or build one with make packer-tool"

// stopGrace is how long Packer may take to clean up in the account when it is interrupted.
const stopGrace = 5 * time.Minute

// packer is a Packer that is new enough.
type packer struct {
	path    string
	plugins string // where its plugins are; "" is its own place, and it fetches them itself
}

// findPacker returns the one on PATH or, if that will not do, the one in the directory.
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

// init fetches the plugins that the templates need, if they are not there.
func (p packer) init(ctx context.Context, recipe string, stdout, stderr io.Writer) error {
	if p.plugins != "" {
		return nil
	}
	if err := p.run(ctx, stdout, stderr, "init", recipe); err != nil {
		return fmt.Errorf("fetch Packer's plugins: %w; without a way to them, make packer-tool", err)
	}
	return nil
}

// run runs Packer. At an interrupt it may remove what it has launched.
func (p packer) run(ctx context.Context, stdout, stderr io.Writer, args ...string) error {
	cmd := environment(exec.CommandContext(ctx, p.path, args...), p.plugins)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C reaches it by Cancel, once
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = stopGrace
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("packer %s, before the end: %v", args[0], context.Cause(ctx)) //nolint:errorlint // the cause would make the exit code 0
	case err != nil:
		return fmt.Errorf("packer %s: %w", args[0], err)
	}
	return nil
}

// environment makes Packer ask nobody for newer versions of itself.
func environment(cmd *exec.Cmd, plugins string) *exec.Cmd {
	cmd.Env = append(os.Environ(), "CHECKPOINT_DISABLE=1")
	if plugins != "" {
		cmd.Env = append(cmd.Env, "PACKER_PLUGIN_PATH="+plugins)
	}
	return cmd
}
