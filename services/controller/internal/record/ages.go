package record

import (
	"fmt"
	"strings"
	"time"

	"cloudmaster/internal/queue"
)

// Ages says how old the messages of a pool are. The zero value says that nobody has looked yet.
type Ages struct {
	At   time.Time `json:"at"`   // when that was so, at the latest
	Work queue.Age `json:"work"` // of the work queue
	Dead queue.Age `json:"dead"` // of its dead letters
}

// notable is the age from which on people are told of a message.
const notable = time.Hour

// String says for people which messages are older than an hour; empty if none is known to be.
func (a *Ages) String() string {
	var parts []string
	for _, one := range []struct {
		what string
		age  queue.Age
	}{{"job or request", a.Work}, {"dead letter", a.Dead}} {
		if one.age.Known && one.age.Oldest >= notable {
			parts = append(parts, "oldest "+one.what+": "+Text(one.age))
		}
	}
	text := strings.Join(parts, ", ")
	if text == "" {
		return ""
	}
	return strings.ToUpper(text[:1]) + text[1:]
}

// Text writes an age for people, in days, hours and minutes.
func Text(a queue.Age) string {
	const day = 24 * time.Hour
	text := fmt.Sprintf("%dm", int(a.Oldest%time.Hour/time.Minute))
	switch {
	case a.Oldest >= day:
		text = fmt.Sprintf("%dd%dh", int(a.Oldest/day), int(a.Oldest%day/time.Hour))
	case a.Oldest >= time.Hour:
		text = fmt.Sprintf("%dh%s", int(a.Oldest/time.Hour), text)
	}
	if a.AtLeast {
		return "at least " + text
	}
	return text
}
