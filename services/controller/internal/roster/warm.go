package roster

import (
	"cmp"
	"slices"
	"time"

	"cloudmaster/internal/activeset"
	"cloudmaster/internal/cloud"
	"cloudmaster/internal/message"
	"cloudmaster/internal/pool"
)

// An instance of the warm pool has several lives: it is stopped, and later started again with the same id. What is
// known of one life says nothing of the next, and the words of a former life may arrive late.

// startTimeout is how long a call that starts an instance may take.
const startTimeout = 30 * time.Second

// lives is what is known of the lives of an instance of the warm pool.
type lives struct {
	started time.Time // when its present life began; zero: it was never started out of the warm pool
	before  stamp     // of the newest status of the life before
	woke    bool      // a list has shown that it runs since it was started
	unsure  bool      // it is not known whether the start took effect
	asked   time.Time // when it was last told to start
	certain time.Time // lists that were asked for before this may show it as stopped although it was started
	rests   time.Time // it is not started before this, because the cloud refused that
}

// startedForm is how tags say when an instance of the warm pool was started.
const startedForm = time.RFC3339Nano

// readLives reads from the tags of an instance that it was started out of the warm pool. It is then not known whether
// the cloud has been told yet.
func (r *Roster) readLives(rec *record, in *cloud.Instance, now time.Time) {
	at, err := time.Parse(startedForm, in.Tags[cloud.TagStarted])
	if err != nil {
		return
	}
	rec.lives = lives{started: earlier(at, now), unsure: true, certain: now.Add(startTimeout + r.opts.ListLag)}
	if rec.Launched.Before(rec.started) { // on some clouds it stays as it was at the first start
		rec.Launched = rec.started
	}
}

func asleep(phase cloud.Phase) bool { return phase == cloud.Stopped || phase == cloud.Halting }

// rouses enters whether a list that was asked for at the given time shows that the instance runs. It reports whether
// its being stopped is as it should be: it is warm, or was started so shortly before that the list may not show it.
// One that still is stopped when lists must show the start was not started, and is warm again.
func (rec *record) rouses(at, now time.Time) (meant bool) {
	switch {
	case rec.State == pool.Warm:
		return asleep(rec.phase)
	case rec.started.IsZero():
		return false
	case rec.phase == cloud.Pending || rec.phase == cloud.Running:
		rec.woke, rec.unsure = true, false
		return false
	case !asleep(rec.phase):
		return false
	case at.Before(rec.certain):
		return true
	case rec.State == pool.Startup && !rec.woke:
		rec.sleep(now)
		rec.rests = now.Add(restTime)
		return true
	}
	return false
}

// restTime is how long an instance whose start the cloud refused is left alone.
const restTime = 3 * time.Minute

// sleep makes an instance warm.
func (rec *record) sleep(now time.Time) {
	rec.become(pool.Warm, now)
	rec.lives, rec.Interrupted = lives{}, rec.Announced != ""
}

// former reports whether a status may be of a life before the present one. A time that is later than all that was
// known of the former life, with a sequence that is not, shows that the program was started anew and its clock is
// behind.
func (rec *record) former(s *message.Status) bool {
	if rec.started.IsZero() || !s.Timestamp.Add(-rec.ahead).Before(rec.started) {
		return false
	}
	return !s.Timestamp.After(rec.before.at) || s.Sequence > rec.before.seq
}

// Reserve lists the instances that are warm or warming, sorted by id. They are not among Instances.
func (r *Roster) Reserve(now time.Time) []pool.Instance {
	return r.instances(now, func(rec *record) bool { return rec.Reserve() })
}

// Warmed lists the instances that were launched to be stopped and can be: they have reported, and are idle.
func (r *Roster) Warmed() []pool.InstanceID {
	return r.which(func(rec *record) bool {
		return rec.State == pool.Warming && !rec.ReportedAt.IsZero() && !rec.atWork() && !rec.Interrupted
	})
}

// Startable lists the instances that can be started instead of new ones launched, sorted by id: those that are
// stopped, and were not refused lately.
func (r *Roster) Startable(now time.Time) []pool.InstanceID {
	return r.which(func(rec *record) bool {
		return rec.State == pool.Warm && rec.phase == cloud.Stopped && rec.Announced == "" && !now.Before(rec.rests)
	})
}

// Warming lists the instances that boot only to be stopped, sorted by id.
func (r *Roster) Warming() []pool.InstanceID {
	return r.which(func(rec *record) bool { return rec.State == pool.Warming && !rec.Interrupted })
}

// Cool makes an instance warm that is to be stopped instead of ended. heard is how many statuses had been accepted
// when the snapshot was made. It does nothing and returns false if the instance has reported since, or is about to
// end.
func (r *Roster) Cool(e pool.Ending, heard uint64, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := r.records[e.Instance]
	if rec == nil || !rec.State.CanBecome(pool.Warm) || rec.heardNo > heard || rec.Interrupted {
		return false
	}
	rec.forced, rec.ended = rec.atWork(), time.Time{}
	rec.sleep(now)
	return true
}

// Stopped notes that the cloud has accepted to stop these instances.
func (r *Roster) Stopped(now time.Time, ids ...pool.InstanceID) { r.Ended(now, ids...) }

// Uncooled lists the warm instances that the cloud shows as running, and has not accepted to stop lately. They must be
// told (again) to stop. One that has found work since it was idle may finish that first, and one that has not reported
// to this controller may have work, unless it is lost.
func (r *Roster) Uncooled(now time.Time, lost func(*pool.Instance) bool) []pool.InstanceID {
	return r.which(func(rec *record) bool {
		return rec.State == pool.Warm && (rec.phase == cloud.Running || rec.phase == cloud.Pending) &&
			now.Sub(rec.ended) > r.opts.ListLag && !r.busyReserve(rec, now, lost)
	})
}

// Occupied lists the instances that are warm or warming and have work all the same, so that they must not be ended.
func (r *Roster) Occupied(now time.Time, lost func(*pool.Instance) bool) []pool.InstanceID {
	return r.which(func(rec *record) bool { return rec.Reserve() && r.busyReserve(rec, now, lost) })
}

// busyReserve reports whether an instance that is warm or warming may have work all the same. One that runs and has not
// reported to this controller may have taken some. It is called with the lock held.
func (r *Roster) busyReserve(rec *record, now time.Time, lost func(*pool.Instance) bool) bool {
	in := rec.Instance
	in.HeardAt = r.heardAt(rec, now)
	return r.occupied(rec, now, lost) || rec.ReportedAt.IsZero() && !asleep(rec.phase) && !lost(&in)
}

// occupied reports whether an instance that is not needed may finish its work. It is called with the lock held.
func (r *Roster) occupied(rec *record, now time.Time, lost func(*pool.Instance) bool) bool {
	in := rec.Instance
	in.HeardAt = r.heardAt(rec, now)
	return rec.atWork() && !asleep(rec.phase) && !rec.forced && !lost(&in)
}

// Rouse begins a new life of a warm instance, which is about to be started: nothing of what it said counts any
// more. It returns false if the instance is not warm.
func (r *Roster) Rouse(id pool.InstanceID, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := r.records[id]
	if rec == nil || rec.State != pool.Warm {
		return false
	}
	rec.become(pool.Startup, now)
	rec.lives = lives{
		started: now, before: rec.stamp, unsure: true, asked: now, certain: now.Add(startTimeout + r.opts.ListLag),
	}
	rec.Launched, rec.HeardAt, rec.ReportedAt, rec.IdleSince = now, now, time.Time{}, time.Time{}
	rec.Load, rec.Busy, rec.Interrupted = 0, false, false
	rec.said, rec.seed, rec.ours, rec.forced, rec.ended = "", activeset.Instance{}, true, false, time.Time{}
	return true
}

// Roused notes that the cloud has accepted to start the instance.
func (r *Roster) Roused(id pool.InstanceID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if rec := r.records[id]; rec != nil {
		rec.unsure = false
	}
}

// Unroused makes an instance warm again whose start the cloud has refused. It is not started again for a while.
func (r *Roster) Unroused(id pool.InstanceID, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if rec := r.records[id]; rec != nil && rec.State == pool.Startup && !rec.woke {
		rec.sleep(now)
		rec.rests = now.Add(restTime)
	}
}

// Unstarted lists the instances of which it is not known whether they were started, and which lists show as stopped.
// They must be told again to start. Each is listed once in a while.
func (r *Roster) Unstarted(now time.Time) []pool.InstanceID {
	const pause = 5 * time.Second
	return r.which(func(rec *record) bool {
		due := rec.State == pool.Startup && rec.unsure && !rec.woke && asleep(rec.phase) && now.Sub(rec.asked) >= pause
		if due {
			rec.asked = now
		}
		return due
	})
}

// Doubt notes that it is not known what the tags of an instance say, so that they are written again.
func (r *Roster) Doubt(id pool.InstanceID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if rec := r.records[id]; rec != nil {
		rec.tagged = pool.Unknown
	}
}

// instances returns those that are wanted as a snapshot needs them, sorted by id.
func (r *Roster) instances(now time.Time, want func(*record) bool) []pool.Instance {
	r.mu.Lock()
	defer r.mu.Unlock()
	var recs []*record
	for _, rec := range r.records {
		if want(rec) {
			recs = append(recs, rec)
		}
	}
	slices.SortFunc(recs, func(a, b *record) int { return cmp.Compare(a.ID, b.ID) }) // instances are large to move
	out := make([]pool.Instance, 0, len(recs))
	for _, rec := range recs {
		in := rec.Instance
		in.Address = r.address(rec)
		in.HeardAt = r.heardAt(rec, now)
		in.Drift, in.Current = r.drift(rec, now)
		out = append(out, in)
	}
	return out
}
