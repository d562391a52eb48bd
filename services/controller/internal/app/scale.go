package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"

	"cloudmaster/internal/backend"
	"cloudmaster/internal/message"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
	"cloudmaster/services/controller/internal/config"
)

// Scale sends an operator's order to a pool: to have n instances. The controller carries it out, within the
// pool's limits. Scale waits for the broker until ctx ends.
func Scale(ctx context.Context, cfg *config.Config, name pool.Name, n int, log *slog.Logger) (err error) {
	body := message.EncodeOrder(n, true)
	if _, _, err := message.ParseOrder(body); err != nil { // what the controller would say of it
		return fmt.Errorf("pool %s: %w", name, err)
	}
	to, err := takesOrders(cfg, name)
	if err != nil {
		return err
	}
	kinds := Kinds()
	address, opens, err := kinds.Connect(&cfg.Backend)
	if err != nil {
		return err
	}
	back, err := opens.Open(ctx, address, nil, backend.Options{
		Deployment: cfg.Deployment, Client: client + " pool scale", Log: log,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, back.Close()) }()
	q, err := back.Queue(ctx, to)
	switch {
	case errors.Is(err, queue.ErrNotFound):
		return fmt.Errorf("pool %s: there is no queue %s at %s: run the controller with this configuration, "+
			"which makes it (on AWS: controller setup): %w", name, to, backend.Redacted(address), err)
	case err != nil:
		return fmt.Errorf("pool %s: open the queue of orders: %w", name, err)
	}
	if err := q.Send(ctx, body); err != nil {
		return fmt.Errorf("pool %s: send the order: %w", name, err)
	}
	return nil
}

// takesOrders returns the name of a pool's queue of orders.
func takesOrders(cfg *config.Config, name pool.Name) (string, error) {
	p, known := cfg.Pools[name]
	if !known {
		return "", fmt.Errorf("there is no pool %q in %s: there are %v",
			name, cfg.File, slices.Sorted(maps.Keys(cfg.Pools)))
	}
	q, takes := p.Queue(config.Orders)
	if takes {
		return q.Name, nil
	}
	var takers []string
	for _, k := range Kinds().Policies {
		if k.Traits.Orders != "" {
			takers = append(takers, k.Name)
		}
	}
	return "", fmt.Errorf("pool %s has the policy %s, which takes no orders: it decides by itself; policies that take "+
		"orders: %v", name, p.Policy.Kind.Name, takers)
}
