package desired

import (
	"cloudmaster/internal/pool"
	"cloudmaster/services/controller/internal/record"
)

// WorkQueues returns the names of the work queues of the pools that run.
func (p *Pools) WorkQueues() map[pool.Name]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	queues := make(map[pool.Name]string, len(p.units))
	for name, u := range p.units {
		queues[name] = u.work.Name()
	}
	return queues
}

// TellAges has the records of a pool say how old its messages are, from its next pass on.
func (p *Pools) TellAges(name pool.Name, ages record.Ages) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if u := p.units[name]; u != nil {
		u.loop.SetAges(ages)
	}
}
