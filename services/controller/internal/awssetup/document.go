package awssetup

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
)

// Document is an IAM policy.
type Document struct {
	Version   string      `json:"Version"`
	Statement []Statement `json:"Statement"`
}

// Statement grants actions on resources.
type Statement struct {
	Sid       string            `json:"Sid,omitempty"`
	Effect    string            `json:"Effect"`
	Principal map[string]string `json:"Principal,omitempty"`
	Action    []string          `json:"Action"`
	Resource  []string          `json:"Resource,omitempty"`
	Condition Condition         `json:"Condition,omitempty"`
}

// Condition restricts a statement: by operator and key the values, of which one must be there. All keys must hold.
type Condition map[string]map[string]Values

// Values are written as IAM's own tools write them: a single one is no list.
type Values []string

// MarshalJSON implements json.Marshaler.
func (v Values) MarshalJSON() ([]byte, error) {
	if len(v) == 1 {
		return json.Marshal(v[0])
	}
	return json.Marshal([]string(v))
}

// Encode writes the document as its file has it.
func (d Document) Encode() ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetIndent("", "  ")
	err := enc.Encode(d)
	return out.Bytes(), err
}

// compact writes the document as IAM counts its length.
func (d Document) compact() string {
	doc, _ := json.Marshal(d) // strings alone cannot fail
	return string(doc)
}

func document(s ...Statement) Document { return Document{Version: "2012-10-17", Statement: s} }

func allow(sid string, actions []string, resources ...string) Statement {
	actions = slices.Sorted(slices.Values(actions))
	return Statement{Sid: sid, Effect: "Allow", Action: actions, Resource: resources}
}

// deny takes actions away, also from those whom another IAM policy grants them.
func deny(sid string, actions []string, resources ...string) Statement {
	s := allow(sid, actions, resources...)
	s.Effect = "Deny"
	return s
}

// when restricts a statement.
func (s Statement) when(c Condition) Statement {
	s.Condition = c
	return s
}

// equals wants a key to have one of the values.
func equals(key string, values ...string) Condition { return Condition{"StringEquals": {key: values}} }

// and wants another key to have one of the values, too.
func (c Condition) and(key string, values ...string) Condition {
	out := Condition{"StringEquals": maps.Clone(c["StringEquals"])}
	out["StringEquals"][key] = values
	return out
}

// orNone wants another key to have one of the values, or not to be there.
func (c Condition) orNone(key string, values ...string) Condition {
	out := maps.Clone(c)
	out["StringEqualsIfExists"] = map[string]Values{key: values}
	return out
}

// whoAmI grants a call that needs no right. It is here so that a reader of the document sees that it is made.
func whoAmI() Statement { return allow("WhoAmI", []string{"sts:GetCallerIdentity"}, everything...) }
