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
	for id, rec := range r.records {
		if rec.tagged == rec.State || rec.State == pool.Stopping {
			continue
		}
		i := slices.IndexFunc(out,
			func(t Tagging) bool { return t.State == rec.State && t.Since.Equal(rec.StateSince) })
		if i < 0 {
			i = len(out)
			out = append(out, Tagging{State: rec.State, Since: rec.StateSince})
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
		}
	}
}
