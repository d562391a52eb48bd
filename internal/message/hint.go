package message

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"cloudmaster/internal/pool"
)

// Hint says that work was put on a queue that cannot tell of it by itself. It is no more
// than that: one that is lost costs time, and one too many costs a look at the queue.
type Hint struct {
	Queue     string // the work queue
	Timestamp time.Time
}

// From returns nothing: no instance sends hints.
func (Hint) From() pool.InstanceID { return "" }

func (Hint) isMessage() {}

const typeHint = "hint"

// EncodeHint writes a hint. It refuses one that no parser would take.
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

// HintQueue returns the status queue that hints about a work queue go to, if the names
// have the form that the controller gives them: primes-work-demo has primes-status-demo.
// Otherwise "".
func HintQueue(work string) string {
	parts := strings.Split(work, "-")
	at := 0
	for i, part := range parts {
		switch {
		case part != "work" || i == 0:
		case at > 0:
			return "" // which of them?
		default:
			at = i
		}
	}
	if at == 0 {
		return ""
	}
	parts[at] = "status"
	return strings.Join(parts, "-")
}
