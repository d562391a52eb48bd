package iam

import (
	"encoding/xml"
	"maps"
	"net/url"
	"slices"

	"cloudmaster/integration/aws/call"
	"cloudmaster/integration/aws/iampolicy"
)

func putRolePolicy(r *request) (any, *call.Error) {
	have, bad := r.role()
	if bad != nil {
		return nil, bad
	}
	name, text := r.form.Get("PolicyName"), r.form.Get("PolicyDocument")
	if !profileForm.MatchString(name) {
		return nil, call.Errorf("ValidationError", "%q is no name for a policy", name)
	}
	doc, err := iampolicy.Parse(name+" of role "+have.name, iampolicy.Identity, []byte(text))
	if err != nil {
		return nil, call.Errorf("MalformedPolicyDocument", "%v", err)
	}
	total := length(text)
	for other, p := range have.inline {
		if other != name && !p.gone {
			total += length(p.text)
		}
	}
	if total > mostInline {
		return nil, conflict("LimitExceeded", "Maximum policy size of %d bytes exceeded for role %s", mostInline,
			have.name)
	}
	p := &inline{text: text, now: doc, changed: r.s.opts.Now()}
	if old := have.inline[name]; old != nil {
		p.was = r.s.inForce(old)
	}
	have.inline[name] = p
	return nil, nil
}

// inForce is what a policy says at this moment.
func (s *Service) inForce(p *inline) *iampolicy.Document {
	if s.known(p.changed) {
		return p.now
	}
	return p.was
}

// inline finds a policy in the role.
func (r *request) inline() (*role, *inline, *call.Error) {
	have, bad := r.role()
	if bad != nil {
		return nil, nil, bad
	}
	p := have.inline[r.form.Get("PolicyName")]
	if p == nil || p.gone {
		return nil, nil, noEntity("role policy", r.form.Get("PolicyName"))
	}
	return have, p, nil
}

func getRolePolicy(r *request) (any, *call.Error) {
	have, p, bad := r.inline()
	if bad != nil {
		return nil, bad
	}
	return []any{
		element("RoleName", have.name), element("PolicyName", r.form.Get("PolicyName")),
		element("PolicyDocument", url.PathEscape(p.text)),
	}, nil
}

func deleteRolePolicy(r *request) (any, *call.Error) {
	have, p, bad := r.inline()
	if bad != nil {
		return nil, bad
	}
	have.inline[r.form.Get("PolicyName")] = &inline{was: r.s.inForce(p), changed: r.s.opts.Now(), gone: true}
	return nil, nil
}

func listRolePolicies(r *request) (any, *call.Error) {
	have, bad := r.role()
	if bad != nil {
		return nil, bad
	}
	var all []any
	for _, name := range slices.Sorted(maps.Keys(have.inline)) {
		if !have.inline[name].gone {
			all = append(all, name)
		}
	}
	return r.paged("PolicyNames", all)
}

// policy finds the IAM policy that the request names by its ARN.
func (r *request) policy() (*managed, *call.Error) {
	p := r.s.policies[r.form.Get("PolicyArn")]
	if p == nil {
		return nil, noEntity("policy", r.form.Get("PolicyArn"))
	}
	return p, nil
}

func createPolicy(r *request) (any, *call.Error) {
	name, text := r.form.Get("PolicyName"), r.form.Get("PolicyDocument")
	where := arn(r.Principal.Account, "policy/"+name)
	doc, err := iampolicy.Parse(name, iampolicy.Identity, []byte(text))
	switch {
	case !profileForm.MatchString(name):
		return nil, call.Errorf("ValidationError", "%q is no name for a policy", name)
	case err != nil:
		return nil, call.Errorf("MalformedPolicyDocument", "%v", err)
	case length(text) > mostManaged:
		return nil, conflict("LimitExceeded", "Cannot exceed quota for PolicySize: %d", mostManaged)
	case r.s.policies[where] != nil:
		return nil, conflict("EntityAlreadyExists", "A policy called %s already exists. "+
			"Duplicate names are not allowed.", name)
	}
	p := &managed{arn: where, name: name, id: newID("ANPA"), text: text, doc: doc}
	r.s.policies[where] = p
	return p.xml(), nil
}

func getPolicy(r *request) (any, *call.Error) {
	p, bad := r.policy()
	if bad != nil {
		return nil, bad
	}
	return p.xml(), nil
}

type xmlPolicy struct {
	XMLName          xml.Name `xml:"Policy"`
	PolicyName       string
	PolicyID         string `xml:"PolicyId"`
	Arn              string
	Path             string
	DefaultVersionID string `xml:"DefaultVersionId"`
	IsAttachable     bool
}

func (p *managed) xml() xmlPolicy {
	return xmlPolicy{
		PolicyName: p.name, PolicyID: p.id, Arn: p.arn, Path: "/", DefaultVersionID: "v1", IsAttachable: true,
	}
}

func attachRolePolicy(r *request) (any, *call.Error) {
	have, bad := r.role()
	if bad != nil {
		return nil, bad
	}
	p, bad := r.policy()
	if bad != nil {
		return nil, bad
	}
	if !slices.Contains(have.attached, p.arn) {
		have.attached = append(have.attached, p.arn)
	}
	return nil, nil
}

func detachRolePolicy(r *request) (any, *call.Error) {
	have, bad := r.role()
	if bad != nil {
		return nil, bad
	}
	i := slices.Index(have.attached, r.form.Get("PolicyArn"))
	if i < 0 {
		return nil, noEntity("attached policy", r.form.Get("PolicyArn"))
	}
	have.attached = slices.Delete(have.attached, i, i+1)
	return nil, nil
}

func listAttached(r *request) (any, *call.Error) {
	have, bad := r.role()
	if bad != nil {
		return nil, bad
	}
	var all []any
	for _, where := range have.attached {
		all = append(all, struct{ PolicyName, PolicyArn string }{r.s.policies[where].name, where})
	}
	return r.paged("AttachedPolicies", all)
}

func putBoundary(r *request) (any, *call.Error) {
	have, bad := r.role()
	if bad != nil {
		return nil, bad
	}
	boundary := r.form.Get("PermissionsBoundary")
	if r.s.policies[boundary] == nil {
		return nil, noBoundary(boundary)
	}
	have.boundary = boundary
	return nil, nil
}

func deleteBoundary(r *request) (any, *call.Error) {
	have, bad := r.role()
	if bad != nil {
		return nil, bad
	}
	if have.boundary == "" {
		return nil, noEntity("permissions boundary of role", have.name)
	}
	have.boundary = ""
	return nil, nil
}
