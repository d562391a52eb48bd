package allocate

import (
	"cmp"
	"slices"
	"time"

	"cloudmaster/internal/activeset"
	"cloudmaster/internal/pool"
)

// View is a Pool at one moment, for people and metrics.
type View struct {
	Pool      pool.Name
	Read      bool // false: the active set has not been read yet, and all else is zero
	Exists    bool // false: the store has no document, so there are no servers
	Version   int
	WrittenAt time.Time     // when the controller wrote the document
	Age       time.Duration // since the store last said that this is the present document
	Listed    int           // instances in the document, those without an address included
	Instances []Assigned    // those that clients are sent to, sorted by id; nil in a Summary
}

// Assigned is one instance with what this allocator has added to its load.
type Assigned struct {
	activeset.Instance
	Own      int     // clients assigned that no report confirms
	Heard    int     // the same of other allocators, as far as they have told
	Estimate float64 // the load expected now, with those clients
}

// Summary returns the View without the instances.
func (p *Pool) Summary(now time.Time) View {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.summaryLocked(now)
}

// View returns the pool as this allocator sees it.
func (p *Pool) View(now time.Time) View {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sweepFrom = now // sweep now, so that the numbers are exact
	p.sweepLocked(now)
	v := p.summaryLocked(now)
	v.Instances = make([]Assigned, len(p.queue))
	for i, c := range p.queue {
		v.Instances[i] = Assigned{
			Instance: c.Instance, Own: c.own.clients, Heard: c.heard.clients, Estimate: p.scale.now(c.estimate, now),
		}
	}
	slices.SortFunc(v.Instances, func(a, b Assigned) int { return cmp.Compare(a.ID, b.ID) })
	return v
}

func (p *Pool) summaryLocked(now time.Time) View {
	v := View{
		Pool: p.name, Read: p.header.read, Exists: p.header.exists,
		Version: p.header.version, WrittenAt: p.header.writtenAt, Listed: p.header.listed,
	}
	if v.Read {
		v.Age = max(0, now.Sub(p.header.checkedAt))
	}
	return v
}
