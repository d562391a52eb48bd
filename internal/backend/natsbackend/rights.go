package natsbackend

import (
	"net/url"
	"slices"
	"strings"

	"cloudmaster/internal/blob/natsblob"
	"cloudmaster/internal/queue/natsqueue"
)

// Use is what a program does at a broker.
type Use struct {
	Receives string // a queue from which it receives; empty: none
	Sends    string // a queue to which it sends; empty: none
	Sender   string // the name under which it sends; empty: none
	Reads    string // the deployment whose store it reads, if ReadsAny
	ReadsAny bool
}

// Subjects returns the subjects that the program must be allowed to publish to. Beside them it must be allowed to
// subscribe to what follows Inbox of its user.
func (u Use) Subjects() []string {
	out := []string{"$JS.API.INFO"} // Open asks whether there is JetStream
	if u.Receives != "" {
		out = append(out, natsqueue.ToReceive(u.Receives)...)
	}
	if u.Sends != "" {
		out = append(out, natsqueue.ToSend(u.Sends, u.Sender)...)
	}
	if u.ReadsAny {
		out = append(out, natsblob.ToRead(ownName(u.Reads))...)
	}
	out = append(out, u.notices()...)
	slices.Sort(out)
	return slices.Compact(out)
}

// Hears returns the subjects that the program must be allowed to subscribe to, beside those of Subjects.
func (u Use) Hears() []string { return u.notices() }

// notices are the subjects on which allocators, which read the store, tell each other what they assign.
func (u Use) notices() []string {
	if !u.ReadsAny {
		return nil
	}
	return []string{ownName(u.Reads) + ".notice.>"}
}

// ownName is the name of a deployment's store, and begins the subjects of its notices.
func ownName(deployment string) string {
	if deployment == "" {
		return "cloudmaster"
	}
	return "cloudmaster-" + deployment
}

// WithLogin adds the option credentials to an address that has no options.
func WithLogin(address, file string) string {
	readable := strings.NewReplacer("%2F", "/", "%24", "$")
	return address + "?credentials=" + readable.Replace(url.QueryEscape(file))
}
