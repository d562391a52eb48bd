package roster

import (
	"slices"
	"time"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/pool"
)

// isSurge is the value of cloud.TagSurge on an instance that is beyond the number that the policy wants.
const isSurge = "true"

// Wanted is what a launch would make now. The zero value says nothing, so that no instance is outdated.
type Wanted struct {
	Version  string        // as on instances; see pool.Version
	Images   []string      // the cloud's ids of the images that launches would use now; empty: not known
	Types    []string      // the types that launches would use now; empty: not known
	Lifetime time.Duration // instances that are as old are outdated; 0: none is
}

// SetWanted says what instances are compared with from now on.
func (r *Roster) SetWanted(w Wanted) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wanted = w
}

// Succeed notes that instances have taken the place of others, so that they count as all others.
func (r *Roster) Succeed(ids ...pool.InstanceID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range ids {
		if rec := r.records[id]; rec != nil {
			rec.Surge = false
		}
	}
}

// Outdated reports whether an instance differs from what a launch would make now, or is too old.
func (r *Roster) Outdated(id pool.InstanceID, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := r.records[id]
	if rec == nil {
		return false
	}
	why, _ := r.drift(rec, now)
	return why != ""
}

// made enters what the cloud lists of how an instance was made.
func (rec *record) made(in *cloud.Instance) {
	rec.version, rec.image = in.Tags[cloud.TagVersion], in.Image
	rec.Place = in.Place
	rec.surging = in.Tags[cloud.TagSurge] == isSurge
}

// drift returns why an instance is outdated, and whether it is known to be of the version that is launched now. Of an
// instance that does not say what it was launched as, only its type and its age count.
func (r *Roster) drift(rec *record, now time.Time) (why pool.Drift, current bool) {
	w := &r.wanted
	differs := func(list []string, have string) bool {
		return len(list) > 0 && have != "" && !slices.Contains(list, have)
	}
	versioned := pool.Versioned(rec.version) && pool.Versioned(w.Version)
	why = pool.Drifted(rec.version, w.Version)
	if versioned && why == "" && differs(w.Images, rec.image) {
		why = pool.OtherImage
	}
	current = versioned && why == ""
	switch {
	case why != "":
	case differs(w.Types, rec.Type):
		why = pool.OtherType
	case rec.expired(now, w.Lifetime):
		why = pool.TooOld
	}
	return why, current
}

// expired reports whether an instance has lived for the maximum lifetime. What this controller has launched is as old
// as its own clock says: if that is ahead of the cloud's by more than the lifetime, each successor would be too old at
// once, and replaced again and again.
func (rec *record) expired(now time.Time, lifetime time.Duration) bool {
	in := rec.Instance
	if rec.begun.After(in.Launched) && !rec.begun.After(now) {
		in.Launched = rec.begun
	}
	return in.Expired(now, lifetime)
}
