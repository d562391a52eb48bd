package desired

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"cloudmaster/internal/pool"
)

// identity is what cannot change while a pool's tasks run. If it is changed, they are ended and started anew, which
// does not touch the pool's instances, nor what is known of them.
type identity struct {
	work, status, orders Queue
	port                 int
	publishes, verified  bool
	anyAddress           bool
}

func (p *Pool) identity() identity {
	return identity{p.Work, p.Status, p.Orders, p.ServicePort, p.Publishes, p.Verified, p.AnyAddress}
}

// misfits returns what cannot change from p to next, joined, because instances that run were launched with it.
func (p *Pool) misfits(next *Pool) error {
	var errs []error
	for _, f := range []struct{ what, was, is, why string }{
		{"cloud", string(p.Cloud), string(next.Cloud), "run there"},
		{"work queue", p.Work.Name, next.Work.Name, "take their work from it"},
		{"status queue", p.Status.Name, next.Status.Name, "report to it"},
		{"status parser", p.Parser, next.Parser, "write for it"},
	} {
		if f.was != f.is {
			errs = append(errs, fmt.Errorf("pool %s: its %s cannot change from %s to %s while it runs, because its "+
				"instances %s: remove the pool first (on_remove: drain), and add it again when they have ended",
				p.Name, f.what, f.was, f.is, f.why))
		}
	}
	return errors.Join(errs...)
}

// plan is what Apply is going to do.
type plan struct {
	fresh   []*unit // to be opened and started; some of them in the place of another one
	leaves  []*unit
	drains  []*unit
	changes map[*unit]Pool
	said    Changes
}

// plan compares what should run with what runs. The error says what cannot be done.
func (p *Pools) plan(want []Pool) (plan, error) {
	out := plan{changes: make(map[*unit]Pool)}
	named := make(map[pool.Name]bool)
	var errs []error
	byName := func(a, b Pool) int { return cmp.Compare(a.Name, b.Name) }
	for _, w := range slices.SortedFunc(slices.Values(want), byName) {
		named[w.Name] = true
		u := p.units[w.Name]
		if u != nil {
			errs = append(errs, u.want.misfits(&w))
		}
		switch {
		case u == nil:
			out.fresh = append(out.fresh, newUnit(&p.parts, w, nil))
			out.said.Added = append(out.said.Added, w.Name)
		case u.want.identity() != w.identity():
			out.fresh = append(out.fresh, newUnit(&p.parts, w, u))
			out.said.Restarted = append(out.said.Restarted, w.Name)
		case u.want.Revision != w.Revision || u.retiring:
			out.changes[u] = w
			out.said.Changed = append(out.said.Changed, w.Name)
		}
	}
	errs = append(errs, p.shared(want, named))
	for _, name := range slices.Sorted(maps.Keys(p.units)) {
		switch u := p.units[name]; {
		case named[name], u.retiring:
		case u.want.OnRemove == Drain:
			out.drains = append(out.drains, u)
			out.said.Draining = append(out.said.Draining, name)
		default:
			out.leaves = append(out.leaves, u)
			out.said.Removed = append(out.said.Removed, name)
		}
	}
	return out, errors.Join(errs...)
}

// shared returns which queues two pools would read. Each would take what the other one should hear.
func (p *Pools) shared(want []Pool, named map[pool.Name]bool) error {
	var errs []error
	readers := make(map[string]pool.Name)
	for _, name := range slices.Sorted(maps.Keys(p.units)) {
		if u := p.units[name]; !named[name] && (u.retiring || u.want.OnRemove == Drain) {
			for _, q := range u.want.queues() {
				readers[q] = name
			}
		}
	}
	for _, w := range want {
		for _, q := range w.queues() {
			if other, taken := readers[q]; taken {
				errs = append(errs,
					fmt.Errorf("pool %s: its queue %s is still read by the pool %s, whose instances are "+
						"being drained: wait until it has none, or give that pool on_remove: leave", w.Name, q, other))
			}
		}
	}
	return errors.Join(errs...)
}

// queues returns the names of the pool's queues.
func (p *Pool) queues() []string {
	return slices.DeleteFunc([]string{p.Work.Name, p.Status.Name, p.Orders.Name},
		func(q string) bool { return q == "" })
}
