// Package publisher writes a pool's active set: at once when its members change, and at most once in each
// interval when only their loads change.
package publisher

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"cloudmaster/internal/activeset"
	"cloudmaster/internal/blob"
	"cloudmaster/internal/pool"
)

// Store is where the active set is.
type Store interface {
	Get(ctx context.Context, key string, have blob.Version) (blob.Object, error)
	Put(ctx context.Context, key string, data []byte, last blob.Version) (blob.Version, error)
}

// callTimeout bounds how long a pass waits for the store.
const callTimeout = 5 * time.Second

// Publisher keeps one active set. It is used by one goroutine.
type Publisher struct {
	store    Store
	pool     pool.Name
	interval time.Duration

	known   bool          // the set in the store has been looked for
	written activeset.Set // the newest that was written or read
	version blob.Version  // of the set in the store; "" if there is none
	certain bool          // whether the store has what written says
	wroteAt time.Time     // when this publisher wrote it; zero if another did
	due     time.Time     // when changed loads may be written; zero: none have changed
}

// New returns the publisher of a pool's active set. If store is nil, it publishes nothing.
func New(name pool.Name, store Store, interval time.Duration) *Publisher {
	return &Publisher{store: store, pool: name, interval: interval}
}

// SetInterval changes how often loads are written.
func (p *Publisher) SetInterval(d time.Duration) { p.interval = d }

// Known reports whether the set in the store has been looked for, so that publishing is possible.
func (p *Publisher) Known() bool { return p.known || p.store == nil }

// Next returns when loads that have changed may be written; zero if none have.
func (p *Publisher) Next() time.Time { return p.due }

// Load reads the set that is in the store, and reports whether there is a readable one.
func (p *Publisher) Load(ctx context.Context) (set activeset.Set, found bool, err error) {
	if p.store == nil {
		return activeset.Set{}, false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	o, err := p.store.Get(ctx, activeset.Key(p.pool), "")
	if errors.Is(err, blob.ErrNotFound) {
		p.known, p.certain, p.version = true, false, ""
		return activeset.Set{}, false, nil
	}
	if err != nil {
		return activeset.Set{}, false, fmt.Errorf("read active set: %w", err)
	}
	p.known, p.certain, p.version, p.wroteAt = true, false, o.Version, time.Time{}
	set, err = activeset.Decode(o.Data)
	if err != nil {
		return activeset.Set{}, false, nil // a damaged set is replaced by the next one that is written
	}
	set.Version = max(set.Version, p.written.Version) // the versions that this publisher writes only grow
	p.written, p.certain = set, true
	return set, true, nil
}

// Publish writes the set with these members, which are sorted by id, if that is necessary. A nil error means
// that the store has the right members; their loads may be written later. wrote reports whether a write was
// tried.
func (p *Publisher) Publish(ctx context.Context, members []activeset.Instance, now time.Time) (wrote bool, err error) {
	if p.store == nil {
		return false, nil
	}
	if !p.known {
		return false, errors.New("publish active set: the one in the store has not been read yet")
	}
	p.due = time.Time{}
	if p.certain && slices.EqualFunc(members, p.written.Instances, sameMember) {
		if slices.EqualFunc(members, p.written.Instances, sameReport) {
			return false, nil
		}
		if due := p.wroteAt.Add(p.interval); now.Before(due) {
			p.due = due
			return false, nil
		}
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err = p.write(ctx, members, now)
	if errors.Is(err, blob.ErrConflict) {
		// The answer to an earlier write was lost, or somebody else writes the set: read it, and write it
		// again.
		if _, _, err := p.Load(ctx); err != nil {
			return true, err
		}
		err = p.write(ctx, members, now)
	}
	return true, err
}

func sameMember(a, b activeset.Instance) bool { return a.ID == b.ID && a.Address == b.Address }

func sameReport(a, b activeset.Instance) bool {
	return a.Load == b.Load && a.ReportedAt.Equal(b.ReportedAt)
}

func (p *Publisher) write(ctx context.Context, members []activeset.Instance, now time.Time) error {
	set := activeset.Set{Pool: p.pool, Version: p.written.Version + 1, WrittenAt: now.UTC(), Instances: members}
	doc, err := activeset.Encode(set)
	if err != nil {
		return err
	}
	p.certain = false // a write that fails may still have taken effect, so this is certain only when it is confirmed
	version, err := p.store.Put(ctx, activeset.Key(p.pool), doc, p.version)
	if err != nil {
		return fmt.Errorf("write active set: %w", err)
	}
	p.written, p.version, p.certain, p.wroteAt = set, version, true, now
	return nil
}
