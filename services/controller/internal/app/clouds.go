package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"cloudmaster/internal/awsconf"
	"cloudmaster/internal/cloud"
	"cloudmaster/internal/cloud/ec2cloud"
	"cloudmaster/internal/cloud/processcloud"
	"cloudmaster/internal/dirlock"
	"cloudmaster/internal/pool"
	"cloudmaster/services/controller/internal/config"
	"cloudmaster/services/controller/internal/desired"
)

// openTimeout bounds how long opening a cloud may take.
const openTimeout = time.Minute

// openCloud opens one cloud by its type. changed is called when the cloud knows by
// itself that an instance has ended.
func (o *opened) openCloud(ctx context.Context, name pool.CloudName, changed func()) (desired.Machines, error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	switch kind := o.current.Load().Clouds[string(name)].Type; kind {
	case config.ProcessCloud:
		return o.openProcesses(ctx, string(name), changed)
	case config.EC2Cloud:
		return o.openEC2(ctx, string(name))
	default:
		return desired.Machines{}, fmt.Errorf("there is no type of cloud %q", kind) // the configuration was checked
	}
}

func (o *opened) openProcesses(ctx context.Context, name string, changed func()) (desired.Machines, error) {
	settings, deployment := o.current.Load().Clouds[name], cmp.Or(o.cfg.Deployment, "default")
	// Another controller with a broker of its own would not meet our lease, but would judge our instances.
	lock, err := dirlock.Take(filepath.Join(settings.StateDir, deployment))
	if err != nil {
		return desired.Machines{}, fmt.Errorf("state_dir: %w", err)
	}
	processes, err := processcloud.Open(ctx, deployment, processcloud.Options{
		BinDir: settings.BinDir, StateDir: settings.StateDir, Host: settings.Host, Grace: settings.TerminateGrace,
		Capacity: settings.Capacity, Log: o.Log.With("cloud", name),
		Exited: func(pool.InstanceID) { changed() },
	})
	if err != nil {
		return desired.Machines{}, errors.Join(err, lock.Close())
	}
	counted := countedCloud{Cloud: processes, count: func(operation string, err error) { o.count(settings.Type, operation, err) }}
	o.closers = append(o.closers, func() error { return errors.Join(processes.Close(), lock.Close()) })
	// A list of processes is made from the processes: it is as late as the call takes.
	return desired.Machines{Cloud: counted, ListLag: time.Second, Audit: settings.AuditInterval}, nil
}

// openEC2 opens EC2. Its calls are counted where the SDK makes them.
func (o *opened) openEC2(ctx context.Context, name string) (desired.Machines, error) {
	region, endpoint := o.current.Load().Reach(name)
	aws, err := awsconf.Load(ctx, awsconf.Options{
		Region: region, Endpoint: endpoint, Client: "controller", PolicyFile: policyFile, Count: o.count,
	})
	if err != nil {
		return desired.Machines{}, err
	}
	opened, err := ec2cloud.Open(ctx, aws, o.cfg.Deployment, ec2cloud.Options{
		ImageOwners: o.current.Load().Clouds[name].ImageOwners, Log: o.Log.With("cloud", name),
		Pool: func(pool pool.Name) (ec2cloud.Launch, bool) { // pools come and go
			cfg := o.current.Load()
			p, known := cfg.Pools[string(pool)]
			return cfg.Launch(&p), known && p.Cloud == name
		},
	})
	return desired.Machines{Cloud: opened, Audit: o.current.Load().Clouds[name].AuditInterval}, err
}

// countedCloud counts the calls to a cloud.
type countedCloud struct {
	cloud.Cloud
	count func(operation string, err error)
}

// Launch counts and passes on.
func (c countedCloud) Launch(ctx context.Context, spec cloud.Spec) ([]cloud.Instance, error) {
	out, err := c.Cloud.Launch(ctx, spec)
	c.count("launch", err)
	return out, err
}

// List counts and passes on.
func (c countedCloud) List(ctx context.Context) ([]cloud.Instance, error) {
	out, err := c.Cloud.List(ctx)
	c.count("list", err)
	return out, err
}

// Tag counts and passes on.
func (c countedCloud) Tag(ctx context.Context, tags map[string]string, ids ...pool.InstanceID) error {
	err := c.Cloud.Tag(ctx, tags, ids...)
	c.count("tag", err)
	return err
}

// Terminate counts and passes on.
func (c countedCloud) Terminate(ctx context.Context, ids ...pool.InstanceID) error {
	err := c.Cloud.Terminate(ctx, ids...)
	c.count("terminate", err)
	return err
}
