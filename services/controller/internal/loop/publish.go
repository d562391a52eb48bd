package loop

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

// publisher writes a pool's active set: at once when its members change, at most
// every interval when only their loads do.
type publisher struct {
	on       bool
	store    store
	pool     pool.Name
	interval time.Duration

	known   bool          // the set in the store has been looked for
	written activeset.Set // the newest that we wrote or read
	version blob.Version  // of it in the store; "" if there is none
	certain bool          // written is what the store holds
	wroteAt time.Time     // when we wrote it; zero if somebody else did
	due     time.Time     // when changed loads may be written; zero: nothing waits
}

func newPublisher(cfg Options, s store) publisher {
	return publisher{on: cfg.PublishesActiveSet(), store: s, pool: cfg.Name, interval: cfg.ActiveSetInterval}
}

// load reads the set that is in the store. blob.ErrNotFound if there is none.
func (p *publisher) load(ctx context.Context) (activeset.Set, error) {
	if !p.on {
		p.known = true
		return activeset.Set{}, blob.ErrNotFound
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	o, err := p.store.Get(ctx, activeset.Key(p.pool), "")
	if errors.Is(err, blob.ErrNotFound) {
		p.known, p.certain, p.version = true, false, ""
		return activeset.Set{}, err
	}
	if err != nil {
		return activeset.Set{}, fmt.Errorf("read active set: %w", err)
	}
	p.known, p.certain, p.version, p.wroteAt = true, false, o.Version, time.Time{}
	set, err := activeset.Decode(o.Data)
	if err != nil {
		return activeset.Set{}, nil // a damaged set is replaced by the first that we write
	}
	set.Version = max(set.Version, p.written.Version) // ours never goes back
	p.written, p.certain = set, true
	return set, nil
}

// publish brings the set in the store to what is active now, without the excluded
// instances. A nil error means that the store's members are right; loads may wait.
func (l *Loop) publish(ctx context.Context, exclude []pool.InstanceID) error {
	if !l.set.on {
		return nil
	}
	if !l.set.known {
		return errors.New("publish active set: the one in the store has not been read yet")
	}
	members := slices.DeleteFunc(l.roster.Serving(), func(in activeset.Instance) bool { return slices.Contains(exclude, in.ID) })
	return l.set.update(ctx, members, time.Now())
}

func (p *publisher) update(ctx context.Context, members []activeset.Instance, now time.Time) error {
	p.due = time.Time{}
	if p.certain && slices.EqualFunc(members, p.written.Instances, sameMember) {
		if slices.EqualFunc(members, p.written.Instances, sameReport) {
			return nil
		}
		if due := p.wroteAt.Add(p.interval); now.Before(due) {
			p.due = due
			return nil
		}
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := p.write(ctx, members, now)
	if errors.Is(err, blob.ErrConflict) {
		// An answer to a write of ours was lost, or somebody else writes: read, and write over it.
		if _, err := p.load(ctx); err != nil && !errors.Is(err, blob.ErrNotFound) {
			return err
		}
		err = p.write(ctx, members, now)
	}
	return err
}

func sameMember(a, b activeset.Instance) bool { return a.ID == b.ID && a.Address == b.Address }

func sameReport(a, b activeset.Instance) bool {
	return sameMember(a, b) && a.Load == b.Load && a.ReportedAt.Equal(b.ReportedAt)
}

func (p *publisher) write(ctx context.Context, members []activeset.Instance, now time.Time) error {
	set := activeset.Set{Pool: p.pool, Version: p.written.Version + 1, WrittenAt: now.UTC(), Instances: members}
	doc, err := activeset.Encode(set)
	if err != nil {
		return err
	}
	p.certain = false // until the store has confirmed: what fails may have taken effect
	version, err := p.store.Put(ctx, activeset.Key(p.pool), doc, p.version)
	if err != nil {
		return fmt.Errorf("write active set: %w", err)
	}
	p.written, p.version, p.certain, p.wroteAt = set, version, true, now
	return nil
}
