package metal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"cloudmaster/integration/imds"
)

var errNoProcess = errors.New("no process runs")

// machine is one instance, from when it is seen to be running to the end of its process.
type machine struct {
	inst  instance
	metal *Metal
	log   *slog.Logger
	over  chan struct{} // closed when the instance is stopped or terminated
	once  sync.Once     // makes sure that over is closed only once
	ended chan struct{} // closed when the process has ended after that, or will never be started

	mu       sync.Mutex
	cmd      *exec.Cmd     // nil before the boot and after the end; guarded by mu
	metadata *imds.Service // nil if cmd is; guarded by mu
	err      error         // why it could not run or end; guarded by mu
}

func newMachine(inst instance, m *Metal) *machine {
	return &machine{
		inst: inst, metal: m, log: m.log.With("instance", inst.id),
		over: make(chan struct{}), ended: make(chan struct{}),
	}
}

// outlived reports whether the instance was stopped and started since this machine was made, and nothing is left of
// the machine's process. A process that ended by itself while its instance ran on is not started again.
func (m *machine) outlived(now instance) bool {
	select {
	case <-m.over:
	default:
		if now.launched == m.inst.launched {
			return false
		}
		m.terminate() // the stop fell between two looks
	}
	select {
	case <-m.ended:
		return true
	default:
		return false // it still ends
	}
}

// terminate makes the process end, without waiting for it.
func (m *machine) terminate() {
	m.once.Do(func() { close(m.over) })
}

// live boots the instance, and returns when its process has ended.
func (m *machine) live(ctx context.Context, boot time.Duration) {
	defer close(m.ended)
	wait := time.NewTimer(boot)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-m.over:
		return
	case <-ctx.Done():
		return
	}
	if err := m.run(ctx); err != nil && ctx.Err() == nil {
		m.log.ErrorContext(ctx, "instance has no process", "error", err)
		m.mu.Lock()
		defer m.mu.Unlock()
		m.err = fmt.Errorf("instance %s: %w", m.inst.id, err)
	}
}

// run starts the process, and returns when it has ended.
func (m *machine) run(ctx context.Context) (err error) {
	binary, ok := m.metal.binary(m.inst.image)
	switch {
	case !ok:
		return fmt.Errorf("no binary belongs to image %s", m.inst.image)
	case binary == "":
		m.log.InfoContext(ctx, "instance runs nothing", "image", m.inst.image)
		return nil
	}
	m.inst.userData, err = m.metal.ec2.userData(ctx, m.inst.id)
	if err != nil {
		return err
	}
	service, err := imds.Listen(ctx, "127.0.0.1:0", m.told())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, service.Close()) }()
	log, err := os.OpenFile(filepath.Join(m.metal.dir, m.inst.id+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()

	cmd := exec.Command(binary) //nolint:noctx // attend ends it: it asks first and kills later
	cmd.Env = m.environment(service.URL())
	cmd.Stdout, cmd.Stderr = log, log
	// A group of its own, so that Ctrl-C does not reach it. If we are killed, the kernel ends it as well.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	m.log.InfoContext(ctx, "instance runs", "binary", binary, "pid", cmd.Process.Pid)
	m.set(cmd, service)
	defer m.set(nil, nil)
	return m.attend(ctx, cmd)
}

// told returns what the instance's metadata says. All instances run on this machine.
func (m *machine) told() imds.Instance {
	opts := &m.metal.opts
	keys := imds.Credentials{AccessKeyID: opts.Account, SecretAccessKey: opts.Account, Token: opts.Account}
	if opts.Credentials != nil {
		keys = opts.Credentials(m.inst.id)
	}
	return imds.Instance{
		ID: m.inst.id, Image: m.inst.image, Region: opts.Region, PublicHost: "127.0.0.1",
		LocalHost: "localhost", LocalIPv4: "127.0.0.1",
		UserData: m.inst.userData, Role: opts.Role,
		Credentials: keys,
	}
}

// attend waits for the end of the process, and ends it when the instance is terminated or ctx ends.
func (m *machine) attend(ctx context.Context, cmd *exec.Cmd) error {
	ended := make(chan struct{})
	var how error // written before ended is closed
	go func() {
		defer close(ended)
		how = cmd.Wait()
	}()
	select {
	case <-ended:
		m.log.InfoContext(ctx, "process ended", "error", how)
		return sweep(cmd)
	case <-m.over:
	case <-ctx.Done():
	}
	termErr := send(cmd, syscall.SIGTERM)
	grace := time.NewTimer(m.metal.opts.Grace)
	defer grace.Stop()
	select {
	case <-ended:
		return errors.Join(termErr, sweep(cmd))
	case <-grace.C:
	}
	killErr := send(cmd, syscall.SIGKILL)
	<-ended
	return errors.Join(termErr, killErr, sweep(cmd))
}

// sweep ends the processes that are left in the process's group.
func sweep(cmd *exec.Cmd) error {
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return nil
}

func send(cmd *exec.Cmd, sig os.Signal) error {
	if err := cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// environment returns the caller's environment, without the variables that would give the process
// more than an EC2 instance has: credentials, profiles, a region, and settings of our programs.
func (m *machine) environment(metadata string) []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "AWS_") || strings.HasPrefix(v, "CLOUDMASTER_") ||
			strings.HasPrefix(v, "LOCALSTACK_")
	})
	env = append(env,
		"AWS_EC2_METADATA_SERVICE_ENDPOINT="+metadata,
		"AWS_ENDPOINT_URL="+m.metal.opts.Wire,
		"AWS_CONFIG_FILE="+os.DevNull, "AWS_SHARED_CREDENTIALS_FILE="+os.DevNull,
	)
	return append(env, m.metal.opts.Env...)
}

func (m *machine) set(cmd *exec.Cmd, service *imds.Service) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cmd, m.metadata = cmd, service
}

func (m *machine) running() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.cmd != nil
}

func (m *machine) failure() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}

func (m *machine) crash() error { return m.signal(syscall.SIGKILL) }

func (m *machine) hang() error { return m.signal(syscall.SIGSTOP) }

func (m *machine) resume() error { return m.signal(syscall.SIGCONT) }

func (m *machine) signal(sig os.Signal) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cmd == nil {
		return errNoProcess
	}
	return send(m.cmd, sig)
}

func (m *machine) reclaim(at time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.metadata == nil {
		return errNoProcess
	}
	m.metadata.ReclaimAt(at)
	return nil
}
