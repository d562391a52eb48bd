package app

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"cloudmaster/internal/agent"
	"cloudmaster/internal/backend"
	"cloudmaster/internal/cloud"
	"cloudmaster/internal/pool"
	"cloudmaster/services/controller/internal/config"
	"cloudmaster/services/controller/internal/desired"
	"cloudmaster/services/controller/internal/loop"
)

// first returns the pools that should run when the controller starts.
func (o *opened) first(ctx context.Context) ([]desired.Pool, error) { return o.pools(ctx, o.cfg) }

// next loads the configuration again and returns the pools that should run from now on. The caller must tell
// applied whether they do.
func (o *opened) next(
	ctx context.Context, load func() (*config.Config, error),
) (pools []desired.Pool, applied func(bool), err error) {
	cfg, err := load()
	if err != nil {
		return nil, nil, err
	}
	runs := *o.current.Load()
	runs.Clouds = o.clouds // those that no pool has used yet are not open, and may change
	if err := config.Restart(&runs, cfg); err != nil {
		return nil, nil, err
	}
	if pools, err = o.pools(ctx, cfg); err != nil {
		return nil, nil, err
	}
	before := o.current.Swap(cfg) // now, because new pools launch as soon as they run, and their cloud reads current
	return pools, func(ok bool) {
		if !ok {
			o.current.Store(before)
		}
	}, nil
}

// pools returns the pools of a configuration as they should run.
func (o *opened) pools(ctx context.Context, cfg *config.Config) ([]desired.Pool, error) {
	var out []desired.Pool
	prices := cfg.Book()
	for _, name := range slices.Sorted(maps.Keys(cfg.Pools)) {
		p := cfg.Pools[name]
		where := cfg.Clouds[p.Cloud].Kind
		want, err := o.desired(ctx, &p, &where)
		if err != nil {
			return nil, err
		}
		if want.Loop.TakesRequests && !want.Publishes {
			o.Log.WarnContext(ctx, "pool publishes no active set, so no allocator can find its servers; "+
				"set active_set_type: blob", "pool", name)
		}
		if !p.VerifySender {
			o.Log.WarnContext(ctx, "verify_sender is off: whoever may send to the pool's status queue is believed "+
				"what it says of any instance", "pool", name)
		}
		want.Loop.Prices, want.Revision = prices, want.Revision+prices.Revision()
		out = append(out, want)
	}
	return out, nil
}

// desired returns a pool of the configuration as it should run on a kind of cloud.
func (o *opened) desired(ctx context.Context, p *config.Pool, where *cloud.Kind) (desired.Pool, error) {
	judge, err := p.Judge()
	if err != nil {
		return desired.Pool{}, fmt.Errorf("pool %s: %w", p.Name, err)
	}
	address, login, err := o.login(ctx, p, where.LoginFile)
	if err != nil {
		return desired.Pool{}, fmt.Errorf("pool %s: %w", p.Name, err)
	}
	userData := o.userData(p, address)
	version, err := o.version(p, userData)
	if err != nil {
		return desired.Pool{}, fmt.Errorf("pool %s: %w", p.Name, err)
	}
	return desired.Pool{
		Name: p.Name, Revision: p.Revision(), Cloud: p.Cloud, OnRemove: desired.OnRemove(p.OnRemove),
		Work: queueOf(p, config.Work), Status: queueOf(p, config.Status), Orders: queueOf(p, config.Orders),
		Parser: p.StatusParser, Parse: p.Parser(), Verified: p.VerifySender && (login != nil || o.knows(where)),
		ServicePort: p.ServicePort, AnyAddress: p.AnyAddress, Publishes: p.PublishesActiveSet(),
		Loop: loop.Options{
			Image: p.Image, UserData: userData, Login: login, Judge: judge, Version: version,
			Warm: p.Warm, MaximumLifetime: p.MaximumLifetime,
			TakesRequests:  p.Policy.Traits().TakesRequests,
			PolicyInterval: p.Times.PolicyInterval, PollInterval: p.Times.PollInterval,
			ReportInterval: p.Times.ReportInterval, ActiveSetInterval: p.Times.ActiveSetInterval,
		},
	}, nil
}

// knows reports whether the backend knows by itself which instance of a cloud sends a message.
func (o *opened) knows(where *cloud.Kind) bool {
	return where.Identity != "" && where.Identity == o.cfg.Backend.Kind.Name
}

// postOf returns the queues of the whole deployment.
func postOf(cfg *config.Config, count func(use, outcome string, n int)) desired.Post {
	out := desired.Post{Count: count}
	for _, q := range cfg.Shared() {
		opened := desired.Queue{Name: q.Name, Limits: q.Limits}
		switch q.Use {
		case config.Hints:
			out.Hints = opened
		case config.Events:
			out.Events = opened
		case config.Work, config.Status, config.Orders: // those are of pools
		}
	}
	return out
}

// queueOf returns the queue that the pool has for a use; its name is empty if it has none.
func queueOf(p *config.Pool, use config.Use) desired.Queue {
	q, _ := p.Queue(use)
	return desired.Queue{Name: q.Name, Limits: q.Limits}
}

// login returns the address of the backend for the instances of a pool, and what makes the login of each; nil if the
// controller hands out none.
func (o *opened) login(
	ctx context.Context, p *config.Pool, file string,
) (address string, made func(pool.InstanceID) ([]byte, error), err error) {
	if o.logins == nil {
		return o.address, nil, nil
	}
	queues := backend.PoolQueues{Work: queueOf(p, config.Work).Name, Status: queueOf(p, config.Status).Name}
	files, err := o.logins.Pool(p.Name, queues)
	if err != nil {
		return "", nil, err
	}
	if file == "" {
		o.Log.InfoContext(ctx, "the instances of the pool log in with a file that their image must have, at the path "+
			"that worker_backend names", "pool", p.Name, "login", files.Worker, "authority", files.CA)
		return o.address, nil, nil
	}
	made = func(id pool.InstanceID) ([]byte, error) { return o.logins.Instance(queues, id) }
	return o.logins.Address(file), made, nil
}

// userData returns a function that makes the user data of an instance, which tells it who it is.
func (o *opened) userData(p *config.Pool, address string) func(pool.InstanceID) ([]byte, error) {
	user := agent.UserData{
		Deployment: o.cfg.Deployment, Pool: p.Name, Backend: address,
		Queues:         agent.Queues{Work: queueOf(p, config.Work).Name, Status: queueOf(p, config.Status).Name},
		StatusInterval: p.Times.StatusInterval, Settings: p.Settings,
	}
	where := o.cfg.Clouds[p.Cloud]
	// Images that were made before this key was there refuse it, so it is given only where it says something new.
	if public := where.Kind.PublicAddress; p.PublishesActiveSet() && public != nil &&
		!public(where.Settings, p.OnCloud) {
		user.Address = cloud.PrivateAddress
	}
	return func(id pool.InstanceID) ([]byte, error) {
		mine := user
		mine.InstanceID = id
		return mine.Encode()
	}
}
