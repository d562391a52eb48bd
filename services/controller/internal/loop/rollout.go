package loop

// rests reports whether launches pause, so that no outdated instance can be replaced.
func (p *pass) rests() bool { return p.launcher.Next().After(p.now) || p.launcher.Wait() != nil }

// noteRollout remembers what this pass found out about the replacement of outdated instances.
func (p *pass) noteRollout() {
	m, now := &p.memory, &p.rec.Rollout
	m.trial = p.trial
	now.Changed = now.State != m.rolling.State
	m.rolling = now.Rolling
}

// succeed has instances count as all others that were launched to take the place of outdated ones. Their tags are
// written at the end of the pass.
func (p *pass) succeed() {
	if ids := p.rec.Decision.Succeed; len(ids) > 0 {
		p.acted = true
		p.ports.Roster.Succeed(ids...)
	}
}
