package roster

import (
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/pool"
)

// mostWord bounds the cloud's word in characters. A value of a tag of EC2 has 256 at most (EC2 User Guide, "Tag your
// Amazon EC2 resources", tag restrictions).
const mostWord = 200

// Announcement is what became of the cloud's word that an instance is about to end. The zero value is invalid.
type Announcement int

// The announcements.
const (
	Nobody  Announcement = iota + 1 // there is no such instance in the pool
	Entered                         // it counts from now on, and the tags of the instance do not say it yet
	Kept                            // it was known, and would survive this controller: the tags say it, or it is ending
)

// Announce enters the cloud's word that an instance is about to end, and why. From then on the instance counts as one
// that has said so itself, and nothing takes that back: a program that knows nothing of it goes on saying that it is
// active. The first word stays, so that repetitions change nothing.
func (r *Roster) Announce(id pool.InstanceID, why string) Announcement {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := r.records[id]
	switch {
	case rec == nil:
		return Nobody
	case rec.State == pool.Stopping:
		return Kept
	case rec.Announced == "":
		rec.Announced, rec.Interrupted = word(why), true
		return Entered
	case !rec.wordKept:
		return Entered
	}
	return Kept
}

// Has reports whether the pool has the instance, and it is not ending.
func (r *Roster) Has(id pool.InstanceID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := r.records[id]
	return rec != nil && rec.State != pool.Stopping
}

// Listed returns when the newest list was asked for that was taken in; zero if there is none.
func (r *Roster) Listed() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.listed
}

// recall takes what was announced before from the tags. A list that is behind does not take it back.
func (rec *record) recall(tags map[string]string) {
	if told := tags[cloud.TagAnnounced]; told != "" && rec.Announced == "" {
		rec.Announced, rec.Interrupted = word(told), true
	}
}

// kept reports whether the tags say what the cloud has announced.
func (rec *record) kept() bool { return rec.Announced == "" || rec.wordKept }

// word is the cloud's word as it can be kept in a tag, never empty: letters, digits, spaces and + - = . _ : / @ are
// what tags of all services of AWS may have; a space stands for anything else.
func word(why string) string {
	fit := strings.Map(func(c rune) rune {
		if c == utf8.RuneError || !unicode.IsLetter(c) && !unicode.IsDigit(c) && !strings.ContainsRune("+-=._:/@", c) {
			return ' '
		}
		return c
	}, why)
	letters := []rune(strings.Join(strings.Fields(fit), " "))
	if len(letters) == 0 {
		return "announced"
	}
	return strings.TrimSpace(string(letters[:min(len(letters), mostWord)]))
}
