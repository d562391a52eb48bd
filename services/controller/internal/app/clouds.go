package app

import (
	"context"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/kind"
	"cloudmaster/internal/pool"
)

// openCloud opens one cloud by its kind. changed is called when the cloud knows by
// itself that an instance has ended.
func (c *controller) openCloud(ctx context.Context, name pool.CloudName, changed func()) (cloud.Opened, error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	where := c.cfg.Clouds[name]
	return where.Kind.Open(ctx, cloud.OpenOptions{
		Deployment: c.cfg.Deployment, Name: name, Settings: where.Settings, Backend: c.cfg.Backend.Address,
		Pool: func(name pool.Name) (kind.Settings, bool) {
			p, known := c.cfg.Pools[name]
			return p.OnCloud, known
		},
		Client: client, Log: c.log.With("cloud", name), Count: c.count, Changed: changed,
	})
}
