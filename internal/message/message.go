// Package message holds what is sent to the controller: the status and log messages of instances, the hints of
// those who put work on a queue, and the orders of operators.
//
// The formats are described in docs/formats.md. What the parsers read may come from anybody: they bound what
// they read, never panic, and their errors say what is wrong without repeating more of the input than Excerpt does.
package message

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"cloudmaster/internal/pool"
)

// MaxSize bounds a status or log message, in bytes; larger ones are refused unread.
const MaxSize = 64 << 10

// MaxYAML bounds a message in YAML, in bytes, because a reader of YAML works much longer than one of JSON for the same
// number of bytes. The longest log text fits, beside 2 KiB for everything else; a status takes a few hundred bytes.
const MaxYAML = MaxText + 2<<10

// MaxText is the longest text of a log message, in bytes; EncodeLog cuts longer ones. JSON writes one byte as at
// most six, so a message with a text of this length never exceeds MaxSize.
const MaxText = 8 << 10

// Activity says whether an instance is at work, in addition to its load. Empty means that the instance does not say.
type Activity string

// The activities.
const (
	Busy Activity = "busy"
	Idle Activity = "idle"
)

// Draining is the State of an instance that takes no new work and is about to end, because the cloud takes its machine
// back or because it got a signal. Every other state means that it serves.
const Draining = "draining"

// Message is what a status queue carries: a Status or a Log.
type Message interface {
	// From returns the instance that sent it; empty if none did.
	From() pool.InstanceID
	isMessage()
}

// Status is an instance's report on itself.
type Status struct {
	InstanceID pool.InstanceID
	State      string    // the state that the instance gives itself: "active" or Draining; others count as "active"
	Activity   Activity  // busy, idle, or empty
	Load       float64   // 0 nothing connected, 1 at capacity; may exceed 1
	Address    string    // host:port for clients; empty if it has none
	Timestamp  time.Time // by the instance's clock
	Sequence   uint64    // orders messages of one instance with equal timestamps
}

// Log is something an instance says for the operator.
type Log struct {
	InstanceID pool.InstanceID
	Text       string
	Timestamp  time.Time
	Sequence   uint64
}

// From returns the instance that sent the status.
func (s Status) From() pool.InstanceID { return s.InstanceID }

// From returns the instance that said it.
func (l Log) From() pool.InstanceID { return l.InstanceID }

func (Status) isMessage() {}
func (Log) isMessage()    {}

// Busy reports whether the instance is at work: it says so, or it does not say and its load is above 0.
func (s *Status) Busy() bool {
	return s.Activity == Busy || s.Activity == "" && s.Load > 0
}

// Interrupted reports whether the instance says that it takes no new work and is about to end.
func (s *Status) Interrupted() bool { return s.State == Draining }

// wire is the JSON object that messages of every type are read into; Status and Log are written from it.
type wire struct {
	Type       string    `json:"type"`
	InstanceID string    `json:"instance_id"`
	State      string    `json:"state,omitempty"`
	Status     string    `json:"status,omitempty"`
	Load       *float64  `json:"load_estimate,omitempty"`
	Address    string    `json:"address,omitempty"`
	Message    *string   `json:"message,omitempty"`
	Timestamp  time.Time `json:"timestamp"`
	Sequence   uint64    `json:"sequence"`
}

const (
	typeStatus = "status"
	typeLog    = "log"
)

// EncodeStatus writes a status message. It returns an error for one that the parsers would reject.
func EncodeStatus(s Status) ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("encode status: %w", err)
	}
	return encode(wire{
		Type: typeStatus, InstanceID: string(s.InstanceID), State: s.State, Status: string(s.Activity),
		Load: &s.Load, Address: s.Address, Timestamp: s.Timestamp.UTC(), Sequence: s.Sequence,
	})
}

// EncodeLog writes a log message. Where the text is not UTF-8 it is repaired, and text beyond MaxText is cut off,
// because a part of what an instance says is more useful than an error.
func EncodeLog(l Log) ([]byte, error) {
	if err := checkSender(l.InstanceID, l.Timestamp); err != nil {
		return nil, fmt.Errorf("encode log message: %w", err)
	}
	text := cut(strings.ToValidUTF8(l.Text, string(utf8.RuneError)), MaxText)
	return encode(wire{
		Type: typeLog, InstanceID: string(l.InstanceID), Message: &text,
		Timestamp: l.Timestamp.UTC(), Sequence: l.Sequence,
	})
}

func encode(w wire) ([]byte, error) {
	body, err := json.Marshal(w)
	if err != nil {
		return nil, fmt.Errorf("encode %s message: %w", w.Type, err)
	}
	if len(body) > MaxSize {
		return nil, fmt.Errorf("encode %s message: %d bytes, the most is %d", w.Type, len(body), MaxSize)
	}
	return body, nil
}

// message turns what any parser has read into a Status or a Log.
func (w *wire) message() (Message, error) {
	switch w.Type {
	case typeStatus:
		return w.toStatus()
	case typeLog:
		return w.toLog()
	case "":
		return nil, errors.New("type is missing")
	}
	return nil, fmt.Errorf("type is %s, not status or log", quote(w.Type))
}

func (w *wire) toStatus() (Message, error) {
	if w.Load == nil {
		return nil, errors.New("load_estimate is missing")
	}
	s := Status{
		InstanceID: pool.InstanceID(w.InstanceID), State: w.State, Activity: Activity(w.Status),
		Load: *w.Load, Address: w.Address, Timestamp: w.Timestamp.UTC(), Sequence: w.Sequence,
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	return s, nil
}

func (w *wire) toLog() (Message, error) {
	if w.Message == nil {
		return nil, errors.New("message is missing")
	}
	l := Log{
		InstanceID: pool.InstanceID(w.InstanceID), Text: *w.Message,
		Timestamp: w.Timestamp.UTC(), Sequence: w.Sequence,
	}
	if err := checkSender(l.InstanceID, l.Timestamp); err != nil {
		return nil, err
	}
	return l, nil
}

func (s *Status) check() error {
	if err := checkSender(s.InstanceID, s.Timestamp); err != nil {
		return err
	}
	if !pool.ValidLoad(s.Load) {
		return fmt.Errorf("load_estimate is %v, not a number from 0 up", s.Load)
	}
	switch s.Activity {
	case Busy, Idle, "":
		return nil
	}
	return fmt.Errorf("status is %s, not busy or idle", quote(string(s.Activity)))
}

const maxID = 128

func checkSender(id pool.InstanceID, at time.Time) error {
	switch {
	case id == "":
		return errors.New("instance_id is missing")
	case len(id) > maxID || strings.ContainsFunc(string(id), unfit):
		return fmt.Errorf("instance_id is %s, not a name of up to %d bytes", quote(string(id)), maxID)
	}
	return checkTime(at)
}

func checkTime(at time.Time) error {
	at = at.UTC() // messages are written in UTC, where the year may be another
	switch {
	case at.IsZero():
		return errors.New("timestamp is missing")
	case at.Year() < 1 || at.Year() > 9999:
		return fmt.Errorf("timestamp is in the year %d", at.Year())
	}
	return nil
}

// unfit reports whether a character must not be part of an id. Ids are printed without quotes.
func unfit(r rune) bool { return r == ' ' || r == utf8.RuneError || !unicode.IsPrint(r) }

const excerpt = 200

// Excerpt returns the beginning of a body, at most 200 bytes of it, quoted so that it is safe to print and to log.
func Excerpt(body []byte) string {
	if len(body) <= excerpt {
		return strconv.Quote(string(body))
	}
	return strconv.Quote(string(body[:excerpt])) + fmt.Sprintf("… (%d bytes)", len(body))
}

func quote(s string) string { return Excerpt([]byte(s)) }

// cut returns the beginning of valid UTF-8 text, at most the given number of bytes.
func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	const more = "…"
	end := most - len(more)
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + more
}
