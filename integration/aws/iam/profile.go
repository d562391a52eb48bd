package iam

import (
	"encoding/xml"
	"slices"
	"time"

	"cloudmaster/integration/aws/call"
)

// xmlProfile is an instance profile as IAM answers it.
type xmlProfile struct {
	XMLName    xml.Name
	Name       string `xml:"InstanceProfileName"`
	ID         string `xml:"InstanceProfileId"`
	Arn        string
	Path       string
	CreateDate string
	Roles      []any    `xml:"Roles>member"`
	Tags       []xmlTag `xml:"Tags>member"`
}

func (s *Service) xml(p *profile, element string) xmlProfile {
	out := xmlProfile{
		XMLName: xml.Name{Local: element}, Name: p.name, ID: p.id, Arn: arn(p.account, "instance-profile/"+p.name),
		Path: "/", CreateDate: p.made.UTC().Format(time.RFC3339), Tags: xmlTags(p.tags),
	}
	if r := s.roles[key{p.account, p.role}]; r != nil {
		out.Roles = []any{r.xml("member")}
	}
	return out
}

// profile finds an instance profile that is known by now.
func (r *request) profile() (*profile, *call.Error) {
	k := r.key("InstanceProfileName")
	p := r.s.profiles[k]
	if p == nil || !r.s.known(p.made) {
		return nil, noEntity("instance profile", k.name)
	}
	return p, nil
}

func createProfile(r *request) (any, *call.Error) {
	k, tags := r.key("InstanceProfileName"), r.tags()
	switch {
	case !profileForm.MatchString(k.name):
		return nil, call.Errorf("ValidationError", "%q is no name for an instance profile: 1 to 128 of "+
			"A-Z a-z 0-9 _+=,.@-", k.name)
	case r.s.profiles[k] != nil:
		return nil, conflict("EntityAlreadyExists", "Instance Profile %s already exists.", k.name)
	}
	if bad := checkTags(tags); bad != nil {
		return nil, bad
	}
	now := r.s.opts.Now()
	p := &profile{name: k.name, id: newID("AIPA"), account: k.account, made: now, changed: now, tags: tags}
	r.s.profiles[k] = p
	return r.s.xml(p, "InstanceProfile"), nil
}

func getProfile(r *request) (any, *call.Error) {
	p, bad := r.profile()
	if bad != nil {
		return nil, bad
	}
	return r.s.xml(p, "InstanceProfile"), nil
}

func deleteProfile(r *request) (any, *call.Error) {
	p, bad := r.profile()
	if bad != nil {
		return nil, bad
	}
	if p.role != "" {
		return nil, conflict("DeleteConflict", "Cannot delete entity, must remove roles from instance profile first.")
	}
	delete(r.s.profiles, key{p.account, p.name})
	return nil, nil
}

func tagProfile(r *request) (any, *call.Error) {
	p, bad := r.profile()
	if bad != nil {
		return nil, bad
	}
	return nil, addTags(p.tags, r.tags())
}

func listProfiles(r *request) (any, *call.Error) {
	var all []any
	for _, p := range sorted(r.s.profiles) {
		if p.account == r.Principal.Account && r.s.known(p.made) {
			all = append(all, r.s.xml(p, "member"))
		}
	}
	return r.paged("InstanceProfiles", all)
}

func addRole(r *request) (any, *call.Error) {
	p, bad := r.profile()
	if bad != nil {
		return nil, bad
	}
	have, bad := r.role()
	if bad != nil {
		return nil, bad
	}
	if p.role != "" {
		return nil, conflict("LimitExceeded", "Cannot exceed quota for InstanceSessionsPerInstanceProfile: 1")
	}
	p.role, p.changed = have.name, r.s.opts.Now()
	return nil, nil
}

func removeRole(r *request) (any, *call.Error) {
	p, bad := r.profile()
	if bad != nil {
		return nil, bad
	}
	name := r.form.Get("RoleName")
	if p.role == "" || p.role != name {
		return nil, noEntity("role in instance profile "+p.name, name)
	}
	p.role, p.changed = "", r.s.opts.Now()
	return nil, nil
}

// All returns the ARNs of all roles and instance profiles of an account that were made and not deleted, in order.
func (s *Service) All(account string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for k, r := range s.roles {
		if k.account == account {
			out = append(out, r.arn())
		}
	}
	for k := range s.profiles {
		if k.account == account {
			out = append(out, arn(account, "instance-profile/"+k.name))
		}
	}
	slices.Sort(out)
	return out
}
