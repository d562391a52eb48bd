package desired

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/message"
	"cloudmaster/internal/pool"
	"cloudmaster/internal/queue"
	"cloudmaster/services/controller/internal/driver"
	"cloudmaster/services/controller/internal/post"
	"cloudmaster/services/controller/internal/roster"
)

// Post are the queues that the whole deployment has once. One without a name does not exist.
type Post struct {
	Hints  Queue // from programs that send work
	Events Queue // from clouds
	// Count counts what became of the messages, for metrics; nil: nobody counts.
	Count func(use, outcome string, n int)
}

const (
	checkInterval = 5 * time.Minute // between two looks for instances that a cloud is about to end
	checkGap      = 10 * time.Second
	checkTimeout  = 30 * time.Second
)

// startPost starts the tasks of the deployment's own queues, once.
func (p *Pools) startPost() {
	if p.posted {
		return
	}
	p.posted = true
	if p.parts.Post.Hints.Name != "" {
		p.startBox(post.Options{
			Use: "hints", Until: "work is found at the next look (poll_interval)", Take: p.takeHint,
		}, p.parts.Post.Hints)
	}
	if p.parts.Post.Events.Name != "" {
		p.startBox(post.Options{
			Use: "events", Take: p.takeEvent, Ready: p.knowsInstances,
			Until: "what the cloud says of instances that it is about to end is learned late, or from them alone",
		}, p.parts.Post.Events)
	}
}

func (p *Pools) startBox(opts post.Options, q Queue) {
	opts.Name, opts.Lead, opts.Count, opts.Wait = q.Name, p.parts.Lead, p.parts.Post.Count, p.parts.Wait
	opts.Now, opts.Log, opts.Pause = p.parts.Now, p.parts.Log, p.parts.Pause
	opts.Open = func(ctx context.Context, name string) (post.Queue, error) {
		opened, err := p.parts.OpenQueue(ctx, name, q.Limits)
		if err != nil {
			return nil, err
		}
		return opened, nil
	}
	p.parts.Start(post.New(opts).Task())
}

// now returns the units and clouds as they are now; others may change meanwhile which there are.
func (p *Pools) now() (units []*unit, clouds map[pool.CloudName]*machines) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Values(p.units)), maps.Clone(p.clouds)
}

// takeHint has the pool whose work queue a hint names look at that.
func (p *Pools) takeHint(_ context.Context, body []byte) post.Taken {
	h, err := message.ParseHint(body)
	if err != nil {
		return post.Taken{Outcome: "unparsable", Err: err}
	}
	units, _ := p.now()
	for _, u := range units {
		if u.hinted == h.Queue {
			u.loop.Hint()
			u.wake.Up()
			return post.Taken{Outcome: "hint"}
		}
	}
	return post.Taken{Outcome: "unknown"} // of a pool that was removed, or of nobody
}

// unlisted returns how many pools of a cloud have not taken in a list yet, of how many. Until none is left, it cannot
// be told which instances are ours. An empty name stands for all clouds.
func (p *Pools) unlisted(name pool.CloudName) (unlisted, all int) {
	units, _ := p.now()
	for _, u := range units {
		if name != "" && u.cloud != name {
			continue
		}
		if all++; u.roster.Listed().IsZero() {
			unlisted++
		}
	}
	return unlisted, all
}

// knowsInstances reports whether some instances are known, if there are pools. What is said of others waits on the
// queue as long as some pool has taken in no list (see takeEvent), so that a cloud that cannot be listed keeps nothing
// from other clouds' pools.
func (p *Pools) knowsInstances() bool {
	unlisted, all := p.unlisted("")
	return unlisted < all || all == 0
}

// takeEvent hands what a cloud says to the pools whose instances it is about.
func (p *Pools) takeEvent(ctx context.Context, body []byte) post.Taken {
	_, clouds := p.now()
	var errs []error
	best := post.Taken{Outcome: foreign}
	parsed := false
	for _, name := range slices.Sorted(maps.Keys(clouds)) {
		m := clouds[name]
		if m.ParseEvent == nil {
			continue
		}
		e, err := m.ParseEvent(body)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		parsed = true
		said := p.hear(ctx, name, m, &e)
		again := said.Again || best.Again
		if said.Outcome != foreign {
			best = said
		}
		best.Again = again
	}
	if !parsed {
		return post.Taken{Outcome: "unparsable", Err: errors.Join(errs...)}
	}
	return best
}

// foreign is how metrics call events about no instance of ours.
const foreign = "foreign"

// hear does what an event of a cloud asks for. It should come again if it is about instances that nobody knows, and a
// pool of that cloud may have them: no list of it has been taken in yet.
func (p *Pools) hear(ctx context.Context, name pool.CloudName, m *machines, e *cloud.Event) post.Taken {
	out := post.Taken{Outcome: foreign}
	unlisted, _ := p.unlisted(name) // asked first, because a list may come in meanwhile
	known := 0
	units, _ := p.now()
	for _, u := range units {
		if u.cloud != name {
			continue
		}
		for _, id := range e.Instances {
			if u.roster.Has(id) {
				known++
				out.Outcome = outcomes[e.Says]
				out.Again = p.said(ctx, u, m, id, e) || out.Again
			}
		}
	}
	out.Again = out.Again || unlisted > 0 && known < len(e.Instances)
	return out
}

// outcomes are how metrics call events about instances that are ours.
var outcomes = map[cloud.Saying]string{
	cloud.Ends: "ends", cloud.Changed: "changed", cloud.Look: "look", cloud.Noted: "noted", cloud.Ignored: "ignored",
}

// said does what an event asks for about one instance of a pool. It reports whether the event should come again.
func (p *Pools) said(ctx context.Context, u *unit, m *machines, id pool.InstanceID, e *cloud.Event) (again bool) {
	switch e.Says {
	case cloud.Ends:
		if u.roster.Announce(id, e.Reason) != roster.Entered {
			return false
		}
		u.wake.Up()
		return true
	case cloud.Changed:
		m.inventory.Refresh()
	case cloud.Look:
		m.checks.Up()
	case cloud.Noted:
		if m.isNews(id, e.Reason) {
			p.parts.Log.WarnContext(ctx, "the cloud announces something for an instance that does not end it",
				"pool", u.name, "instance", string(id), "reason", e.Reason)
		}
	case cloud.Ignored:
	}
	return false
}

// mostNoted bounds what is remembered of instances that go on.
const mostNoted = 1000

// isNews reports whether this was not said of the instance last, and remembers that it is.
func (m *machines) isNews(id pool.InstanceID, reason string) bool {
	m.notedMu.Lock()
	defer m.notedMu.Unlock()
	if m.noted[id] == reason {
		return false
	}
	if len(m.noted) >= mostNoted {
		clear(m.noted)
	}
	m.noted[id] = reason
	return true
}

// check is the task that looks for instances that a cloud is about to end.
func (p *Pools) check(name pool.CloudName, m *machines, from cloud.Checker) driver.Task {
	failed := false
	return driver.Task{
		Name: "checks/" + string(name), Wake: m.checks,
		Step: func(ctx context.Context, now time.Time) (driver.Again, error) {
			if unlisted, _ := p.unlisted(name); unlisted > 0 {
				return driver.Again{At: now.Add(time.Second), NotBefore: now.Add(time.Second)}, nil
			}
			bounded, cancel := context.WithTimeout(ctx, checkTimeout)
			defer cancel()
			events, err := from.Check(bounded)
			if ctx.Err() == nil && (err != nil) != failed {
				failed = err != nil
				p.sayCheck(ctx, name, err)
			}
			for i := range events {
				p.hear(ctx, name, m, &events[i])
			}
			ended := p.parts.Now()
			return driver.Again{At: ended.Add(checkInterval), NotBefore: ended.Add(checkGap)}, nil
		},
	}
}

func (p *Pools) sayCheck(ctx context.Context, name pool.CloudName, err error) {
	log := p.parts.Log.With("cloud", string(name))
	if err == nil {
		log.InfoContext(ctx, "scheduled events and status checks of instances can be looked at again")
		return
	}
	log.WarnContext(ctx, "scheduled events and status checks of instances cannot be looked at; instances that are "+
		"about to end may be replaced late", "error", strings.TrimSpace(err.Error()))
}

var _ post.Queue = queue.Queue(nil)
