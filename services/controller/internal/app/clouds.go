package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/cloud/processcloud"
	"cloudmaster/internal/pool"
	"cloudmaster/services/controller/internal/config"
	"cloudmaster/services/controller/internal/dirlock"
)

// machines is an opened cloud.
type machines struct {
	cloud.Cloud
	listLag time.Duration // how far its lists may be behind
	close   func() error
}

// openCloud opens one cloud by its type. changed is called when the cloud knows by
// itself that an instance has ended.
func openCloud(ctx context.Context, cfg *config.Config, name string, log *slog.Logger, changed func()) (machines, error) {
	settings := cfg.Clouds[name]
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	switch settings.Type {
	case config.ProcessCloud:
		// Another controller with a broker of its own would not meet our lease, but would judge our instances.
		lock, err := dirlock.Take(filepath.Join(settings.StateDir, cmp.Or(cfg.Deployment, "default")))
		if err != nil {
			return machines{}, fmt.Errorf("state_dir: %w", err)
		}
		c, err := processcloud.Open(ctx, cmp.Or(cfg.Deployment, "default"), processcloud.Options{
			BinDir: settings.BinDir, StateDir: settings.StateDir, Host: settings.Host, Grace: settings.TerminateGrace,
			Capacity: settings.Capacity, Log: log.With("cloud", name),
			Exited: func(pool.InstanceID) { changed() },
		})
		if err != nil {
			return machines{}, errors.Join(err, lock.Close())
		}
		closeBoth := func() error { return errors.Join(c.Close(), lock.Close()) }
		// A list of processes is made from the processes: it is as late as the call takes.
		return machines{Cloud: c, listLag: time.Second, close: closeBoth}, nil
	}
	return machines{}, fmt.Errorf("there is no type of cloud %q", settings.Type) // the configuration was checked
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
