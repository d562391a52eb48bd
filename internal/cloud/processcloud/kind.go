package processcloud

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/dirlock"
	"cloudmaster/internal/kind"
	"cloudmaster/internal/pool"
)

// kindName is the type of such a cloud in the configuration, and the service in OpenOptions.Count.
const kindName = "process"

// DefaultDeployment stands for a deployment without a name.
const DefaultDeployment = "default"

// Settings are the keys of a cloud of this kind.
type Settings struct {
	BinDir   string        `key:"bin_dir"         help:"directory of the programs that images name"`
	StateDir string        `key:"state_dir"       help:"directory in which instances keep theirs, with their logs"`
	Host     string        `key:"host"            help:"address of every instance, as clients reach it"`
	Grace    time.Duration `key:"terminate_grace" help:"from SIGTERM to SIGKILL; longer than the services need to end"`
	Capacity int           `key:"capacity"        help:"most instances at a time, in all pools; 0: no limit"`
	Inherit  []string      `key:"inherit_env"     help:"variables that instances get from the controller, such as HOME"`
	Price    float64       `key:"price_per_hour"  help:"what an instance costs in USD, for the reports; 0: unknown"`
}

// Validate implements kind.Settings.
func (s *Settings) Validate() error {
	var errs []error
	if s.Grace < 0 {
		errs = append(errs, fmt.Errorf("terminate_grace: %s is less than 0", s.Grace))
	}
	if s.Capacity < 0 {
		errs = append(errs, fmt.Errorf("capacity: %d is less than 0", s.Capacity))
	}
	if s.Price < 0 || math.IsInf(s.Price, 0) || math.IsNaN(s.Price) {
		errs = append(errs, fmt.Errorf("price_per_hour: %g is not a price in US dollars, as 0.0104", s.Price))
	}
	for _, key := range s.Inherit {
		if !variable.MatchString(key) {
			errs = append(errs, fmt.Errorf("inherit_env: %q is not the name of a variable, such as HOME", key))
		}
	}
	return errors.Join(errs...)
}

// Kind describes the cloud to the configuration.
func Kind() cloud.Kind {
	return cloud.Kind{
		Name: kindName, Help: "instances are processes of this machine; the image of a pool is a program in bin_dir",
		Settings: func() kind.Settings {
			return &Settings{BinDir: DefaultBinDir, StateDir: DefaultStateDir, Host: DefaultHost, Grace: DefaultGrace}
		},
		AuditInterval: 2 * time.Second,
		ListLag:       time.Second, // a list is made from the processes: it is as late as the call takes
		LoginFile:     "$" + envInstanceDir + "/" + loginFile,
		PricePerHour:  pricePerHour,
		CheckPool:     checkPool, Open: openKind,
	}
}

func settings(s kind.Settings) (*Settings, error) {
	set, ok := s.(*Settings)
	if !ok {
		return nil, fmt.Errorf("a cloud of type %s has no settings of type %T", kindName, s)
	}
	return set, nil
}

// pricePerHour is what the operator says that an instance costs.
func pricePerHour(s kind.Settings) (usd float64, known bool) {
	set, err := settings(s)
	if err != nil || set.Price == 0 {
		return 0, false
	}
	return set.Price, true
}

// program is what the image of a process may be called.
var program = regexp.MustCompile(`^[a-z0-9-]+$`)

// checkPool checks that there is a program to run.
func checkPool(s kind.Settings, _ string, p cloud.PoolSpec) error {
	set, err := settings(s)
	if err != nil {
		return err
	}
	if !program.MatchString(p.Image) {
		return fmt.Errorf("image: %q is not the name of a program in bin_dir: lower-case letters, digits and dashes",
			p.Image)
	}
	file := filepath.Join(cmp.Or(set.BinDir, DefaultBinDir), p.Image)
	if info, err := os.Stat(file); err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
		return fmt.Errorf("image: there is no program %s: build it (make build), or correct bin_dir", file)
	}
	return nil
}

// opened is a cloud with the lock of its deployment's directory, whose calls are counted.
type opened struct {
	*Cloud

	lock  *os.File
	count func(service, operation string, err error) // may be nil
}

// openKind opens the cloud as the only one on its deployment's directory: another controller with a
// broker of its own would not see our lease, and would manage our instances too.
func openKind(ctx context.Context, o cloud.OpenOptions) (cloud.Opened, error) {
	set, err := settings(o.Settings)
	if err != nil {
		return nil, err
	}
	deployment := cmp.Or(o.Deployment, DefaultDeployment)
	lock, err := dirlock.Take(filepath.Join(cmp.Or(set.StateDir, DefaultStateDir), deployment))
	if err != nil {
		return nil, fmt.Errorf("state_dir: %w", err)
	}
	opts := Options{
		BinDir: set.BinDir, StateDir: set.StateDir, Host: set.Host, Grace: set.Grace, Capacity: set.Capacity,
		Inherit: set.Inherit, Log: o.Log,
	}
	if o.Changed != nil {
		opts.Exited = func(pool.InstanceID) { o.Changed() }
	}
	c, err := Open(ctx, deployment, opts)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return &opened{Cloud: c, lock: lock, count: o.Count}, nil
}

// Close implements cloud.Opened.
func (o *opened) Close() error { return errors.Join(o.Cloud.Close(), o.lock.Close()) }

func (o *opened) counted(operation string, err error) {
	if o.count != nil {
		o.count(kindName, operation, err)
	}
}

// Launch counts and passes on.
func (o *opened) Launch(ctx context.Context, spec cloud.Spec) ([]cloud.Instance, error) {
	out, err := o.Cloud.Launch(ctx, spec)
	o.counted("launch", err)
	return out, err
}

// List counts and passes on.
func (o *opened) List(ctx context.Context) ([]cloud.Instance, error) {
	out, err := o.Cloud.List(ctx)
	o.counted("list", err)
	return out, err
}

// Tag counts and passes on.
func (o *opened) Tag(ctx context.Context, tags map[string]string, ids ...pool.InstanceID) error {
	err := o.Cloud.Tag(ctx, tags, ids...)
	o.counted("tag", err)
	return err
}

// Terminate counts and passes on.
func (o *opened) Terminate(ctx context.Context, ids ...pool.InstanceID) error {
	err := o.Cloud.Terminate(ctx, ids...)
	o.counted("terminate", err)
	return err
}
