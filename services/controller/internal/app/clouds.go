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
	"cloudmaster/internal/pool"
	"cloudmaster/services/controller/internal/config"
	"cloudmaster/internal/dirlock"
)

// machines is an opened cloud.
type machines struct {
	cloud.Cloud
	listLag time.Duration // how far its lists may be behind; 0: as the roster assumes
	close   func() error
}

// openCloud opens one cloud by its type. changed is called when the cloud knows by
// itself that an instance has ended.
func (c *controller) openCloud(ctx context.Context, name string, changed func()) (machines, error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	switch kind := c.cfg.Clouds[name].Type; kind {
	case config.ProcessCloud:
		return c.openProcesses(ctx, name, changed)
	case config.EC2Cloud:
		return c.openEC2(ctx, name)
	default:
		return machines{}, fmt.Errorf("there is no type of cloud %q", kind) // the configuration was checked
	}
}

func (c *controller) openProcesses(ctx context.Context, name string, changed func()) (machines, error) {
	settings, deployment := c.cfg.Clouds[name], cmp.Or(c.cfg.Deployment, "default")
	// Another controller with a broker of its own would not meet our lease, but would judge our instances.
	lock, err := dirlock.Take(filepath.Join(settings.StateDir, deployment))
	if err != nil {
		return machines{}, fmt.Errorf("state_dir: %w", err)
	}
	processes, err := processcloud.Open(ctx, deployment, processcloud.Options{
		BinDir: settings.BinDir, StateDir: settings.StateDir, Host: settings.Host, Grace: settings.TerminateGrace,
		Capacity: settings.Capacity, Log: c.log.With("cloud", name),
		Exited: func(pool.InstanceID) { changed() },
	})
	if err != nil {
		return machines{}, errors.Join(err, lock.Close())
	}
	counted := countedCloud{Cloud: processes, count: func(operation string, err error) { c.count(settings.Type, operation, err) }}
	closeBoth := func() error { return errors.Join(processes.Close(), lock.Close()) }
	// A list of processes is made from the processes: it is as late as the call takes.
	return machines{Cloud: counted, listLag: time.Second, close: closeBoth}, nil
}

// openEC2 opens EC2. Its calls are counted where the SDK makes them.
func (c *controller) openEC2(ctx context.Context, name string) (machines, error) {
	region, endpoint := c.cfg.Reach(name)
	aws, err := awsconf.Load(ctx, awsconf.Options{Region: region, Endpoint: endpoint, Client: "controller", Count: c.count})
	if err != nil {
		return machines{}, err
	}
	launches := make(map[pool.Name]ec2cloud.Launch)
	for _, p := range c.cfg.Pools {
		if p.Cloud == name {
			launches[p.Name] = c.cfg.Launch(&p)
		}
	}
	opened, err := ec2cloud.Open(ctx, aws, c.cfg.Deployment, ec2cloud.Options{
		Pool: func(name pool.Name) (ec2cloud.Launch, bool) { l, ok := launches[name]; return l, ok }, ImageOwners: c.cfg.Clouds[name].ImageOwners, Log: c.log.With("cloud", name),
	})
	return machines{Cloud: opened, close: func() error { return nil }}, err
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
