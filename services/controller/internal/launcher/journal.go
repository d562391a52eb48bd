package launcher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"cloudmaster/internal/blob"
	"cloudmaster/internal/cloud"
	"cloudmaster/internal/pool"
)

// journal tells the next controller of launches that lists may not show yet. It is written before the cloud
// is asked. A controller that finds launches of another one in it launches nothing until lists show what
// those have started, or have had the time to show it.
//
// It is written with compare-and-set. A controller that has been replaced without knowing it fails to write
// it at first, and then reads what the other one has launched. What keeps it from acting is the lease, not
// the journal.
type journal struct {
	on    bool
	store Store
	key   string
	lag   time.Duration // how far lists may be behind
	life  string        // what all tokens of this controller begin with
	rand  func() string

	known   bool         // the journal in the store has been read
	version blob.Version // of the journal in the store; "" if there is none
	entries []entry      // the launches that it should have
	// read is when the launches of other controllers, by their tokens, were first read of.
	read map[string]time.Time
}

// entry is one launch.
type entry struct {
	Token string    `json:"token"`
	Count int       `json:"count"`
	At    time.Time `json:"at"` // when the cloud was last asked, by the clock of whoever asked
}

// journalDoc is the content of the journal in the store.
type journalDoc struct {
	Launches []entry `json:"launches"`
}

// leastJournalLag is how far lists must be behind before a journal is written at all. Lists that are less
// behind are current again before another controller can have the lease.
const leastJournalLag = 5 * time.Second

// clockMargin is how far the clock of an earlier controller may have been behind ours. It is as much as AWS forgives a
// request (Signature Version 4: a request is valid for five minutes).
const clockMargin = 5 * time.Minute

// journalKey returns the key of a pool's journal.
func journalKey(name pool.Name) string { return "controller/launch/" + string(name) }

func newJournal(name pool.Name, store Store, lag time.Duration, random func() string) journal {
	return journal{
		on: lag > leastJournalLag, store: store, key: journalKey(name), lag: lag, life: random(), rand: random,
		read: make(map[string]time.Time),
	}
}

// token returns a new token. Its beginning shows that it is from this controller.
func (j *journal) token() string { return j.life + "-" + j.rand() }

// load reads the journal, unless it has been read.
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
		doc.Launches = []entry{{Token: "damaged", Count: 1, At: j.readAt("damaged", now)}} // it told of some launch
	}
	entries := slices.DeleteFunc(j.entries, func(e entry) bool { return !j.ours(e) })
	for _, e := range doc.Launches {
		if e.At.After(now) {
			e.At = j.readAt(e.Token, now) // its writer's clock was ahead
		}
		if !j.ours(e) && now.Sub(e.At) < launchTimeout+j.lag+clockMargin {
			entries = append(entries, e)
			j.noteRead(e.Token, now)
		}
	}
	j.known, j.version, j.entries = true, o.Version, entries
	return nil
}

// readAt is when a launch was first read of: now, unless it was read of before.
func (j *journal) readAt(token string, now time.Time) time.Time {
	if at, again := j.read[token]; again {
		return at
	}
	return now
}

// noteRead remembers when a launch was first read of: a journal that is read again makes nobody wait again.
func (j *journal) noteRead(token string, now time.Time) {
	j.read[token] = j.readAt(token, now)
}

// ours reports whether this controller made the launch. It then knows of the launch without the journal.
func (j *journal) ours(e entry) bool { return strings.HasPrefix(e.Token, j.life) }

// certain is from when on lists show what came of a launch: the call may have taken effect at its very end. It counts
// from when we read of the launch, because the clock of its writer may have been behind.
func (j *journal) certain(e entry) time.Time {
	return latest(e.At, j.read[e.Token]).Add(launchTimeout + j.lag)
}

// expire forgets the launches that a list shows, or that are so old that it would show them. The list was
// asked for at the given time.
func (j *journal) expire(list []cloud.Instance, at time.Time) {
	j.entries = slices.DeleteFunc(j.entries, func(e entry) bool {
		return !at.Before(j.certain(e)) || at.After(e.At) && started(list, e.Token) >= e.Count
	})
}

// started returns how many instances in a list have come from a launch.
func started(list []cloud.Instance, token string) (n int) {
	for i := range list {
		if list[i].Tags[cloud.TagLaunch] == token {
			n++
		}
	}
	return n
}

// pending returns the newest launch of another controller that lists may not show yet.
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
	entries := append(slices.DeleteFunc(slices.Clone(j.entries), func(old entry) bool { return old.Token == e.Token }),
		e)
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
