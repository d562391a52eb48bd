package processcloud

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"cloudmaster/internal/backoff"
	"cloudmaster/internal/cloud"
)

// orphanSearch bounds the wait for a process that has the log locked but cannot be identified yet,
// because it is between fork and exec.
const orphanSearch = 2 * time.Second

// checkUserData refuses documents that do not fit into an environment variable of a process.
func checkUserData(doc []byte) error {
	if len(doc) > cloud.MaxUserData {
		return fmt.Errorf("%w: %d bytes, the most is %d", cloud.ErrInvalid, len(doc), cloud.MaxUserData)
	}
	for _, b := range doc {
		if b == 0 {
			return fmt.Errorf("%w: it contains a NUL byte", cloud.ErrInvalid)
		}
	}
	return nil
}

// start turns an intent into a process, or finds the process that a dead launcher started for it.
// When it returns nil, rec is complete.
func (c *Cloud) start(ctx context.Context, rec *record, bin string, doc papers) error {
	free, err := lockDir(ctx, c.dir(rec.ID))
	if err != nil {
		return err
	}
	defer free()
	if now, err := c.read(rec.ID); err == nil && now.PID != 0 {
		*rec = now // since our look, somebody who listed has found the process
		return nil
	}
	output, err := c.claimLog(ctx, rec)
	if err != nil || output == nil {
		return err
	}
	defer func() { _ = output.Close() }() // without unlock: the child keeps it
	if err := c.write(rec); err != nil {  // the intent may be an older one, or damaged
		return err
	}
	if err := c.hand(rec, doc); err != nil {
		return err
	}
	c.opts.step("intended")
	pid, err := c.fork(rec, bin, doc.userData, output)
	if err != nil {
		return errors.Join(classify(err), os.RemoveAll(c.dir(rec.ID))) // then the instance never existed
	}
	c.opts.step("forked")
	if rec.identity, err = c.procs.identify(pid); err != nil {
		return err
	}
	if err := c.write(rec); err != nil {
		return err
	}
	c.opts.step("recorded")
	return nil
}

// hand writes the papers of an instance into its directory.
func (c *Cloud) hand(rec *record, doc papers) error {
	if err := os.WriteFile(filepath.Join(c.dir(rec.ID), userDataFile), doc.userData, filePerm); err != nil {
		return err
	}
	if doc.login == nil {
		return nil
	}
	return os.WriteFile(filepath.Join(c.dir(rec.ID), loginFile), doc.login, loginPerm)
}

// claimLog locks the instance's log and returns it. If a process that a dead launcher started has
// it locked, claimLog instead records that process as the instance's and returns no log.
func (c *Cloud) claimLog(ctx context.Context, rec *record) (*os.File, error) {
	path := filepath.Join(c.dir(rec.ID), logFile)
	for deadline := time.Now().Add(orphanSearch); ; {
		output, err := tryLock(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE)
		if !errors.Is(err, errHeld) {
			return output, err
		}
		if err := c.claimLocked(ctx, rec); !errors.Is(err, errNoProcess) {
			return nil, err
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("a process that cannot be identified has %s locked; end that process", path)
		}
		if !backoff.Wait(ctx, 10*time.Millisecond) {
			return nil, context.Cause(ctx)
		}
	}
}

// fork starts the process. A watcher waits for its end by pidfd; exec.Cmd does not wait.
func (c *Cloud) fork(rec *record, bin string, doc []byte, output *os.File) (pid int, err error) {
	cmd := exec.Command(bin) //nolint:noctx // it must outlive every context of ours
	cmd.Dir = c.dir(rec.ID)
	cmd.Env = environ(rec.ID, cmd.Dir, doc, c.opts.Inherit, c.opts.Env)
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	pid = cmd.Process.Pid
	return pid, cmd.Process.Release()
}
