// Package memblob is a blob store in memory, into which tests can inject faults. Nothing is kept
// after the process ends. The package starts no goroutine, and works in testing/synctest bubbles.
// The zero value of Store is an empty store.
package memblob

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"cloudmaster/internal/blob"
	"cloudmaster/internal/faults"
)

var _ blob.Store = (*Store)(nil)

// Store is a store in memory.
type Store struct {
	faults.Set // faults to inject; the zero value injects none

	mu       sync.Mutex
	objects  map[string]blob.Object // guarded by mu
	sequence int                    // number of the newest version, over all keys; guarded by mu
}

// New returns an empty store.
func New() *Store { return &Store{} }

// Get implements blob.Store.
func (s *Store) Get(ctx context.Context, key string, have blob.Version) (blob.Object, error) {
	var out blob.Object
	err := s.call(ctx, OpGet, key, func() error {
		o, ok := s.objects[key]
		switch {
		case !ok:
			return blob.ErrNotFound
		case o.Version == have:
			return blob.ErrNotModified
		}
		out = o
		out.Data = slices.Clone(o.Data)
		return nil
	})
	return out, err
}

// Put implements blob.Store.
func (s *Store) Put(ctx context.Context, key string, data []byte, last blob.Version) (blob.Version, error) {
	var version blob.Version
	err := s.call(ctx, OpPut, key, func() error {
		if len(data) > blob.MaxSize {
			return fmt.Errorf("%w: it has %d bytes, the limit is %d", blob.ErrTooLarge, len(data), blob.MaxSize)
		}
		if last != blob.Any && last != s.objects[key].Version {
			return blob.ErrConflict
		}
		if s.objects == nil {
			s.objects = map[string]blob.Object{}
		}
		s.sequence++
		version = blob.Version(strconv.Itoa(s.sequence))
		s.objects[key] = blob.Object{Key: key, Data: slices.Clone(data), Version: version}
		return nil
	})
	return version, err
}

// Delete implements blob.Store.
func (s *Store) Delete(ctx context.Context, key string) error {
	return s.call(ctx, OpDelete, key, func() error {
		delete(s.objects, key)
		return nil
	})
}

// call runs f under the lock. It injects the faults that tests asked for: an error before f, or one
// after it, as if the answer had been lost.
func (s *Store) call(ctx context.Context, op faults.Op, key string, f func() error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s %s: %w", op, key, context.Cause(ctx))
	}
	if err := blob.CheckKey(key); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	before, after := s.Take(op)
	if before != nil {
		return fmt.Errorf("%s %s: %w", op, key, before)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := f(); err != nil {
		return fmt.Errorf("%s %s: %w", op, key, err)
	}
	if after != nil {
		return fmt.Errorf("%s %s: %w", op, key, after)
	}
	return nil
}
