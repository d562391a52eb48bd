package natsqueue

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// errOthersFirst means that other receivers already wait for at least as many messages as there are.
var errOthersFirst = errors.New("other receivers are served first")

// errTooBig means that there is a message, but that it does not fit into the request.
var errTooBig = errors.New("message exceeds the request's size")

// missing returns how many messages of a request will never come. In a cluster, the report that a
// request has ended can overtake the request's messages, because these wait until most nodes have
// marked them as delivered. Such a report says how many messages the request still lacked. A report
// without that number comes after all messages, so that all of the open ones are missing.
func missing(m *nats.Msg, open int) int {
	n, err := strconv.Atoi(m.Header.Get("Nats-Pending-Messages"))
	if err != nil {
		return open
	}
	return n
}

// statusError returns the error that the broker's report on a request means: nil when it only says
// that there are no (more) messages.
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
	// Changes of leader, shutdowns, too many requests: another try will show whether they are over.
	return fmt.Errorf("%w: %s %s", errInterrupted, code, text)
}
