package loop

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"cloudmaster/internal/blob"
	"cloudmaster/internal/cloud"
	"cloudmaster/internal/pool"
	"cloudmaster/services/controller/internal/inventory"
)

// journal tells a successor of launches that lists may not show yet: it is written before
// the cloud is asked. Who finds launches of another controller in it launches nothing
// until lists show what they started, or must show it.
//
// It is written with compare-and-set: a controller that was replaced without knowing it cannot
// write at first, and reads what its successor has launched. What keeps it from acting is the lease.
type journal struct {
	on    bool
	store store
	key   string
	lag   time.Duration // how far lists may be behind
	life  string        // the beginning of our own tokens

	known   bool         // the one in the store has been read
	version blob.Version // of it; "" if there is none
	entries []entry      // those that it should hold
	saidFor string       // the token whose hold has been logged
}

// entry is one launch.
type entry struct {
	Token string    `json:"token"`
	Count int       `json:"count"`
	At    time.Time `json:"at"` // when the cloud was last asked
}

// journalDoc is what the store holds.
type journalDoc struct {
	Launches []entry `json:"launches"`
}

// leastJournalLag is from where on a journal is worth its writes. A list that is less behind is
// current before a successor has the lease.
const leastJournalLag = 5 * time.Second

// journalKey returns the key of a pool's journal.
func journalKey(name pool.Name) string { return "controller/launch/" + string(name) }

func newJournal(name pool.Name, s store, lag time.Duration) journal {
	return journal{on: lag > leastJournalLag, store: s, key: journalKey(name), lag: lag, life: rand.Text()}
}

// token returns a new token, known as ours by its beginning.
func (j *journal) token() string { return j.life + "-" + rand.Text() }

// load reads the journal, unless it is known.
func (j *journal) load(ctx context.Context, now time.Time) error {
	if !j.on || j.known {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	o, err := j.store.Get(ctx, j.key, "")
	if err != nil && !errors.Is(err, blob.ErrNotFound) {
		return fmt.Errorf("read launch journal: %w", err)
	}
	var doc journalDoc
	if err == nil && json.Unmarshal(o.Data, &doc) != nil {
		doc.Launches = []entry{{Token: "damaged", Count: 1, At: now}} // it told of something
	}
	own := slices.DeleteFunc(j.entries, func(e entry) bool { return !j.ours(e) })
	for _, e := range doc.Launches {
		if e.At.After(now) {
			e.At = now // by another clock
		}
		if !j.ours(e) {
			own = append(own, e)
		}
	}
	j.known, j.version, j.entries = true, o.Version, own
	return nil
}

// ours: what we have launched ourselves we know without the journal.
func (j *journal) ours(e entry) bool { return strings.HasPrefix(e.Token, j.life) }

// expire forgets the launches that the list shows, or would show.
func (j *journal) expire(l *inventory.Listing, name pool.Name) {
	j.entries = slices.DeleteFunc(j.entries, func(e entry) bool {
		return !l.At.Before(e.At.Add(j.lag)) || l.At.After(e.At) && started(l.Instances[name], e.Token) >= e.Count
	})
}

// started counts the instances that came of a launch.
func started(list []cloud.Instance, token string) (n int) {
	for i := range list {
		if list[i].Tags[cloud.TagLaunch] == token {
			n++
		}
	}
	return n
}

// pending returns the launch of another controller that lists need not show yet, the
// last to be awaited.
func (j *journal) pending() (last entry, found bool) {
	for _, e := range j.entries {
		if !j.ours(e) && (!found || e.At.After(last.At)) {
			last, found = e, true
		}
	}
	return last, found
}

// write enters a launch that is about to be asked for.
func (j *journal) write(ctx context.Context, e entry) error {
	if !j.on {
		return nil
	}
	if !j.known {
		return errors.New("the launch journal has not been read yet")
	}
	entries := append(slices.DeleteFunc(slices.Clone(j.entries), func(old entry) bool { return old.Token == e.Token }), e)
	doc, err := json.Marshal(journalDoc{Launches: entries})
	if err != nil {
		return fmt.Errorf("write launch journal: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	version, err := j.store.Put(ctx, j.key, doc, j.version)
	if err != nil {
		j.known = false // it may have been written, by us or by somebody else
		return fmt.Errorf("write launch journal: %w", err)
	}
	j.version, j.entries = version, entries
	return nil
}

// held reports whether launches must wait, and sees to it that they do not wait too long.
func (l *Loop) held(ctx context.Context) bool {
	j := &l.journal
	if !j.on {
		return false
	}
	listing := l.deps.Inventory.Latest()
	j.expire(&listing, l.cfg.Name)
	e, found := j.pending()
	if !found {
		j.saidFor = ""
		return false
	}
	now, until := time.Now(), e.At.Add(j.lag)
	l.heldUntil = until
	if !now.Before(until) {
		l.heldUntil = now.Add(time.Second)
		if listing.Err == nil { // else lists are tried again anyway
			l.deps.Inventory.Refresh() // the next one shows it, or there is nothing to show
		}
	}
	if j.saidFor != e.Token {
		j.saidFor = e.Token
		l.log.InfoContext(ctx, "launches wait: a controller before this one has launched lately, and lists may not show it yet",
			"count", e.Count, "at", e.At, "until", until)
	}
	return true
}
