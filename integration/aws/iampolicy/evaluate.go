package iampolicy

import (
	"fmt"
	"slices"
	"strings"
)

// Request is one action on one resource.
type Request struct {
	Action   string
	Resource string // its ARN, or * for actions on none
	// Owner is the account of the resource. If it is empty, it is the principal's.
	Owner     string
	Principal Principal
	Context   map[string][]string // condition keys; compared without regard to case
}

// Principal is who asks.
type Principal struct {
	Account string
	ARN     string // of the user, or of the role's session
	Role    string // the ARN of the role whose session it is; empty for others
	Service string // ec2.amazonaws.com, for services that assume roles
}

// Policies are all that count for a request.
type Policies struct {
	Identity []*Document // of the user or role
	Boundary *Document   // the permissions boundary; nil if there is none
	Session  *Document   // given when the role was assumed; nil if there is none
	Resource *Document   // of the resource; nil if there is none
}

// Decision is what a request gets.
type Decision struct {
	Allowed bool
	Why     string // which statement decided, or how near the others came
}

// value returns a context key's values, whatever the case of its letters. In keys with a tag, the tag's own case
// counts.
func (r *Request) value(key string) ([]string, bool) {
	if have, ok := r.Context[key]; ok {
		return have, true
	}
	for name, have := range r.Context {
		head, tag, _ := strings.Cut(name, "/")
		wantHead, wantTag, _ := strings.Cut(key, "/")
		if strings.EqualFold(head, wantHead) && tag == wantTag {
			return have, true
		}
	}
	return nil, false
}

// vars returns what looks up variables; nil if the document has none. A key with several values stands for nothing.
func (r *Request) vars(variables bool) func(string) (string, bool) {
	if !variables {
		return nil
	}
	return func(key string) (string, bool) {
		have, ok := r.value(key)
		if !ok || len(have) != 1 {
			return "", false
		}
		return have[0], true
	}
}

// verdict is what one document says.
type verdict struct {
	allow, deny string   // the statement that does; empty if none does
	direct      bool     // the allowing statement of a resource names the session or user itself
	delegated   bool     // a statement of a resource allows only the principal's whole account
	near        []string // why statements about the action do not apply
}

// Evaluate decides a request: a denying statement anywhere wins. Otherwise, in one account, the policy of the resource
// allows it, or those of identity, boundary and session do, each of them. In two accounts the policy of the resource
// must allow it, too. Source: IAM User Guide, "Policy evaluation logic".
func Evaluate(p *Policies, r *Request) (Decision, error) {
	var identity verdict
	for _, doc := range p.Identity {
		one, err := doc.judge(r)
		if err != nil {
			return Decision{}, err
		}
		identity.add(one)
	}
	limits := [2]verdict{}
	for i, doc := range []*Document{p.Boundary, p.Session} {
		limits[i].allow = "no limit"
		if doc == nil {
			continue
		}
		var err error
		if limits[i], err = doc.judge(r); err != nil {
			return Decision{}, err
		}
	}
	var resource verdict
	if p.Resource != nil {
		var err error
		if resource, err = p.Resource.judge(r); err != nil {
			return Decision{}, err
		}
	}
	return combine(r, &identity, &limits, &resource), nil
}

func (v *verdict) add(more verdict) {
	if v.allow == "" {
		v.allow = more.allow
	}
	if v.deny == "" {
		v.deny = more.deny
	}
	v.near = append(v.near, more.near...)
}

func combine(r *Request, identity *verdict, limits *[2]verdict, resource *verdict) Decision {
	for _, v := range []*verdict{identity, &limits[0], &limits[1], resource} {
		if v.deny != "" {
			return Decision{Why: "with an explicit deny in " + v.deny}
		}
	}
	foreign := r.Owner != "" && r.Owner != r.Principal.Account
	if resource.allow != "" && resource.direct && !foreign {
		return Decision{Allowed: true, Why: "allowed by " + resource.allow}
	}
	granted := identity
	if resource.allow != "" && !resource.delegated && !foreign {
		granted = resource
	}
	refused := func(kind string, v *verdict) Decision {
		return Decision{Why: "because no " + kind + " allows the " + r.Action + " action" + nearness(v)}
	}
	switch {
	case granted.allow == "":
		return refused("identity-based policy", identity)
	case limits[0].allow == "":
		return refused("permissions boundary", &limits[0])
	case limits[1].allow == "":
		return refused("session policy", &limits[1])
	case foreign && resource.allow == "":
		return refused("resource-based policy", resource)
	}
	return Decision{Allowed: true, Why: "allowed by " + granted.allow}
}

func nearness(v *verdict) string {
	if len(v.near) == 0 {
		return ""
	}
	return " (" + strings.Join(v.near, "; ") + ")"
}

// judge says what one document says of a request.
func (d *Document) judge(r *Request) (verdict, error) {
	var v verdict
	for i := range d.Statements {
		s := &d.Statements[i]
		label := fmt.Sprintf("statement %s of %s", s.name(i), d.Name)
		applies, near, err := s.applies(r, d.Variables)
		switch {
		case err != nil:
			return v, fmt.Errorf("%s: %w", label, err)
		case !applies && near != "":
			v.near = append(v.near, label+": "+near)
		case applies && !s.Allow && v.deny == "":
			v.deny = label
		case applies && s.Allow:
			direct, delegated := s.names(&r.Principal)
			if v.allow == "" || direct && !v.direct || v.delegated && !delegated {
				v.allow, v.direct, v.delegated = label, direct, delegated
			}
		}
	}
	return v, nil
}

func (s *Statement) name(i int) string {
	if s.Sid != "" {
		return s.Sid
	}
	return fmt.Sprintf("#%d", i)
}

// applies reports whether all of a statement's elements fit, and otherwise what does not, if it is about the action.
func (s *Statement) applies(r *Request, variables bool) (applies bool, near string, err error) {
	about := slices.ContainsFunc(s.Actions, func(a string) bool { return ActionMatches(a, r.Action) })
	if about == s.NotAction {
		return false, "", nil
	}
	on := slices.ContainsFunc(s.Resources, func(pattern string) bool { return r.on(pattern, variables) })
	if len(s.Resources) > 0 && on == s.NotRes {
		return false, "not for resource " + r.Resource, nil
	}
	if s.Principals != nil && !s.isFor(&r.Principal) {
		return false, "not for principal " + r.Principal.ARN, nil
	}
	for i := range s.Conditions {
		c := &s.Conditions[i]
		ok, err := c.holds(r, variables)
		if err != nil {
			return false, "", err
		}
		if !ok {
			have, _ := r.value(c.Key)
			return false, fmt.Sprintf("%s %s wants %q, got %q", c.Operator, c.Key, c.Values, have), nil
		}
	}
	return true, "", nil
}

func (r *Request) on(pattern string, variables bool) bool {
	parts, ok := compile(pattern, r.vars(variables))
	return ok && match(parts, r.Resource, true)
}

// isFor reports whether a statement names the principal.
func (s *Statement) isFor(p *Principal) bool {
	if p.Service != "" {
		return slices.Contains(s.Principals["Service"], p.Service)
	}
	return slices.ContainsFunc(s.Principals["AWS"], func(name string) bool {
		return name == "*" || name == p.ARN || p.Role != "" && name == p.Role || isAccount(name, p.Account)
	})
}

// isAccount reports whether a principal's name is a whole account: its number, or the ARN of its root.
func isAccount(name, account string) bool {
	return name == account || strings.HasPrefix(name, "arn:") && strings.HasSuffix(name, "::"+account+":root")
}

// names says how a statement that applies names the principal: itself, or only with its whole account, which leaves the
// decision to the account's own policies. Boundaries and sessions limit what is given to a role or to everybody, but
// not what is given to a user or a session by name.
func (s *Statement) names(p *Principal) (direct, delegated bool) {
	names := s.Principals["AWS"]
	direct = slices.Contains(names, p.ARN) && p.ARN != ""
	wide := slices.ContainsFunc(names, func(n string) bool { return n == "*" || p.Role != "" && n == p.Role })
	return direct, s.Principals != nil && p.Service == "" && !direct && !wide
}
