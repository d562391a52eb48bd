package loop

import (
	"context"
	"slices"
	"strings"
	"time"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/policy"
	"cloudmaster/internal/pool"
	"cloudmaster/services/controller/internal/record"
)

// preview is what the cloud said last of what a launch would make.
type preview struct {
	cloud.Preview

	image   string    // that it is of
	again   time.Time // after a failure it is not asked before this
	balance policy.Balance
}

// previewPause is how long a cloud that could not tell is not asked again.
const previewPause = time.Minute

// foresee asks the cloud what a launch would make now, if it can tell. While it cannot, what it said last counts.
func (p *pass) foresee(ctx context.Context) {
	teller, can := p.ports.Cloud.(cloud.Previewer)
	m := &p.memory.preview
	if m.image != p.opts.Image {
		m.Preview, m.image, m.again = cloud.Preview{}, p.opts.Image, time.Time{}
	}
	if !can || !p.opts.Judge.Rollout.On() || p.now.Before(m.again) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, tagTimeout)
	defer cancel()
	said, err := teller.Preview(ctx, p.ports.Pool, p.opts.Image)
	if err != nil {
		p.rec.Rollout.Unknown, m.again = err.Error(), p.now.Add(previewPause)
		return
	}
	m.Preview = said
}

// version names what a launch would make: what instances are launched as, and what the name of the image stands for.
func (v *preview) version(launchedAs string) string {
	if launchedAs == "" {
		return ""
	}
	return strings.Join(append([]string{launchedAs}, v.Images...), " ")
}

// rests reports whether launches pause, so that no outdated instance can be replaced.
func (p *pass) rests() bool { return p.launcher.Next().After(p.now) || p.launcher.Wait() != nil }

// noteRollout remembers what this pass found out about the replacement of outdated instances.
func (p *pass) noteRollout() {
	m, now := &p.memory, &p.rec.Rollout
	m.trial = p.trial
	now.Changed = now.State != m.rolling.State
	m.rolling = now.Rolling
}

// noteMove remembers that a successor was asked for to make the pool more level, or that an instance was ended for that
// before its successor was there.
func (p *pass) noteMove() {
	moved := slices.ContainsFunc(p.rec.Endings, func(e record.Ending) bool {
		done := e.Act != record.StopAgain && !e.Spared && !e.Unpublished
		return done && e.Drift == pool.OtherZone && e.Successor == ""
	})
	for i := range p.rec.Launches {
		surge := p.rec.Decision.Surge && !p.rec.Launches[i].Again
		moved = moved || surge && p.rec.Rollout.Outdated[pool.OtherZone] > 0
	}
	if v := &p.memory.preview; moved {
		v.balance = v.balance.Moved(p.now, p.gap, v.Open)
	}
}

// noteOwed remembers how many outdated instances this pass and those before have ended of which no successor could be
// launched yet.
func (p *pass) noteOwed() {
	owed := p.owed - len(p.rec.Reactivated)
	for i := range p.rec.Endings {
		e := &p.rec.Endings[i]
		if e.Cause != pool.Outdated || e.Successor != "" || e.Act == record.StopAgain || e.Spared || e.Unpublished {
			continue
		}
		if in := p.rec.Seen.Find(e.Instance); in != nil && !in.Surge {
			owed++
		}
	}
	for i := range p.rec.Starts {
		if p.rec.Starts[i].Outcome != record.StartRefused && !p.rec.Starts[i].Again {
			owed--
		}
	}
	for i := range p.rec.Launches {
		switch l := &p.rec.Launches[i]; {
		case p.rec.Decision.Surge, l.Again: // it was taken off when it was asked for first
		case l.Open: // it may have taken effect
			owed -= l.Asked
		default:
			owed -= len(l.Started)
		}
	}
	p.memory.owed = max(0, owed)
}

// succeed has instances count as all others that were launched to take the place of outdated ones. Their tags are
// written at the end of the pass.
func (p *pass) succeed() {
	if ids := p.rec.Decision.Succeed; len(ids) > 0 {
		p.acted = true
		p.ports.Roster.Succeed(ids...)
	}
}
