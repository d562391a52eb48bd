package message

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"cloudmaster/internal/pool"
)

// Hint says that messages were put on a work queue that cannot tell of them by itself. The controller relies on no
// hint: one that is lost costs time until its next look at the queue, and one too many costs a look. See the
// package hint for the sending.
type Hint struct {
	Queue     string // the work queue
	Timestamp time.Time
}

// From returns nothing: no instance sends hints.
func (Hint) From() pool.InstanceID { return "" }

func (Hint) isMessage() {}

const typeHint = "hint"

// EncodeHint writes a hint. It returns an error for one that the parsers would reject.
func EncodeHint(h Hint) ([]byte, error) {
	if err := h.check(); err != nil {
		return nil, fmt.Errorf("encode hint: %w", err)
	}
	body, err := json.Marshal(struct {
		Type      string    `json:"type"`
		Queue     string    `json:"queue"`
		Timestamp time.Time `json:"timestamp"`
	}{typeHint, h.Queue, h.Timestamp.UTC()})
	if err != nil {
		return nil, fmt.Errorf("encode hint: %w", err)
	}
	return body, nil
}

func (w *wire) toHint() (Message, error) {
	h := Hint{Queue: w.Queue, Timestamp: w.Timestamp.UTC()}
	if err := h.check(); err != nil {
		return nil, err
	}
	return h, nil
}

func (h *Hint) check() error {
	switch {
	case h.Queue == "":
		return errors.New("queue is missing")
	case len(h.Queue) > maxID || strings.ContainsFunc(h.Queue, unfit):
		return fmt.Errorf("queue is %s, not a name of up to %d bytes", quote(h.Queue), maxID)
	}
	return checkTime(h.Timestamp)
}
