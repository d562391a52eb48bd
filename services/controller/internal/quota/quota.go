// Package quota keeps logs short where strangers decide how much there is to say: messages that cannot be read, and
// logins that are refused.
package quota

import "time"

// MostAMinute is how many lines are said in each minute.
const MostAMinute = 10

// Lines counts the lines of one kind. The zero value is ready. It is not safe for concurrent use.
type Lines struct {
	since  time.Time // when the minute began
	said   int       // in this minute
	unsaid int       // since the last line that was said
}

// May reports whether a line may be said now, and how many were not since the last one that was. It counts the line as
// said, or as one of those.
func (l *Lines) May(now time.Time) (ok bool, unsaid int) {
	if now.Sub(l.since) >= time.Minute {
		l.since, l.said = now, 0
	}
	if l.said == MostAMinute {
		l.unsaid++
		return false, 0
	}
	unsaid, l.unsaid = l.unsaid, 0
	l.said++
	return true, unsaid
}
