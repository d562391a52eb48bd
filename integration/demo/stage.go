package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"cloudmaster/integration/program"
	"cloudmaster/integration/sample"
	"cloudmaster/internal/cloud/processcloud"
	"cloudmaster/internal/pool"
)

type options struct {
	bin, config, dir string
	seed             uint64 // of the moments at which the controller is killed; 0 takes a new one
}

// deployment is the name in deploy/local/demo.yaml. Names of queues and directories contain it.
const deployment = "demo"

// stage is where a play takes place: the programs with their addresses and files.
type stage struct {
	options
	out       io.Writer
	broker    string // host:port
	ops       string // the controller's address for operators
	allocator string // host:port, for clients
	// allocatorOps is the one for the allocator's health and its view of pools.
	allocatorOps string

	stderr     *os.File
	lock       *os.File // locked while we play
	env        []string // more variables for the controller, beside those that the stage sets itself
	controller *program.Process
	others     []*program.Process
}

// newStage prepares the directory and chooses addresses. With fixed, it takes the addresses of the
// configuration and the documentation. Otherwise it takes any that are free, so that a play never
// meets another program. With empty, it removes what an earlier play has left.
func newStage(ctx context.Context, opts options, out io.Writer, fixed, empty bool) (*stage, error) {
	s := &stage{
		options: opts, out: out, broker: "127.0.0.1:4222", ops: "127.0.0.1:20810", allocator: "127.0.0.1:20809",
		allocatorOps: "127.0.0.1:20811",
	}
	if !fixed {
		for _, address := range []*string{&s.broker, &s.ops, &s.allocator, &s.allocatorOps} {
			free, err := freeAddress()
			if err != nil {
				return nil, err
			}
			*address = free
		}
	}
	if err := s.occupy(ctx, empty); err != nil {
		return nil, err
	}
	stderr, err := os.OpenFile(s.stderrLog(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("prepare log: %w", err)
	}
	s.stderr = stderr
	return s, nil
}

// occupy locks the directory until the process ends, because two plays in one directory would
// remove each other's files.
func (s *stage) occupy(ctx context.Context, empty bool) error {
	if err := os.MkdirAll(filepath.Dir(s.dir), 0o755); err != nil {
		return fmt.Errorf("prepare directory: %w", err)
	}
	lock, err := os.OpenFile(s.dir+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return fmt.Errorf("prepare directory: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return errors.Join(fmt.Errorf("another demo plays in %s: stop it, or name another --dir", s.dir), lock.Close())
	}
	s.lock = lock
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return fmt.Errorf("prepare directory: %w", err)
	}
	if !empty {
		return nil
	}
	// First it ends the instances that a killed play left running. Then it removes only what plays
	// write, because the directory may be any.
	if err := s.endInstances(ctx); err != nil {
		return fmt.Errorf("end the instances of an earlier play: %w", err)
	}
	for _, name := range []string{s.instances(), s.store(), s.stderrLog()} {
		if err := os.RemoveAll(name); err != nil {
			return fmt.Errorf("remove what an earlier play left: %w", err)
		}
	}
	return nil
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // the listener is closed at once
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String(), nil
}

func (s *stage) program(name string) string { return filepath.Join(s.bin, name) }
func (s *stage) backend() string            { return "nats://" + s.broker }
func (s *stage) instances() string          { return filepath.Join(s.dir, "instances") }
func (s *stage) store() string              { return filepath.Join(s.dir, "jetstream") }
func (s *stage) stderrLog() string          { return filepath.Join(s.dir, "stderr.log") }

// startController starts the controller, for the first time or again.
func (s *stage) startController(ctx context.Context) error {
	p, err := program.Start(ctx, s.out, s.stderr, append([]string{
		"CLOUDMASTER_BROKER_LISTEN=" + s.broker,
		"CLOUDMASTER_BROKER_STORE_DIR=" + s.store(),
		"CLOUDMASTER_OPS_LISTEN=" + s.ops,
		"CLOUDMASTER_CLOUDS_LOCAL_BIN_DIR=" + s.bin,
		"CLOUDMASTER_CLOUDS_LOCAL_STATE_DIR=" + s.instances(),
	}, s.env...), s.program("controller"), "run", "-c", s.config)
	if err != nil {
		return err
	}
	s.controller = p
	return s.ready(ctx, "controller", p, func() bool {
		_, err := program.Get(ctx, "http://"+s.ops+"/readyz")
		// It must have printed a line itself, because another controller may answer at this address.
		return err == nil && p.Mark() > 0
	})
}

func (s *stage) startAllocator(ctx context.Context) error {
	p, err := s.run(ctx, "allocator", "--listen", s.allocator, "--ops-listen", s.allocatorOps, "--backend", s.backend(),
		"--deployment", deployment, "--pool", "fib",
		"--refresh-interval", "500ms", "--request-interval", "5s")
	if err != nil {
		return err
	}
	return s.ready(ctx, "allocator", p, func() bool {
		_, err := program.Get(ctx, "http://"+s.allocatorOps+"/readyz")
		return err == nil
	})
}

// run starts a program, which the stage stops at the end.
func (s *stage) run(ctx context.Context, name string, args ...string) (*program.Process, error) {
	p, err := program.Start(ctx, nil, s.stderr, nil, s.program(name), args...)
	if err != nil {
		return nil, err
	}
	s.others = append(s.others, p)
	return p, nil
}

const readyTimeout = 30 * time.Second

// ready waits until is reports that a program is ready. It returns an error if the program has ended.
func (s *stage) ready(ctx context.Context, name string, p *program.Process, is func() bool) error {
	seen := program.Until(ctx, readyTimeout, func() (string, bool) { return "", p.Ended() || is() })
	if p.Ended() {
		return fmt.Errorf("%s ended at once (exit %d): %s", name, p.ExitCode(), s.lastWords())
	}
	if seen.Err != nil {
		return fmt.Errorf("%s is not ready: %w; see %s", name, seen.Err, s.stderr.Name())
	}
	return nil
}

// lastWords returns the last line that a program wrote to its standard error.
func (s *stage) lastWords() string {
	all, err := os.ReadFile(s.stderr.Name())
	if err != nil {
		return "see " + s.stderr.Name()
	}
	lines := strings.Split(strings.TrimSpace(string(all)), "\n")
	return lines[len(lines)-1]
}

// metric reads one value from the controller's metrics; false if it is not there.
func (s *stage) metric(ctx context.Context, series string) (float64, bool) {
	return program.Metric(ctx, "http://"+s.ops, series)
}

// activeSet returns the load of each instance in the fib pool's active set, by instance id.
func (s *stage) activeSet(ctx context.Context) map[string]float64 {
	return sample.ActiveSet(ctx, "http://"+s.allocatorOps, "fib")
}

// pid returns the process id of an instance.
func (s *stage) pid(id string) (int, error) {
	raw, err := os.ReadFile(filepath.Join(s.instances(), deployment, id, "instance.json"))
	if err != nil {
		return 0, fmt.Errorf("find the process of %s: %w", id, err)
	}
	var record struct {
		PID int `json:"pid"`
	}
	if err := json.Unmarshal(raw, &record); err != nil || record.PID <= 0 {
		return 0, fmt.Errorf("find the process of %s: no pid in its record (%w)", id, err)
	}
	return record.PID, nil
}

// close ends everything that the play has started: first clients, allocator and controller, then
// the instances, which outlive the controller.
func (s *stage) close(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	var errs []error
	for _, p := range s.others {
		if !p.Ended() {
			errs = append(errs, p.Stop())
		}
	}
	if s.controller != nil && !s.controller.Ended() {
		errs = append(errs, s.controller.Stop())
	}
	errs = append(errs, s.endInstances(ctx), s.stderr.Close(), s.lock.Close())
	return errors.Join(errs...)
}

func (s *stage) endInstances(ctx context.Context) error {
	c, err := processcloud.Open(ctx, deployment, processcloud.Options{
		StateDir: s.instances(), BinDir: s.bin, Grace: 5 * time.Second,
	})
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	seen := program.Until(ctx, program.StopTimeout, func() (string, bool) {
		list, err := c.List(ctx)
		var ids []pool.InstanceID
		for _, in := range list {
			ids = append(ids, in.ID)
		}
		if err == nil && len(ids) > 0 {
			err = c.Terminate(ctx, ids...)
		}
		return fmt.Sprintf("%d instances run", len(ids)), err == nil && len(ids) == 0
	})
	return seen.Err
}
