package ec2

import (
	"encoding/xml"
	"maps"
	"slices"
	"time"

	"cloudmaster/integration/aws/call"
)

// group is a security group.
type group struct {
	id, name, vpc, text string
	tags                map[string]string
	rules               []rule
}

// rule lets in one source.
type rule struct {
	proto, from, to string
	kind            string // which of the sources it is: one of the names in sources
	source          string
	text            string // not compared
}

func (r rule) same(s rule) bool {
	r.text = s.text
	return r == s
}

// sources are the lists of a permission's sources: the list's name, and the field of each that holds the source.
var sources = []struct{ list, field string }{
	{"IpRanges", "CidrIp"}, {"Ipv6Ranges", "CidrIpv6"}, {"PrefixListIds", "PrefixListId"}, {"Groups", "GroupId"},
}

func (r *Region) findGroup(id string) *group {
	for _, g := range r.groups {
		if g.id == id {
			return g
		}
	}
	return nil
}

type groupsAnswer struct {
	XMLName xml.Name    `xml:"answer"`
	Groups  []groupItem `xml:"securityGroupInfo>item"`
	Next    string      `xml:"nextToken,omitempty"`
}

type groupItem struct {
	Owner string           `xml:"ownerId"`
	ID    string           `xml:"groupId"`
	Name  string           `xml:"groupName"`
	Text  string           `xml:"groupDescription"`
	VPC   string           `xml:"vpcId"`
	Perms []permissionItem `xml:"ipPermissions>item"`
	Tags  []tag            `xml:"tagSet>item"`
}

// permissionItem is a permission with one source, in the list to which its kind belongs.
type permissionItem struct {
	Proto    string       `xml:"ipProtocol"`
	From     string       `xml:"fromPort,omitempty"`
	To       string       `xml:"toPort,omitempty"`
	Ranges   []sourceItem `xml:"ipRanges>item"`
	Ranges6  []sourceItem `xml:"ipv6Ranges>item"`
	Prefixes []sourceItem `xml:"prefixListIds>item"`
	Groups   []sourceItem `xml:"groups>item"`
}

type sourceItem struct {
	CIDR   string `xml:"cidrIp,omitempty"`
	CIDR6  string `xml:"cidrIpv6,omitempty"`
	Prefix string `xml:"prefixListId,omitempty"`
	Group  string `xml:"groupId,omitempty"`
	Text   string `xml:"description,omitempty"`
}

func (r rule) item() permissionItem {
	out := permissionItem{Proto: r.proto, From: r.from, To: r.to}
	switch r.kind {
	case "IpRanges":
		out.Ranges = []sourceItem{{CIDR: r.source, Text: r.text}}
	case "Ipv6Ranges":
		out.Ranges6 = []sourceItem{{CIDR6: r.source, Text: r.text}}
	case "PrefixListIds":
		out.Prefixes = []sourceItem{{Prefix: r.source, Text: r.text}}
	default:
		out.Groups = []sourceItem{{Group: r.source, Text: r.text}}
	}
	return out
}

func (r *Region) describeGroups(in *request) (any, error) {
	ids := list(in.form, "GroupId")
	for _, id := range ids {
		if r.findGroup(id) == nil {
			return nil, noGroup(id)
		}
	}
	var found []groupItem
	for _, g := range r.groups {
		ok, err := passes(in.form, g.tags, g.fields)
		switch {
		case err != nil:
			return nil, err
		case !ok, len(ids) > 0 && !slices.Contains(ids, g.id):
			continue
		}
		item := groupItem{Owner: r.account, ID: g.id, Name: g.name, Text: g.text, VPC: g.vpc, Tags: tagSet(g.tags)}
		for _, rule := range g.rules {
			item.Perms = append(item.Perms, rule.item())
		}
		found = append(found, item)
	}
	part, next, err := page(in.form, found)
	return groupsAnswer{Groups: part, Next: next}, err
}

func noGroup(id string) error {
	return call.Errorf("InvalidGroup.NotFound", "The security group '%s' does not exist", id)
}

func (g *group) fields(name string) ([]string, bool) {
	value, known := map[string]string{
		"group-id": g.id, "group-name": g.name, "vpc-id": g.vpc, "description": g.text,
	}[name]
	return []string{value}, known
}

type createdGroup struct {
	XMLName xml.Name `xml:"answer"`
	Return  bool     `xml:"return"`
	ID      string   `xml:"groupId"`
	Tags    []tag    `xml:"tagSet>item"`
}

func (r *Region) createGroup(in *request) (any, error) {
	g := &group{
		name: in.form.Get("GroupName"), text: in.form.Get("GroupDescription"), vpc: in.form.Get("VpcId"),
		tags: tagSpecifications(in.form)["security-group"],
	}
	if g.tags == nil {
		g.tags = make(map[string]string)
	}
	if err := r.mayCreateGroup(in, g); err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(r.vpcs, func(v VPC) bool { return v.ID == g.vpc }) {
		return nil, call.Errorf("InvalidVpcID.NotFound", "The vpc ID '%s' does not exist", g.vpc)
	}
	if slices.ContainsFunc(r.groups, func(o *group) bool { return o.name == g.name && o.vpc == g.vpc }) {
		return nil, call.Errorf("InvalidGroup.Duplicate", "The security group '%s' already exists for VPC '%s'", g.name,
			g.vpc)
	}
	g.id = r.id("sg")
	r.groups = append(r.groups, g)
	return createdGroup{Return: true, ID: g.id, Tags: tagSet(g.tags)}, nil
}

// mayCreateGroup asks for the group, for its VPC, and to tag the group.
func (r *Region) mayCreateGroup(in *request, g *group) error {
	made := r.context()
	made.SetRequestTags(g.tags)
	tags := maps.Clone(made)
	tags.Set("ec2:CreateAction", "CreateSecurityGroup")
	group := []string{r.arn("security-group", "*")}
	for _, one := range []call.Call{
		{Action: "ec2:CreateSecurityGroup", Resources: group, Context: made},
		{Action: "ec2:CreateSecurityGroup", Resources: []string{r.arn("vpc", g.vpc)}, Context: r.context()},
		{Action: "ec2:CreateTags", Resources: group, Context: tags},
	} {
		if one.Action == "ec2:CreateTags" && len(g.tags) == 0 {
			continue
		}
		if err := in.allowed(one); err != nil {
			return err
		}
	}
	return nil
}

// onGroup finds the group that a request names, and asks whether the action is allowed on it.
func (r *Region) onGroup(in *request, action string) (*group, error) {
	g := r.findGroup(in.form.Get("GroupId"))
	if g == nil {
		return nil, noGroup(in.form.Get("GroupId"))
	}
	context := r.groupContext(g)
	maps.Copy(context, r.context())
	one := call.Call{Action: "ec2:" + action, Resources: []string{r.arn("security-group", g.id)}, Context: context}
	return g, in.allowed(one)
}

// deleteGroup removes a group that no instance and no rule of another group uses.
func (r *Region) deleteGroup(in *request) (any, error) {
	g, err := r.onGroup(in, "DeleteSecurityGroup")
	if err != nil {
		return nil, err
	}
	used := slices.ContainsFunc(r.instances, func(i *instance) bool {
		return i.State != terminated && slices.Contains(i.Groups, g.id)
	}) || slices.ContainsFunc(r.groups, func(o *group) bool {
		return o != g && slices.ContainsFunc(o.rules, func(r rule) bool { return r.source == g.id })
	})
	if used {
		return nil, call.Errorf("DependencyViolation", "resource %s has a dependent object", g.id)
	}
	r.groups = slices.DeleteFunc(r.groups, func(o *group) bool { return o == g })
	return yes(), nil
}

// authorizeIngress opens all that a request names, or nothing.
func (r *Region) authorizeIngress(in *request) (any, error) {
	return r.onRules(in, "AuthorizeSecurityGroupIngress", func(have []rule, one rule) ([]rule, error) {
		if slices.ContainsFunc(have, one.same) {
			return nil, call.Errorf("InvalidPermission.Duplicate", "the specified rule \"peer: %s, %s, from port: %s, "+
				"to port: %s, ALLOW\" already exists", one.source, one.proto, one.from, one.to)
		}
		return append(have, one), nil
	})
}

func (r *Region) revokeIngress(in *request) (any, error) {
	return r.onRules(in, "RevokeSecurityGroupIngress", func(have []rule, one rule) ([]rule, error) {
		if !slices.ContainsFunc(have, one.same) {
			return nil, noRule()
		}
		return slices.DeleteFunc(have, one.same), nil
	})
}

func (r *Region) describeIngress(in *request) (any, error) {
	const action = "UpdateSecurityGroupRuleDescriptionsIngress"
	return r.onRules(in, action, func(have []rule, one rule) ([]rule, error) {
		i := slices.IndexFunc(have, one.same)
		if i < 0 {
			return nil, noRule()
		}
		have[i].text = one.text
		return have, nil
	})
}

func noRule() error {
	return call.Errorf("InvalidPermission.NotFound", "The specified rule does not exist in this security group.")
}

// onRules changes the rules of a group by each rule of a request, or not at all.
func (r *Region) onRules(in *request, action string, do func([]rule, rule) ([]rule, error)) (any, error) {
	g, err := r.onGroup(in, action)
	if err != nil {
		return nil, err
	}
	next := slices.Clone(g.rules)
	for _, one := range formRules(in) {
		if next, err = do(next, one); err != nil {
			return nil, err
		}
	}
	g.rules = next
	return yes(), nil
}

// formRules reads the permissions of a request, each with one source.
func formRules(in *request) []rule {
	var out []rule
	each(in.form, "IpPermissions", "IpProtocol", func(perm string) {
		for _, s := range sources {
			each(in.form, perm+s.list, s.field, func(source string) {
				out = append(out, rule{
					proto: in.form.Get(perm + "IpProtocol"), from: in.form.Get(perm + "FromPort"),
					to: in.form.Get(perm + "ToPort"), kind: s.list, source: in.form.Get(source + s.field),
					text: in.form.Get(source + "Description"),
				})
			})
		}
	})
	return out
}

// Groups returns the names of the region's security groups but those that VPCs come with, in order.
func (r *Region) Groups() []string {
	var out []string
	r.locked(func(time.Time) {
		for _, g := range r.groups {
			if g.name != "default" {
				out = append(out, g.name)
			}
		}
	})
	slices.Sort(out)
	return out
}
