package message

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Hint says that messages were put on a work queue that cannot tell of them by itself. The controller relies on no
// hint: one that is lost costs time until its next look at the queue, and one too many costs a look. See the
// package hint for the sending.
type Hint struct {
	Queue     string // the work queue
	Timestamp time.Time
}

const typeHint = "hint"

type wireHint struct {
	Type      string    `json:"type"`
	Queue     string    `json:"queue"`
	Timestamp time.Time `json:"timestamp"`
}

// EncodeHint writes a hint. It returns an error for one that the parsers would reject.
func EncodeHint(h Hint) ([]byte, error) {
	if err := h.check(); err != nil {
		return nil, fmt.Errorf("encode hint: %w", err)
	}
	body, err := json.Marshal(wireHint{typeHint, h.Queue, h.Timestamp.UTC()})
	if err != nil {
		return nil, fmt.Errorf("encode hint: %w", err)
	}
	return body, nil
}

// maxHint bounds a hint in bytes.
const maxHint = 1 << 10

// ParseHint reads what EncodeHint writes.
func ParseHint(body []byte) (Hint, error) {
	var w wireHint
	if len(body) > maxHint {
		return Hint{}, fmt.Errorf("parse hint: %d bytes, the most is %d", len(body), maxHint)
	}
	if err := json.Unmarshal(body, &w); err != nil {
		return Hint{}, fmt.Errorf("parse hint: %w", err)
	}
	if w.Type != typeHint {
		return Hint{}, fmt.Errorf("parse hint: type is %s, not %s", quote(w.Type), typeHint)
	}
	h := Hint{Queue: w.Queue, Timestamp: w.Timestamp.UTC()}
	if err := h.check(); err != nil {
		return Hint{}, fmt.Errorf("parse hint: %w", err)
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
