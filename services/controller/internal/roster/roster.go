// Package roster keeps what the controller knows of each instance of one pool: what the cloud lists, and what
// the instance last reported. The snapshot that policies look at is made from it.
//
// What the cloud lists comes first. The roster remembers only what no list can tell: instances that were
// launched and are not listed yet (they are expected until a deadline), which instances this controller has
// told to end, and the last status of each. Everything else is read from the list and from the tags of the
// instances, so a controller that starts adopts the instances that run.
package roster

import (
	"cmp"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"cloudmaster/internal/activeset"
	"cloudmaster/internal/cloud"
	"cloudmaster/internal/pool"
)

// Options of a Roster; the zero value works.
type Options struct {
	ServicePort int           // added to the cloud's address of an instance that reports no address
	ListLag     time.Duration // how long a launched instance may be missing from lists; 0 means DefaultListLag
}

// DefaultListLag is longer than needed as a rule: EC2's lists are usually seconds behind, and minutes at
// worst.
const DefaultListLag = 2 * time.Minute

// Roster knows the instances of one pool. All methods may be called concurrently.
type Roster struct {
	cloud pool.CloudName
	opts  Options

	mu        sync.Mutex
	entries   map[pool.InstanceID]*entry // guarded by mu
	strays    map[pool.InstanceID]stray  // guarded by mu; statuses of instances that are not listed
	heard     uint64                     // guarded by mu; how many statuses of known instances were accepted
	listening time.Time                  // guarded by mu; since when statuses reach us; zero: they do not
	listed    time.Time                  // guarded by mu; when the newest list was asked for; zero: none yet
}

// entry is what is known of one instance.
type entry struct {
	pool.Instance
	phase  cloud.Phase
	host   string     // its address as the cloud lists it
	said   string     // the address it reported
	tagged pool.State // the state that its tags say
	// expected is set for an instance that this controller launched and that is not listed yet. If a list
	// that was asked for from then on does not have it, it is gone. Zero: it has been listed.
	expected time.Time
	ending   pool.Ending        // why it was told to end; the cause is empty if it was not told
	forced   bool               // it was told to end although it was at work
	ended    time.Time          // when the cloud accepted to end it; zero if it has not
	seed     activeset.Instance // what a controller before this one published of it; zero: nothing
	stamp    stamp              // of its newest status
	heardNo  uint64             // number of its newest status among all accepted statuses of the pool
	logged   []stamp            // of its newest log messages, to recognise those that a queue delivers twice
}

// New returns an empty roster. It knows nothing until the first Observe.
func New(cloudName pool.CloudName, opts Options) *Roster {
	opts.ListLag = cmp.Or(opts.ListLag, DefaultListLag)
	return &Roster{
		cloud: cloudName, opts: opts,
		entries: make(map[pool.InstanceID]*entry), strays: make(map[pool.InstanceID]stray),
	}
}

// Changes is what is new in a list. Its lists are sorted by instance.
type Changes struct {
	Adopted []pool.InstanceID // only in the first list: they ran before this controller did
	Outside []pool.Ending     // the cloud is ending them although this controller did not ask for it
	// Gone are instances that are not listed any more. If they were told to end, the cause is the one for
	// which they were told.
	Gone []pool.Ending
}

// Observe takes a list of the pool's instances that was asked for at the given time.
func (r *Roster) Observe(list []cloud.Instance, at, now time.Time) Changes {
	r.mu.Lock()
	defer r.mu.Unlock()
	var c Changes
	if !at.After(r.listed) {
		return c // this list, or a newer one, has been taken in before
	}
	first := r.listed.IsZero()
	r.listed = at
	listed := make(map[pool.InstanceID]bool, len(list))
	for i := range list {
		id := list[i].ID
		listed[id] = true
		isNew, outside := r.see(&list[i], now)
		if isNew && first {
			c.Adopted = append(c.Adopted, id)
		}
		if outside {
			c.Outside = append(c.Outside, pool.Ending{Instance: id, Cause: pool.Outside, Load: r.entries[id].Load})
		}
	}
	for id, ent := range r.entries {
		if listed[id] || at.Before(ent.expected) {
			continue
		}
		delete(r.entries, id)
		c.Gone = append(c.Gone, ent.reason())
	}
	r.dropStrays(now)
	slices.Sort(c.Adopted)
	byInstance := func(a, b pool.Ending) int { return cmp.Compare(a.Instance, b.Instance) }
	slices.SortFunc(c.Outside, byInstance)
	slices.SortFunc(c.Gone, byInstance)
	return c
}

// reason returns why an instance ends: the cause for which it was told to, or pool.Outside if this controller
// did not tell it.
func (ent *entry) reason() pool.Ending {
	if ent.ending.Cause == "" {
		return pool.Ending{Instance: ent.ID, Cause: pool.Outside, Load: ent.Load}
	}
	return ent.ending
}

// see brings one entry up to date. It reports whether the instance is new, and whether it has begun to end
// without this controller having asked for it.
func (r *Roster) see(in *cloud.Instance, now time.Time) (isNew, outside bool) {
	ent, known := r.entries[in.ID]
	if !known {
		ent = r.add(in, now)
	}
	ent.expected = time.Time{}
	outside = ent.take(in, now)
	r.adoptStray(ent)
	return !known, outside
}

// take enters what the cloud lists of an instance. It reports whether the instance has begun to end without
// this controller having asked for it: then somebody else, or a controller before this one, has ended it.
func (ent *entry) take(in *cloud.Instance, now time.Time) (outside bool) {
	ent.phase, ent.host = in.Phase, in.Address
	ent.tagged = pool.ParseState(in.Tags[cloud.TagState])
	if in.Phase != cloud.Terminating || ent.State == pool.Stopping {
		return false
	}
	ent.become(pool.Stopping, now)
	return true
}

// add makes the entry of an instance that was not known, from its tags.
func (r *Roster) add(in *cloud.Instance, now time.Time) *entry {
	ent := &entry{Instance: pool.Instance{
		ID: in.ID, Cloud: r.cloud, Launched: in.Launched, HeardAt: now,
		State: pool.ParseState(in.Tags[cloud.TagState]), StateSince: in.Launched,
	}}
	if since, err := time.Parse(time.RFC3339Nano, in.Tags[cloud.TagStateSince]); err == nil {
		ent.StateSince = since
	}
	switch ent.State {
	case pool.Active:
		ent.ActiveAt = ent.StateSince
	case pool.ShutDown, pool.Startup:
	case pool.Unknown, pool.Stopping: // there is no such tag, or it has a value that a controller never writes
		ent.State = pool.Startup
	}
	r.entries[in.ID] = ent
	return ent
}

// Launched enters the instances that a launch returned. They are part of the pool from now on, and lists are
// expected to show them within Options.ListLag.
func (r *Roster) Launched(list []cloud.Instance, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range list {
		if r.entries[list[i].ID] != nil {
			continue // a list has shown it first, or an earlier answer to this launch has
		}
		ent := r.add(&list[i], now)
		ent.expected = now.Add(r.opts.ListLag)
		ent.take(&list[i], now)
		r.adoptStray(ent)
	}
}

// Mark changes the state of an instance, if the state machine allows it.
func (r *Roster) Mark(id pool.InstanceID, state pool.State, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	ent := r.entries[id]
	if ent == nil || !ent.State.CanBecome(state) {
		return false
	}
	ent.become(state, now)
	return true
}

// End marks an instance as stopping. heard is how many statuses had been accepted when the snapshot was made.
// If the instance has reported since, End does nothing and returns false, because what was decided about it
// may be wrong by now.
func (r *Roster) End(e pool.Ending, heard uint64, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	ent := r.entries[e.Instance]
	if ent == nil || !ent.State.CanBecome(pool.Stopping) || ent.heardNo > heard {
		return false
	}
	ent.become(pool.Stopping, now)
	ent.ending, ent.forced = e, ent.atWork()
	return true
}

func (ent *entry) atWork() bool { return ent.Busy || ent.Load > 0 }

func (ent *entry) become(state pool.State, now time.Time) {
	ent.State, ent.StateSince = state, now
	if state == pool.Active {
		ent.ActiveAt = now
	}
}

// Ready lists the instances in startup that have reported, so that they can become active.
func (r *Roster) Ready() []pool.InstanceID {
	return r.which(func(ent *entry) bool { return ent.State == pool.Startup && !ent.ReportedAt.IsZero() })
}

// Untold lists the instances that should have ended, but which the cloud does not show as ending and has not
// accepted to end lately. They must be told (again), with the cause for which they were told first. An
// instance that was idle and has found work since may finish that work first.
func (r *Roster) Untold(now time.Time) []pool.Ending {
	ids := r.which(func(ent *entry) bool {
		return ent.State == pool.Stopping && ent.phase != cloud.Terminating && now.Sub(ent.ended) > r.opts.ListLag &&
			(ent.forced || !ent.atWork())
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []pool.Ending
	for _, id := range ids {
		if ent := r.entries[id]; ent != nil {
			out = append(out, ent.reason())
		}
	}
	return out
}

// Ended notes that the cloud has accepted to end these instances. It may take a while until lists show that.
func (r *Roster) Ended(now time.Time, ids ...pool.InstanceID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range ids {
		if ent := r.entries[id]; ent != nil {
			ent.ended = now
		}
	}
}

// Tagging is what the tags of some instances should say.
type Tagging struct {
	State pool.State
	Since time.Time
	IDs   []pool.InstanceID // sorted
}

// Tags returns the tags.
func (t *Tagging) Tags() map[string]string {
	return map[string]string{
		cloud.TagState: t.State.String(), cloud.TagStateSince: t.Since.UTC().Format(time.RFC3339Nano),
	}
}

// Mistagged lists the instances whose tags do not say their state, grouped by the tags that they should have,
// so that few calls are needed. Instances that are ending need no tags.
func (r *Roster) Mistagged() []Tagging {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []Tagging
	for id, ent := range r.entries {
		if ent.tagged == ent.State || ent.State == pool.Stopping {
			continue
		}
		i := slices.IndexFunc(out,
			func(t Tagging) bool { return t.State == ent.State && t.Since.Equal(ent.StateSince) })
		if i < 0 {
			i = len(out)
			out = append(out, Tagging{State: ent.State, Since: ent.StateSince})
		}
		out[i].IDs = append(out[i].IDs, id)
	}
	for i := range out {
		slices.Sort(out[i].IDs)
	}
	slices.SortFunc(out, func(a, b Tagging) int { return cmp.Compare(a.IDs[0], b.IDs[0]) })
	return out
}

// Tagged notes that the instances have been tagged.
func (r *Roster) Tagged(t Tagging) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range t.IDs {
		if ent := r.entries[id]; ent != nil {
			ent.tagged = t.State
		}
	}
}

// Present returns how many instances there are, whatever their state, without those that the cloud has
// accepted to end.
func (r *Roster) Present() int {
	return len(r.which(func(ent *entry) bool { return ent.phase != cloud.Terminating && ent.ended.IsZero() }))
}

func (r *Roster) which(is func(*entry) bool) []pool.InstanceID {
	r.mu.Lock()
	defer r.mu.Unlock()
	var ids []pool.InstanceID
	for id, ent := range r.entries {
		if is(ent) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// Serving returns the members of the active set, sorted by id: the instances that are active, have an
// address, and whose tags do not say that they are draining. The tags matter because a controller that takes
// over goes by them. Until an instance has reported to this controller, its load is the one that the
// controller before this one published.
func (r *Roster) Serving() []activeset.Instance {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := []activeset.Instance{}
	for id, ent := range r.entries {
		if ent.State != pool.Active || ent.tagged == pool.ShutDown || r.address(ent) == "" {
			continue
		}
		member := activeset.Instance{ID: id, Address: r.address(ent), Load: ent.Load, ReportedAt: ent.ReportedAt}
		if ent.ReportedAt.IsZero() {
			member.Load, member.ReportedAt = ent.seed.Load, ent.seed.ReportedAt
		}
		out = append(out, member)
	}
	slices.SortFunc(out, func(a, b activeset.Instance) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// Instances returns all instances as a snapshot needs them, sorted by id.
func (r *Roster) Instances(now time.Time) []pool.Instance {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]pool.Instance, 0, len(r.entries))
	for _, ent := range r.entries {
		in := ent.Instance
		in.Address = r.address(ent)
		in.HeardAt = r.heardAt(ent, now)
		out = append(out, in)
	}
	pool.SortInstances(out)
	return out
}

// heardAt returns from when the silence of an instance counts: at the earliest from when statuses could reach
// this controller (again), because before that nobody could be heard.
func (r *Roster) heardAt(ent *entry, now time.Time) time.Time {
	if r.listening.IsZero() {
		return now
	}
	if ent.HeardAt.Before(r.listening) {
		return r.listening
	}
	return ent.HeardAt
}

// address returns the address that the instance has reported, or else the cloud's address with the port of
// the pool's service.
func (r *Roster) address(ent *entry) string {
	if ent.said != "" {
		return ent.said
	}
	if ent.host == "" || r.opts.ServicePort == 0 {
		return ""
	}
	return net.JoinHostPort(ent.host, strconv.Itoa(r.opts.ServicePort))
}

// Seed takes loads and addresses from the active set that a controller before this one wrote, so that a
// restart does not empty the published set. What an instance reports itself replaces them. Policies never see
// these loads, because an instance may have reported others to the earlier controller after the set was
// written.
func (r *Roster) Seed(set activeset.Set, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range set.Instances {
		in := &set.Instances[i]
		ent := r.entries[in.ID]
		if ent == nil || !ent.ReportedAt.IsZero() || in.ReportedAt.IsZero() || in.ReportedAt.After(now.Add(tolerance)) {
			continue
		}
		ent.said, ent.seed = in.Address, *in
		ent.stamp = stamp{at: in.ReportedAt}
	}
}
