package loop_test

import (
	"context"
	"fmt"

	"cloudmaster/internal/activeset"
	"cloudmaster/internal/blob"
	"cloudmaster/internal/pool"
)

// tapStore is a store seen through a tap.
type tapStore struct {
	tap   *tap
	store blob.Store
}

// Get implements the loop's store.
func (s tapStore) Get(ctx context.Context, key string, have blob.Version) (out blob.Object, err error) {
	err = s.tap.do("store.get", "", func() (err error) {
		out, err = s.store.Get(ctx, key, have)
		return err
	})
	return out, err
}

// Put implements the loop's store.
func (s tapStore) Put(ctx context.Context, key string, data []byte, last blob.Version) (version blob.Version,
	err error,
) {
	if key != activeset.Key(s.tap.b.cfg.Name) {
		err = s.tap.do("store.journal", key, func() (err error) {
			version, err = s.store.Put(ctx, key, data, last)
			return err
		})
		return version, err
	}
	set, _ := activeset.Decode(data)
	ids := []pool.InstanceID{}
	for i := range set.Instances {
		ids = append(ids, set.Instances[i].ID)
	}
	err = s.tap.do("store.put", fmt.Sprint(ids), func() (err error) {
		s.tap.clean(data)
		version, err = s.store.Put(ctx, key, data, last)
		s.tap.linger("store.put")
		return err
	})
	return version, err
}
