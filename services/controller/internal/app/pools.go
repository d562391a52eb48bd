package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"

	"cloudmaster/internal/agent"
	"cloudmaster/internal/pool"
	"cloudmaster/services/controller/internal/config"
	"cloudmaster/services/controller/internal/desired"
	"cloudmaster/services/controller/internal/loop"
)

// first returns the pools that should run when the controller starts.
func (o *opened) first(ctx context.Context) ([]desired.Pool, error) { return o.pools(ctx, o.cfg) }

// next loads the configuration again and returns the pools that should run from now on. applied must be told whether
// they do.
func (o *opened) next(ctx context.Context, load func() (*config.Config, error)) (pools []desired.Pool, applied func(bool), err error) {
	cfg, err := load()
	if err != nil {
		return nil, nil, err
	}
	if err := config.Restart(o.cfg, cfg); err != nil {
		return nil, nil, err
	}
	if pools, err = o.pools(ctx, cfg); err != nil {
		return nil, nil, err
	}
	before := o.current.Swap(cfg) // new pools launch as soon as they run, and their cloud looks here
	return pools, func(ok bool) {
		if !ok {
			o.current.Store(before)
		}
	}, nil
}

// pools are those of a configuration, as they should run.
func (o *opened) pools(ctx context.Context, cfg *config.Config) ([]desired.Pool, error) {
	var out []desired.Pool
	for _, name := range slices.Sorted(maps.Keys(cfg.Pools)) {
		p := cfg.Pools[name]
		want, err := o.desired(&p)
		if err != nil {
			return nil, err
		}
		if want.Loop.TakesRequests && !want.Publishes {
			o.Log.WarnContext(ctx, "pool publishes no active set, so no allocator can find its servers; set active_set_type: blob", "pool", name)
		}
		out = append(out, want)
	}
	return out, nil
}

// desired is a pool of the configuration as it should run.
func (o *opened) desired(p *config.Pool) (desired.Pool, error) {
	judge, err := p.Judge()
	if err != nil {
		return desired.Pool{}, fmt.Errorf("pool %s: %w", p.Name, err)
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%#v", *p))
	return desired.Pool{
		Name: p.Name, Revision: hex.EncodeToString(sum[:]), Cloud: pool.CloudName(p.Cloud),
		Work: desired.Queue{Name: p.WorkQueue, Limits: p.WorkLimits()}, Status: desired.Queue{Name: p.StatusQueue, Limits: p.StatusLimits()},
		Parser: p.StatusParser, Parse: p.Parser(), ServicePort: p.ServicePort, Publishes: p.PublishesActiveSet(),
		OnRemove: desired.OnRemove(p.OnRemove),
		Loop: loop.Options{
			Image: p.Image, UserData: o.userData(p), Judge: judge, TakesRequests: p.Requests(),
			PolicyInterval: p.PolicyInterval, PollInterval: p.PollInterval,
			ReportInterval: p.ReportInterval, ActiveSetInterval: p.ActiveSetInterval,
		},
	}, nil
}

// userData returns what tells a new instance of the pool who it is.
func (o *opened) userData(p *config.Pool) func(pool.InstanceID) ([]byte, error) {
	address := o.address
	if o.cfg.WorkerBackend != "" {
		address = o.cfg.WorkerBackend
	}
	deployment := o.cfg.Deployment
	return func(id pool.InstanceID) ([]byte, error) {
		return agent.UserData{
			Deployment: deployment, Pool: p.Name, InstanceID: id, Backend: address,
			Queues:         agent.Queues{Work: p.WorkQueue, Status: p.StatusQueue},
			StatusInterval: p.StatusInterval, Settings: p.Settings,
		}.Encode()
	}
}
