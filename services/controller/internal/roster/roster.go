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
	"slices"
	"sync"
	"time"

	"cloudmaster/internal/activeset"
	"cloudmaster/internal/cloud"
	"cloudmaster/internal/pool"
)

// Options of a Roster; the zero value works.
type Options struct {
	ServicePort int // added to the cloud's address of an instance that reports no address
	// AnyAddress has clients sent to whatever address an instance reports. Otherwise its host must be one by which the
	// cloud knows the instance, if the cloud knows any.
	AnyAddress bool
	ListLag    time.Duration // how long a launched instance may be missing from lists; 0 means DefaultListLag
}

// DefaultListLag is longer than needed as a rule: EC2's lists are usually seconds behind, and minutes at
// worst.
const DefaultListLag = 2 * time.Minute

// Roster knows the instances of one pool. All methods may be called concurrently.
type Roster struct {
	cloud pool.CloudName
	opts  Options

	mu        sync.Mutex
	records   map[pool.InstanceID]*record // guarded by mu
	strays    map[pool.InstanceID]stray   // guarded by mu; statuses of instances that are not listed
	graves    map[pool.InstanceID]grave   // guarded by mu; were told to end and are gone; a late list may show them
	heard     uint64                      // guarded by mu; how many statuses of known instances were accepted
	listening time.Time                   // guarded by mu; since when statuses reach us; zero: they do not
	listed    time.Time                   // guarded by mu; when the newest list was asked for; zero: none yet
	wanted    Wanted                      // guarded by mu; what a launch would make now
}

// record is what is known of one instance.
type record struct {
	pool.Instance
	phase    cloud.Phase
	host     string             // its address as the cloud lists it
	hosts    []string           // the names and addresses by which the cloud knows it
	why      string             // why it ends, in the cloud's words
	said     string             // the address it reported
	tagged   pool.State         // the state that its tags say
	noted    bool               // its tags say that it is about to end
	wordKept bool               // its tags have what the cloud has announced
	surging  bool               // its tags say that it is Surge
	version  string             // what it was launched as; empty: it does not say
	image    string             // the cloud's id of its image; empty if the cloud does not know
	expected time.Time          // lists that were asked for before this may lack it, because they are behind
	listed   bool               // a list has shown it
	missing  bool               // the newest list lacks it
	told     bool               // it was said that it is gone, before a late list had it once more
	ours     bool               // this controller has launched it, so that no other one has ended it
	begun    time.Time          // when it has, by its own clock; zero: it has not
	ending   pool.Ending        // why it was told to end; the cause is empty if it was not told
	forced   bool               // it was told to end although it was at work
	ended    time.Time          // when the cloud accepted to end it; zero if it has not
	seed     activeset.Instance // what a controller before this one published of it; zero: nothing
	stamp    stamp              // of its newest status, by its own clock
	ahead    time.Duration      // by how much that clock is ahead of ours, as far as we know; never less than 0
	heardNo  uint64             // number of its newest status among all accepted statuses of the pool
	lives                       // if it is, or was, of the warm pool
	logged   []stamp            // of its newest log messages, to recognise those that a queue delivers twice
}

// grave is what is kept of an instance that was told to end and that lists do not show any more. A later list may
// show it once more, because lists can be behind by different times; then it is still an instance that was told to end.
type grave struct {
	record *record
	dug    time.Time // when the first list was asked for that lacked it
}

// New returns an empty roster. It knows nothing until the first Observe.
func New(cloudName pool.CloudName, opts Options) *Roster {
	opts.ListLag = cmp.Or(opts.ListLag, DefaultListLag)
	return &Roster{
		cloud: cloudName, opts: opts,
		records: make(map[pool.InstanceID]*record), strays: make(map[pool.InstanceID]stray),
		graves: make(map[pool.InstanceID]grave),
	}
}

// SetAddresses changes the port of instances that report no address, and which addresses count.
func (r *Roster) SetAddresses(servicePort int, anyAddress bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.opts.ServicePort, r.opts.AnyAddress = servicePort, anyAddress
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
	listed := make(map[pool.InstanceID]bool, len(list)) // false: it is listed as terminated
	for i := range list {
		id := list[i].ID
		if listed[id] = list[i].Phase != cloud.Terminated; !listed[id] {
			if rec := r.records[id]; rec != nil {
				rec.why = cmp.Or(list[i].Reason, rec.why)
			}
			continue
		}
		isNew, outside := r.see(&list[i], now)
		if isNew && first {
			c.Adopted = append(c.Adopted, id)
		}
		if outside {
			c.Outside = append(c.Outside, r.records[id].reason())
		}
	}
	for id, rec := range r.records {
		runs, shown := listed[id]
		rec.missing = !runs
		if runs || !shown && rec.maybeLate(at) {
			continue
		}
		delete(r.records, id)
		if !rec.told {
			c.Gone = append(c.Gone, rec.reason())
		}
		if rec.told = true; rec.State == pool.Stopping {
			r.graves[id] = grave{record: rec, dug: at}
		}
	}
	for id, g := range r.graves {
		if at.Sub(g.dug) > r.opts.ListLag {
			delete(r.graves, id)
		}
	}
	r.dropStrays(now)
	slices.Sort(c.Adopted)
	byInstance := func(a, b pool.Ending) int { return cmp.Compare(a.Instance, b.Instance) }
	slices.SortFunc(c.Outside, byInstance)
	slices.SortFunc(c.Gone, byInstance)
	return c
}

// maybeLate reports whether a list that was asked for at the given time may lack the instance although it is there.
// For one that was told to end, and was listed before, that does not matter: nobody counts on it, and if a later list
// shows it after all, it is entered again as it was (see grave).
func (rec *record) maybeLate(at time.Time) bool {
	return at.Before(rec.expected) && (!rec.listed || rec.State != pool.Stopping)
}

// reason returns why an instance ends: the cause for which it was told to. If this controller did not tell it, that is
// pool.Interrupted if the instance or its cloud has announced its end, else pool.Outside.
func (rec *record) reason() pool.Ending {
	switch {
	case rec.ending.Cause != "":
		return rec.ending
	case rec.Interrupted:
		why := cmp.Or(rec.why, rec.Announced)
		return pool.Ending{Instance: rec.ID, Cause: pool.Interrupted, Load: rec.Load, Reason: why}
	}
	return pool.Ending{
		Instance: rec.ID, Cause: pool.Outside, Load: rec.Load, Reason: rec.why,
		Unheard: rec.ours && rec.ReportedAt.IsZero(),
	}
}

// see brings one record up to date. It reports whether the instance is new, and whether it has begun to end
// without this controller having asked for it.
func (r *Roster) see(in *cloud.Instance, now time.Time) (isNew, outside bool) {
	rec, known := r.records[in.ID]
	if !known {
		rec = r.add(in, now)
	}
	rec.listed = true
	outside = rec.take(in, r.listed, now)
	r.adoptStray(rec)
	return !known, outside
}

// take enters what the cloud lists of an instance. It reports whether the instance has begun to end, or was stopped,
// without this controller having asked for it: then somebody else, or a controller before this one, has done it. One
// that was stopped does no work, and is told to end like one that did not when it was told before (see Untold), unless
// it is of the warm pool. The list was asked for at the given time.
func (rec *record) take(in *cloud.Instance, at, now time.Time) (outside bool) {
	rec.phase, rec.host, rec.hosts = in.Phase, in.Address, in.Hosts
	rec.Type, rec.Zone, rec.Spot = in.Type, in.Zone, in.Spot
	rec.made(in)
	rec.tagged, rec.noted = pool.ParseState(in.Tags[cloud.TagState]), in.Tags[cloud.TagInterrupted] == isInterrupted
	rec.wordKept = in.Tags[cloud.TagAnnounced] != ""
	rec.recall(in.Tags)
	rec.why = cmp.Or(in.Reason, rec.why)
	if meant := rec.rouses(at, now); meant || rec.State == pool.Stopping ||
		in.Phase != cloud.Terminating && !asleep(in.Phase) {
		return false
	}
	rec.become(pool.Stopping, now)
	return true
}

// add makes the record of an instance that was not known, from its tags.
func (r *Roster) add(in *cloud.Instance, now time.Time) *record {
	if g, found := r.graves[in.ID]; found {
		r.records[in.ID] = g.record
		return g.record
	}
	launched := earlier(in.Launched, now) // the cloud's clock may be ahead of ours
	rec := &record{Instance: pool.Instance{
		ID: in.ID, Cloud: r.cloud, Launched: launched, HeardAt: now,
		State: pool.ParseState(in.Tags[cloud.TagState]), StateSince: launched,
		Interrupted: in.Tags[cloud.TagInterrupted] == isInterrupted, Surge: in.Tags[cloud.TagSurge] == isSurge,
	}}
	if since, err := time.Parse(time.RFC3339Nano, in.Tags[cloud.TagStateSince]); err == nil {
		rec.StateSince = earlier(since, now)
	}
	switch rec.State {
	case pool.Active:
		rec.ActiveAt = rec.StateSince
	case pool.ShutDown, pool.Startup, pool.Warming, pool.Warm:
	case pool.Unknown, pool.Stopping: // there is no such tag, or it has a value that a controller never writes
		rec.State = pool.Startup
	}
	rec.expected = launched.Add(r.opts.ListLag)
	r.readLives(rec, in, now)
	r.records[in.ID] = rec
	return rec
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// Launched enters the instances that a launch returned. They are part of the pool from now on, and lists are
// expected to show them within Options.ListLag.
func (r *Roster) Launched(list []cloud.Instance, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range list {
		if rec := r.records[list[i].ID]; rec != nil { // a list has shown it first, or an earlier answer to this launch
			rec.ours, rec.begun = true, now
			continue
		}
		rec := r.add(&list[i], now)
		rec.expected, rec.ours, rec.begun = now.Add(r.opts.ListLag), true, now
		rec.take(&list[i], now, now)
		r.adoptStray(rec)
	}
}

// Mark changes the state of an instance, if the state machine allows it. One that drains and is about to end does not
// become active again.
func (r *Roster) Mark(id pool.InstanceID, state pool.State, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := r.records[id]
	if rec == nil || !rec.State.CanBecome(state) {
		return false
	}
	if state == pool.Active && rec.State == pool.ShutDown && rec.Interrupted {
		return false
	}
	rec.become(state, now)
	return true
}

// End marks an instance as stopping. heard is how many statuses had been accepted when the snapshot was made.
// If the instance has reported since, End does nothing and returns false, because what was decided about it
// may be wrong by now.
func (r *Roster) End(e pool.Ending, heard uint64, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := r.records[e.Instance]
	if rec == nil || !rec.State.CanBecome(pool.Stopping) || rec.heardNo > heard {
		return false
	}
	rec.become(pool.Stopping, now)
	rec.ending, rec.forced = e, rec.atWork()
	return true
}

func (rec *record) atWork() bool { return rec.Busy || rec.Load > 0 }

func (rec *record) become(state pool.State, now time.Time) {
	rec.State, rec.StateSince = state, now
	if state == pool.Active {
		rec.ActiveAt = now
	}
}

// Ready lists the instances in startup that have reported, so that they can become active, and those that were launched
// to be stopped and have found work.
func (r *Roster) Ready() []pool.InstanceID {
	return r.which(func(rec *record) bool {
		boots := rec.State == pool.Startup || rec.State == pool.Warming && rec.atWork()
		return boots && !rec.ReportedAt.IsZero()
	})
}

// Untold lists the instances that should have ended, but which the cloud does not show as ending and has not accepted
// to end lately. They must be told (again), with the cause for which they were told first. An instance that was idle
// and has found work since may finish that work first, unless it must end by now (Ending.Due) or is lost.
func (r *Roster) Untold(now time.Time, lost func(*pool.Instance) bool) []pool.Ending {
	mayWork := func(rec *record) bool {
		due := rec.ending.Due
		return (due.IsZero() || now.Before(due)) && r.occupied(rec, now, lost)
	}
	ids := r.which(func(rec *record) bool {
		return rec.State == pool.Stopping && rec.phase != cloud.Terminating &&
			now.Sub(rec.ended) > r.opts.ListLag && !mayWork(rec)
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []pool.Ending
	for _, id := range ids {
		if rec := r.records[id]; rec != nil {
			out = append(out, rec.reason())
		}
	}
	return out
}

// Ended notes that the cloud has accepted to end these instances. It may take a while until lists show that.
func (r *Roster) Ended(now time.Time, ids ...pool.InstanceID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range ids {
		if rec := r.records[id]; rec != nil {
			rec.ended = now
		}
	}
}

func (r *Roster) which(is func(*record) bool) []pool.InstanceID {
	r.mu.Lock()
	defer r.mu.Unlock()
	var ids []pool.InstanceID
	for id, rec := range r.records {
		if is(rec) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
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
		rec := r.records[in.ID]
		if rec == nil || !rec.ReportedAt.IsZero() || in.ReportedAt.IsZero() || in.ReportedAt.After(now.Add(tolerance)) {
			continue
		}
		if rec.State == pool.Startup { // its tags could not be written; but it was published, so it was active
			rec.become(pool.Active, now)
		}
		rec.said, rec.seed = in.Address, *in
		rec.stamp = stamp{at: in.ReportedAt}
	}
}
