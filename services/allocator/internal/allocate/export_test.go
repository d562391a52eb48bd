package allocate

// Learnt returns how many allocators there seem to be, and which share of the clients leaves in a second.
func (p *Pool) Learnt() (allocators, leaving float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.habits.untold() * (1 + p.habits.peers), p.habits.leaving
}
