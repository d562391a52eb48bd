package app

import (
	"context"
	"time"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/kind"
	"cloudmaster/internal/pool"
	"cloudmaster/services/controller/internal/desired"
)

// openTimeout bounds how long opening a cloud may take.
const openTimeout = time.Minute

// openCloud opens one cloud as its kind describes. changed is called when the cloud finds out by itself that
// an instance has ended.
func (o *opened) openCloud(ctx context.Context, name pool.CloudName, changed func()) (desired.Machines, error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	where := o.current.Load().Clouds[name]
	opened, err := where.Kind.Open(ctx, cloud.OpenOptions{
		Deployment: o.cfg.Deployment, Name: name, Settings: where.Settings, Backend: o.cfg.Backend.Address,
		Pool: func(one pool.Name) (kind.Settings, bool) { // asked each time, because pools are added and removed
			p, known := o.current.Load().Pools[one]
			return p.OnCloud, known && p.Cloud == name
		},
		Client: client, PolicyFile: policyFile, Log: o.Log.With("cloud", name), Count: o.count, Changed: changed,
	})
	if err != nil {
		return desired.Machines{}, err
	}
	o.closers = append(o.closers, opened.Close)
	o.clouds[name] = where
	m := desired.Machines{Cloud: opened, ListLag: where.Kind.ListLag, Audit: where.AuditInterval}
	if o.cfg.Hears(name) {
		m.ParseEvent = func(body []byte) (cloud.Event, error) { return where.Kind.ParseEvent(where.Settings, body) }
	}
	return m, nil
}
