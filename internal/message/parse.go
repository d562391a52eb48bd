package message

import (
	"bytes"
	"cmp"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"cloudmaster/internal/pool"
)

// ParseFunc reads one message of a status queue.
type ParseFunc func(body []byte) (Message, error)

// Parsers returns the parsers by the names that the configuration key status_parser has for them.
func Parsers() map[string]ParseFunc {
	return map[string]ParseFunc{"std": ParseStd, "lifeguard": ParseLifeguard}
}

// ParseStd reads a JSON object, or the YAML mapping with :symbol keys that instances of the Ruby CloudMaster send.
func ParseStd(body []byte) (Message, error) {
	if len(body) > MaxSize {
		return nil, fmt.Errorf("message of %d bytes: the most is %d", len(body), MaxSize)
	}
	trimmed := bytes.TrimLeft(body, " \t\r\n")
	if len(trimmed) == 0 {
		return nil, errors.New("message is empty")
	}
	var w wire
	if trimmed[0] == '{' {
		if err := json.Unmarshal(trimmed, &w); err != nil {
			return nil, jsonError(err)
		}
		return w.message()
	}
	if err := decodeSymbols(trimmed, &w); err != nil {
		return nil, err
	}
	return w.message()
}

// jsonError says that a body is not JSON or, if it is, which of its keys has a wrong value.
func jsonError(err error) error {
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Errorf("%s cannot be a JSON %s", wrong.Field, brief(wrong.Value))
	}
	if _, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Errorf("message is not JSON: %s", brief(err.Error()))
	}
	return fmt.Errorf("timestamp: %s", brief(err.Error())) // the only key whose type decodes itself
}

// brief turns a decoder's error, which may repeat its input, into one short line.
func brief(text string) string {
	text = strings.ToValidUTF8(text, string(utf8.RuneError))
	return cut(strings.Join(strings.Fields(text), " "), excerpt)
}

// symbols is a YAML mapping with :symbol keys.
type symbols map[string]*yaml.Node

// readSymbols reads a YAML mapping. It does not have the library decode it: that takes a time which grows with the
// square of the number of keys, or faster, and a memory that does so where keys are there twice. Merge keys (<<) have
// no meaning.
func readSymbols(body []byte) (symbols, error) {
	if len(body) > MaxYAML {
		return nil, fmt.Errorf("message of %d bytes is not JSON: the most for YAML is %d", len(body), MaxYAML)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(body, &doc); err != nil {
		return nil, fmt.Errorf("message is neither JSON nor a YAML mapping: %s", brief(err.Error()))
	}
	if len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return nil, errors.New("message is neither JSON nor a YAML mapping")
	}
	list := doc.Content[0].Content // keys and values in turn
	s := make(symbols)
	for i := 0; i+1 < len(list); i += 2 {
		key := list[i]
		if key.Kind != yaml.ScalarNode || !strings.HasPrefix(key.Value, ":") {
			continue
		}
		if s[key.Value] != nil {
			return nil, fmt.Errorf("key %s is already defined", quote(key.Value))
		}
		s[key.Value] = list[i+1]
	}
	return s, nil
}

// decodeSymbols reads ":key: value" lines.
func decodeSymbols(body []byte, w *wire) error {
	doc, err := readSymbols(body)
	if err != nil {
		return err
	}
	return cmp.Or(
		doc.text("type", &w.Type),
		doc.text("instance_id", &w.InstanceID),
		doc.text("state", &w.State),
		doc.text("status", &w.Status),
		doc.text("address", &w.Address),
		doc.optional("message", &w.Message),
		doc.number("load_estimate", &w.Load, "a number"),
		doc.number("sequence", &w.Sequence, "a whole number from 0 up"),
		doc.time("timestamp", &w.Timestamp),
	)
}

// scalar returns the value of a key; ok is false if it is missing or null. The value may be an alias: Ruby writes
// one where the same string is the value of two keys.
func (s symbols) scalar(key string) (n *yaml.Node, ok bool, err error) {
	if n = s[":"+key]; n == nil {
		return nil, false, nil
	}
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind != yaml.ScalarNode {
		return nil, false, fmt.Errorf("%s is not a single value", key)
	}
	return n, n.ShortTag() != "!!null", nil
}

// text reads a string or a symbol: a plain ":busy" is busy, a quoted one keeps its colon.
func (s symbols) text(key string, into *string) error {
	n, ok, err := s.scalar(key)
	if err != nil || !ok {
		return err
	}
	*into = n.Value
	if n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) == 0 {
		*into = strings.TrimPrefix(n.Value, ":")
	}
	return nil
}

func (s symbols) optional(key string, into **string) error {
	n, ok, err := s.scalar(key)
	if ok {
		*into = &n.Value
	}
	return err
}

func (s symbols) number(key string, into any, want string) error {
	n, ok, err := s.scalar(key)
	if err != nil || !ok {
		return err
	}
	if err := n.Decode(into); err != nil {
		return fmt.Errorf("%s is %s, not %s", key, quote(n.Value), want)
	}
	return nil
}

func (s symbols) time(key string, into *time.Time) error {
	n, ok, err := s.scalar(key)
	if err != nil || !ok {
		return err
	}
	*into, err = parseTime(n.Value)
	return err
}

// layouts are the formats in which Ruby's YAML and Time#to_s write a time. UTC is the only zone that is accepted by
// name, because names such as "EDT" do not mean the same time everywhere.
var layouts = []string{
	time.RFC3339Nano,
	"2006-01-02 15:04:05.999999999 Z07:00",
	"2006-01-02 15:04:05.999999999 -0700",
	"2006-01-02 15:04:05.999999999 UTC",
	"Mon Jan _2 15:04:05 -0700 2006",
	"Mon Jan _2 15:04:05 UTC 2006",
}

func parseTime(text string) (time.Time, error) {
	for _, layout := range layouts {
		if at, err := time.Parse(layout, text); err == nil {
			return at.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("timestamp is %s, not a time with its zone", quote(text))
}

// lifeguard is the InstanceStatus document of the Lifeguard framework.
type lifeguard struct {
	XMLName      xml.Name `xml:"InstanceStatus"`
	InstanceID   string   `xml:"InstanceId"`
	State        string   `xml:"State"`
	LastInterval string   `xml:"LastInterval"`
	Timestamp    string   `xml:"Timestamp"`
}

var isoDuration = regexp.MustCompile(`^P(\d+Y)?(\d+M)?(\d+W)?(\d+D)?(T(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)?$`)

// ParseLifeguard reads <InstanceStatus> documents. The state "busy" is taken as active with load 1, any other state
// as active with load 0.
func ParseLifeguard(body []byte) (Message, error) {
	if len(body) > MaxSize {
		return nil, fmt.Errorf("message of %d bytes: the most is %d", len(body), MaxSize)
	}
	var doc lifeguard
	if err := xml.Unmarshal(body, &doc); err != nil {
		return nil, fmt.Errorf("message is not an InstanceStatus document: %s", brief(err.Error()))
	}
	s := Status{
		InstanceID: pool.InstanceID(strings.TrimSpace(doc.InstanceID)),
		State:      pool.Active.String(),
		Activity:   Idle,
	}
	if strings.TrimSpace(doc.State) == string(Busy) {
		s.Activity, s.Load = Busy, 1
	}
	var err error
	if s.Timestamp, err = parseTime(strings.TrimSpace(doc.Timestamp)); err != nil {
		return nil, err
	}
	if err := checkDuration(strings.TrimSpace(doc.LastInterval)); err != nil {
		return nil, err
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	return s, nil
}

// checkDuration returns an error unless d is empty or an ISO 8601 duration.
func checkDuration(d string) error {
	if d == "" || isoDuration.MatchString(d) && d != "P" && !strings.HasSuffix(d, "T") {
		return nil
	}
	return fmt.Errorf("LastInterval is %s, not an ISO 8601 duration", quote(d))
}

// After reports whether a message with the time at and the sequence seq is newer than one with thanAt and thanSeq.
// The times decide; between equal times the sequences do.
func After(at time.Time, seq uint64, thanAt time.Time, thanSeq uint64) bool {
	return cmp.Or(at.Compare(thanAt), cmp.Compare(seq, thanSeq)) > 0
}
