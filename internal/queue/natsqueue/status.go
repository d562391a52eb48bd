package natsqueue

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// errOthersFirst: others wait for more messages than there are; those are theirs.
var errOthersFirst = errors.New("other receivers are served first")

// errTooBig: there is a message, but it does not fit into the request.
var errTooBig = errors.New("message exceeds the request's size")

// missing is how many messages of a request will never come. In a cluster the word
// that a request is over can overtake its messages, which wait until they are marked as delivered by most nodes; but it says
// how many there were. Without that it comes last, and open are missing.
func missing(m *nats.Msg, open int) int {
	n, err := strconv.Atoi(m.Header.Get("Nats-Pending-Messages"))
	if err != nil {
		return open
	}
	return n
}

// statusError is what the broker's word about a request means; nil when it only
// says that there are no (more) messages.
func statusError(m *nats.Msg) error {
	code, text := m.Header.Get("Status"), m.Header.Get("Description")
	switch {
	case code == "404", code == "408" && text != "Requests Pending":
		return nil
	case code == "408":
		return errOthersFirst
	case code == "503":
		return nats.ErrNoResponders
	case text == "Message Size Exceeds MaxBytes":
		return errTooBig
	case text == "Consumer Deleted":
		return jetstream.ErrConsumerDeleted
	}
	// Leadership changes and shutdowns, too many requests: another try will tell.
	return fmt.Errorf("%w: %s %s", errInterrupted, code, text)
}
