// Package metal gives the EC2 instances of a LocalStack what they lack there: a process that runs.
// For each running instance with a deployment's tag it starts the binary that belongs to the
// instance's image. The process gets a metadata service of its own and none of the caller's
// credentials, and it ends when the instance is stopped, terminated or gone; an instance that is
// started again gets a new one. Slow boots, crashes, hangs and spot reclaims happen on command.
package metal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"cloudmaster/integration/imds"
)

// Options are the settings of Start; zero values work.
type Options struct {
	Wire    string // the address at which instances reach AWS; default: the endpoint
	Region  string // default eu-west-1
	Account string // the account whose instances are run, a number of 12 digits; default: LocalStack's own
	Role    string // the role whose credentials the metadata service gives; default: cloudmaster
	// Credentials returns what the metadata service of an instance gives; nil: the account's number, which LocalStack
	// takes for the access key of that account.
	Credentials func(instance string) imds.Credentials
	Interval    time.Duration // between two looks at the instances; default 200 ms
	Grace       time.Duration // between SIGTERM and SIGKILL; default 10 s
	Env         []string      // more variables for every process
	Log         *slog.Logger  // nil logs nothing
}

// Metal runs the processes. Its methods may be called concurrently.
type Metal struct {
	dir    string
	opts   Options
	ec2    ec2
	log    *slog.Logger
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu       sync.Mutex
	images   map[string]string   // binaries by the ids of images; guarded by mu
	boot     time.Duration       // boot time of instances that are seen from now on; guarded by mu
	machines map[string]*machine // every instance that was ever seen running, by id; guarded by mu
}

// Start watches the instances of the endpoint until Close is called or ctx ends. images maps image
// ids to binaries. The output of an instance is written to dir/<id>.log.
func Start(ctx context.Context, endpoint, dir string, images map[string]string, opts Options) (*Metal, error) {
	opts.Wire = cmp.Or(opts.Wire, endpoint)
	opts.Region = cmp.Or(opts.Region, "eu-west-1")
	opts.Account = cmp.Or(opts.Account, defaultAccount)
	opts.Role = cmp.Or(opts.Role, "cloudmaster")
	opts.Interval = cmp.Or(opts.Interval, 200*time.Millisecond)
	opts.Grace = cmp.Or(opts.Grace, 10*time.Second)
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("start metal: %w", err)
	}
	m := &Metal{
		images: maps.Clone(images), dir: dir, opts: opts, log: opts.Log, machines: make(map[string]*machine),
		ec2: ec2{
			endpoint: endpoint, region: opts.Region, account: opts.Account,
			client: &http.Client{Transport: &http.Transport{}},
		},
	}
	ctx, m.cancel = context.WithCancel(ctx)
	m.wg.Go(func() { m.watch(ctx) })
	return m, nil
}

// Close ends every process and waits until it has ended.
func (m *Metal) Close() error {
	m.cancel()
	m.wg.Wait()
	m.ec2.client.CloseIdleConnections()
	var errs []error
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(m.machines)) {
		errs = append(errs, m.machines[id].failure())
	}
	return errors.Join(errs...)
}

// Running returns the ids of the instances whose process runs, in order. A process that hangs
// counts as running.
func (m *Metal) Running() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	for id, machine := range m.machines {
		if machine.running() {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}

// Image makes an image known from now on: its instances run the binary. An empty one stands for an image whose
// instances boot and run nothing of ours.
func (m *Metal) Image(id, binary string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.images[id] = binary
}

// binary returns what the instances of an image run; false if the image is not known.
func (m *Metal) binary(image string) (string, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	binary, ok := m.images[image]
	return binary, ok
}

// Delay sets how long instances that are seen from now on take to boot.
func (m *Metal) Delay(boot time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.boot = boot
}

// Crash kills the instance's process. EC2 does not notice, and the process is not started again.
func (m *Metal) Crash(id string) error {
	return m.command(id, (*machine).crash)
}

// Hang suspends the instance's process, so that its connections stay open.
func (m *Metal) Hang(id string) error {
	return m.command(id, (*machine).hang)
}

// Resume lets the instance's process go on after Hang.
func (m *Metal) Resume(id string) error {
	return m.command(id, (*machine).resume)
}

// Reclaim announces in the instance's metadata that the instance is terminated at the given time.
// The caller must terminate it.
func (m *Metal) Reclaim(id string, at time.Time) error {
	return m.command(id, func(machine *machine) error { return machine.reclaim(at) })
}

func (m *Metal) command(id string, do func(*machine) error) error {
	m.mu.Lock()
	machine := m.machines[id]
	m.mu.Unlock()
	if machine == nil {
		return fmt.Errorf("instance %s: not seen running", id)
	}
	if err := do(machine); err != nil {
		return fmt.Errorf("instance %s: %w", id, err)
	}
	return nil
}

// watch starts and ends processes as instances come and go. When it returns, all processes have ended.
func (m *Metal) watch(ctx context.Context) {
	tick := time.NewTicker(m.opts.Interval)
	defer tick.Stop()
	deaf := false // whether the last look failed
	for {
		list, err := m.ec2.list(ctx)
		if err == nil {
			m.reconcile(ctx, list)
		} else if !deaf && ctx.Err() == nil {
			// Instances that cannot be seen do not count as gone.
			m.log.WarnContext(ctx, "cannot list instances", "error", err)
		}
		deaf = err != nil
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// reconcile starts the processes of instances that are new or started again, and ends those of instances that no longer
// run.
func (m *Metal) reconcile(ctx context.Context, list []instance) {
	m.mu.Lock()
	defer m.mu.Unlock()
	runs := make(map[string]bool, len(list))
	for _, inst := range list {
		if inst.state != "running" {
			continue
		}
		runs[inst.id] = true
		before := m.machines[inst.id]
		if before != nil && !before.outlived(inst) {
			continue
		}
		machine := newMachine(inst, m)
		if before != nil {
			machine.err = before.failure()
		}
		m.machines[inst.id] = machine
		boot := m.boot
		m.wg.Go(func() { machine.live(ctx, boot) })
	}
	for id, machine := range m.machines {
		if !runs[id] {
			machine.terminate()
		}
	}
}
