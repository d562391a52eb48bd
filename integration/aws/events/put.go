package events

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"cloudmaster/integration/aws/call"
)

// Event is what a service of AWS tells.
type Event struct {
	Account, Region string
	Source          string // aws.ec2
	DetailType      string // EC2 Instance State-change Notification
	Resources       []string
	Detail          map[string]any
	At              time.Time
}

// Put gives an event to all rules of its region that match it, and these send it to their targets. Its errors are
// those of targets that do not take it, of which AWS would only count that they failed.
func (s *Service) Put(e *Event) error {
	body := map[string]any{
		"version": "0", "id": fmt.Sprintf("%x", e.At.UnixNano()), "detail-type": e.DetailType, "source": e.Source,
		"account": e.Account, "time": e.At.UTC().Format(time.RFC3339), "region": e.Region,
		"resources": append([]string{}, e.Resources...), "detail": e.Detail,
	}
	text, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("event %s: %w", e.DetailType, err)
	}
	var errs []error
	for _, t := range s.matching(e, body) {
		errs = append(errs, s.deliver(principal, t.rule, t.queue, string(text)))
	}
	return errors.Join(errs...)
}

// aim is a queue to which a rule sends.
type aim struct{ rule, queue string }

func (s *Service) matching(e *Event, body map[string]any) []aim {
	here := "arn:" + call.Partition + ":events:" + e.Region + ":" + e.Account + ":rule/"
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []aim
	for _, arn := range slices.Sorted(maps.Keys(s.rules)) {
		r := s.rules[arn]
		if !strings.HasPrefix(arn, here) || r.state != enabled || !r.pattern.matches(body) {
			continue
		}
		for _, id := range slices.Sorted(maps.Keys(r.targets)) {
			out = append(out, aim{rule: arn, queue: r.targets[id]})
		}
	}
	return out
}

// pattern is an event pattern: of each field the texts of which one must be there, or a pattern of what is within.
type pattern map[string]any

// readPattern reads a pattern. It refuses what matches in other ways than by whole texts.
func readPattern(text string) (pattern, error) {
	var p pattern
	dec := json.NewDecoder(bytes.NewReader([]byte(text)))
	if err := dec.Decode(&p); err != nil {
		return nil, err
	}
	return p, p.check()
}

func (p pattern) check() error {
	if len(p) == 0 {
		return errors.New("it has no field")
	}
	for field, want := range p {
		switch want := want.(type) {
		case map[string]any:
			if err := pattern(want).check(); err != nil {
				return fmt.Errorf("%s: %w", field, err)
			}
		case []any:
			if len(want) == 0 || slices.ContainsFunc(want, func(v any) bool { _, is := v.(string); return !is }) {
				return fmt.Errorf("%s: this fake takes only a list of texts", field)
			}
		default:
			return fmt.Errorf("%s: it must be an object or an array", field)
		}
	}
	return nil
}

func (p pattern) matches(event map[string]any) bool {
	for field, want := range p {
		switch want := want.(type) {
		case map[string]any:
			inner, is := event[field].(map[string]any)
			if !is || !pattern(want).matches(inner) {
				return false
			}
		case []any:
			if !slices.Contains(want, event[field]) {
				return false
			}
		}
	}
	return true
}
