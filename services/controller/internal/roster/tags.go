package roster

import (
	"cmp"
	"slices"
	"time"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/pool"
)

// Tagging is what the tags of some instances should say.
type Tagging struct {
	State       pool.State
	Since       time.Time
	Interrupted Note
	Announced   string            // what the cloud has announced; empty: nothing
	Started     time.Time         // when it was started out of the warm pool; zero: the tag stays as it is
	Succeeded   bool              // they have taken the place of outdated ones, and their tags do not say so
	IDs         []pool.InstanceID // sorted
}

// Note is what the tags of an instance should say about whether it is about to end.
type Note int

// The notes.
const (
	Unsaid Note = iota // nothing: it has never said that it is
	Interrupted
	NotInterrupted // its tags have said so, and it is not any more
)

// isInterrupted is the value of cloud.TagInterrupted on an instance that is about to end.
const isInterrupted = "true"

// Tags returns the tags.
func (t *Tagging) Tags() map[string]string {
	tags := map[string]string{
		cloud.TagState: t.State.String(), cloud.TagStateSince: t.Since.UTC().Format(time.RFC3339Nano),
	}
	if !t.Started.IsZero() {
		tags[cloud.TagStarted] = t.Started.UTC().Format(startedForm)
	}
	switch t.Interrupted {
	case Interrupted:
		tags[cloud.TagInterrupted] = isInterrupted
	case NotInterrupted:
		tags[cloud.TagInterrupted] = "false"
	case Unsaid:
	}
	if t.Announced != "" {
		tags[cloud.TagAnnounced] = t.Announced
	}
	if t.Succeeded {
		tags[cloud.TagSurge] = "false"
	}
	return tags
}

// note returns what the tags of the instance should say about whether it is about to end.
func (rec *record) note() Note {
	switch {
	case rec.Interrupted:
		return Interrupted
	case rec.noted:
		return NotInterrupted
	}
	return Unsaid
}

// Mistagged lists the instances whose tags do not say their state, grouped by the tags that they should have,
// so that few calls are needed. Instances that are ending need no tags.
func (r *Roster) Mistagged() []Tagging {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []Tagging
	for id, rec := range r.records {
		note, succeeded := rec.note(), rec.surging && !rec.Surge
		same := rec.tagged == rec.State && rec.noted == rec.Interrupted && rec.kept() && !succeeded
		if same || rec.State == pool.Stopping {
			continue
		}
		i := slices.IndexFunc(out, func(t Tagging) bool {
			return t.State == rec.State && t.Since.Equal(rec.StateSince) && t.Interrupted == note &&
				t.Announced == rec.Announced && t.Succeeded == succeeded
		})
		if i < 0 {
			i = len(out)
			out = append(out, Tagging{
				State: rec.State, Since: rec.StateSince, Interrupted: note, Announced: rec.Announced,
				Succeeded: succeeded,
			})
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
		if rec := r.records[id]; rec != nil {
			rec.tagged = t.State
			rec.wordKept = rec.wordKept || t.Announced != ""
			if t.Interrupted != Unsaid {
				rec.noted = t.Interrupted == Interrupted
			}
			rec.surging = rec.surging && !t.Succeeded
		}
	}
}
