// Package iampolicy evaluates IAM policy documents as AWS documents it: what a document grants, and what several of
// them grant together. It is strict: what it does not know is an error, because a condition that is passed over would
// let a test pass that should fail.
//
// Sources: IAM User Guide, "IAM JSON policy element reference", "IAM JSON policy elements: Condition operators",
// "Single-valued vs. multivalued context keys", "Policy variables", and "Policy evaluation logic".
package iampolicy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

// Kind is what a document is for; it says which elements there must be.
type Kind int

// The kinds of documents.
const (
	Identity Kind = iota // of a user or role, a permissions boundary, or a session: no Principal, but a Resource
	Resource             // of a queue or bucket: Principal and Resource
	Trust                // of a role, about who may assume it: Principal and no Resource
)

// Document is a policy that was read.
type Document struct {
	Name       string // for explanations: controller.json
	Variables  bool   // whether ${…} stands for values: since version 2012-10-17
	Statements []Statement
}

// Statement is one statement of a document.
type Statement struct {
	Sid       string
	Allow     bool // or else deny
	Actions   []string
	NotAction bool // all actions but these
	Resources []string
	NotRes    bool // all resources but these
	// Principals by type: AWS, Service, Federated, CanonicalUser; everybody is AWS: *.
	Principals map[string][]string
	Conditions []Condition
}

// Condition wants something of one key. All conditions of a statement must hold.
type Condition struct {
	Operator string // as it is written
	Key      string
	Values   []string
	test     test
}

// Versions of the policy language.
const (
	version2008 = "2008-10-17"
	version2012 = "2012-10-17"
)

type rawDocument struct {
	Version   string
	ID        string `json:"Id"`
	Statement oneOrMore[rawStatement]
}

type rawStatement struct {
	Sid, Effect           string
	Action, NotAction     texts
	Resource, NotResource texts
	Principal             *principals
	Condition             map[string]map[string]values
}

// Parse reads a document. The name is used in errors and explanations.
func Parse(name string, kind Kind, text []byte) (*Document, error) {
	doc, err := parse(kind, text)
	if err != nil {
		return nil, fmt.Errorf("IAM policy %s: %w", name, err)
	}
	doc.Name = name
	return doc, nil
}

func parse(kind Kind, text []byte) (*Document, error) {
	if err := unique(json.NewDecoder(bytes.NewReader(text))); err != nil {
		return nil, err
	}
	var raw rawDocument
	if err := strictly(text, &raw); err != nil {
		return nil, err
	}
	switch raw.Version {
	case "", version2008, version2012:
	default:
		return nil, fmt.Errorf("version %q is none: want %s or %s", raw.Version, version2012, version2008)
	}
	if len(raw.Statement) == 0 {
		return nil, errors.New("it has no statement")
	}
	doc := &Document{Variables: raw.Version == version2012}
	seen := make(map[string]bool)
	for i := range raw.Statement {
		s, err := raw.Statement[i].statement(kind)
		if err != nil {
			return nil, fmt.Errorf("statement %d (%s): %w", i, raw.Statement[i].Sid, err)
		}
		if s.Sid != "" && seen[s.Sid] {
			return nil, fmt.Errorf("two statements have the Sid %s", s.Sid)
		}
		seen[s.Sid] = true
		doc.Statements = append(doc.Statements, s)
	}
	return doc, nil
}

var (
	sidForm    = regexp.MustCompile(`^[A-Za-z0-9]*$`)
	actionForm = regexp.MustCompile(`^(\*|[A-Za-z0-9-]+:[A-Za-z0-9*?]+)$`)
)

func (r *rawStatement) statement(kind Kind) (Statement, error) {
	s := Statement{
		Sid: r.Sid, Allow: r.Effect == "Allow", Actions: slices.Concat(r.Action, r.NotAction),
		NotAction: len(r.NotAction) > 0, Resources: slices.Concat(r.Resource, r.NotResource),
		NotRes: len(r.NotResource) > 0,
	}
	switch {
	case kind == Identity && !sidForm.MatchString(r.Sid):
		return s, errors.New("a Sid has letters and digits only")
	case r.Effect != "Allow" && r.Effect != "Deny":
		return s, fmt.Errorf("effect is %q: want Allow or Deny", r.Effect)
	case len(r.Action) > 0 == (len(r.NotAction) > 0):
		return s, errors.New("want either Action or NotAction, with at least one action")
	case kind == Trust && len(s.Resources) > 0:
		return s, errors.New("a trust policy has no Resource")
	case kind != Trust && len(r.Resource) > 0 == (len(r.NotResource) > 0):
		return s, errors.New("want either Resource or NotResource, with at least one resource")
	case (kind == Identity) != (r.Principal == nil):
		return s, errors.New("policies of resources and trust policies have a Principal, and others none")
	}
	if err := s.check(); err != nil {
		return s, err
	}
	if r.Principal != nil {
		s.Principals = *r.Principal
	}
	var err error
	s.Conditions, err = conditions(r.Condition)
	return s, err
}

func (s *Statement) check() error {
	for _, a := range s.Actions {
		if !actionForm.MatchString(a) {
			return fmt.Errorf("%q is no action: want service:Name or *", a)
		}
	}
	for _, r := range s.Resources {
		if r != "*" && (!strings.HasPrefix(r, "arn:") || strings.Count(r, ":") < 5) {
			return fmt.Errorf("%q is no resource: want an ARN with six parts, or *", r)
		}
	}
	return nil
}

// strictly decodes JSON, and refuses elements that it does not know.
func strictly(text []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows after the document")
	}
	return nil
}

// unique refuses objects that have a key twice, of which Go's decoder would keep the last.
func unique(dec *json.Decoder) error {
	token, err := dec.Token()
	if err != nil {
		return err
	}
	delim, open := token.(json.Delim)
	if !open {
		return nil
	}
	seen := make(map[string]bool)
	for dec.More() {
		if delim == '{' {
			key, err := dec.Token()
			if err != nil {
				return err
			}
			name, _ := key.(string) // the decoder sees to it that it is one
			if seen[name] {
				return fmt.Errorf("%q is there twice", name)
			}
			seen[name] = true
		}
		if err := unique(dec); err != nil {
			return err
		}
	}
	_, err = dec.Token() // the closing bracket
	return err
}

// oneOrMore reads a list, or a single element without a list around it.
type oneOrMore[T any] []T

// UnmarshalJSON implements json.Unmarshaler.
func (o *oneOrMore[T]) UnmarshalJSON(text []byte) error {
	if bytes.HasPrefix(bytes.TrimSpace(text), []byte("[")) {
		return strictly(text, (*[]T)(o))
	}
	*o = make([]T, 1)
	return strictly(text, &(*o)[0])
}

type texts = oneOrMore[string]

// principals are * or lists by type.
type principals map[string][]string

// UnmarshalJSON implements json.Unmarshaler.
func (p *principals) UnmarshalJSON(text []byte) error {
	if string(text) == `"*"` {
		*p = principals{"AWS": {"*"}}
		return nil
	}
	var raw map[string]texts
	if err := strictly(text, &raw); err != nil {
		return err
	}
	*p = make(principals, len(raw))
	for kind, names := range raw {
		switch kind {
		case "AWS", "Service", "Federated", "CanonicalUser":
			(*p)[kind] = names
		default:
			return fmt.Errorf("%q is no type of principal", kind)
		}
	}
	return nil
}

// values are texts, numbers and truth values.
type values []string

// UnmarshalJSON implements json.Unmarshaler.
func (v *values) UnmarshalJSON(text []byte) error {
	var raw oneOrMore[any]
	if err := json.Unmarshal(text, &raw); err != nil {
		return err
	}
	for _, one := range raw {
		switch one.(type) {
		case string, bool, float64:
			*v = append(*v, fmt.Sprint(one))
		default:
			return fmt.Errorf("%v is no value of a condition: want text, a number, or true or false", one)
		}
	}
	return nil
}
