package awssetup_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// fakeGroup is a security group of a fakeAWS.
type fakeGroup struct {
	ID, Name, Region string
	Tags             map[string]string
	Rules            []fakeRule
}

// fakeRule lets in one block of addresses.
type fakeRule struct{ Proto, From, To, Block, Description string }

// String is the rule as "tcp 80 10.0.0.0/8 (description)".
func (r fakeRule) String() string {
	return fmt.Sprintf("%s %s %s (%s)", r.Proto, r.From, r.Block, r.Description)
}

// same reports whether two rules let the same in. EC2 does not compare descriptions.
func (r fakeRule) same(s fakeRule) bool {
	r.Description = s.Description
	return r == s
}

// group returns the only group of a name in a region.
func (f *fakeAWS) group(region, name string) *fakeGroup {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, g := range f.groups {
		if g.Name == name && g.Region == region {
			return g
		}
	}
	f.t.Fatalf("there is no group %s in %s", name, region)
	return nil
}

// rules are what a group lets in, sorted.
func (f *fakeAWS) rules(region, name string) []string {
	f.t.Helper()
	var out []string
	for _, r := range f.group(region, name).Rules {
		out = append(out, r.String())
	}
	slices.Sort(out)
	return out
}

// fakeTypes are the architectures of the instance types that there are.
var fakeTypes = map[string]string{
	"t3.micro": "x86_64", "t3.small": "x86_64", "c7a.large": "x86_64", "c7g.large": "arm64",
}

var ec2Actions = map[string]func(f *fakeAWS, region string, in url.Values) (string, fakeError){
	"DescribeVpcs": func(*fakeAWS, string, url.Values) (string, fakeError) {
		return "<vpcSet><item><vpcId>vpc-1</vpcId><cidrBlock>172.31.0.0/16</cidrBlock></item></vpcSet>", ""
	},
	"DescribeInstanceTypes": func(_ *fakeAWS, _ string, in url.Values) (string, fakeError) {
		var out strings.Builder
		for i := 1; in.Has(fmt.Sprintf("Filter.1.Value.%d", i)); i++ {
			name := in.Get(fmt.Sprintf("Filter.1.Value.%d", i))
			if arch := fakeTypes[name]; arch != "" && in.Get("Filter.1.Name") == "instance-type" {
				out.WriteString("<item>" + element("instanceType", name) + "<processorInfo><supportedArchitectures>" +
					element("item", arch) + "</supportedArchitectures></processorInfo></item>")
			}
		}
		return "<instanceTypeSet>" + out.String() + "</instanceTypeSet>", ""
	},
	"DescribeImages": func(f *fakeAWS, _ string, in url.Values) (string, fakeError) {
		for name, arch := range f.images {
			if in.Get("Filter.1.Value.1") == name || in.Get("ImageId.1") == name {
				return "<imagesSet><item>" + element("imageId", "ami-0123456789abcdef0") +
					element("architecture", arch) + "</item></imagesSet>", ""
			}
		}
		if in.Has("ImageId.1") {
			return "", "InvalidAMIID.NotFound"
		}
		return "<imagesSet/>", ""
	},
	"DescribeInstances": func(*fakeAWS, string, url.Values) (string, fakeError) { return "<reservationSet/>", "" },
	"DescribeSecurityGroups": func(f *fakeAWS, region string, in url.Values) (string, fakeError) {
		var out strings.Builder
		for _, g := range f.groups {
			if g.Region == region && g.passes(in) {
				out.WriteString("<item>" + g.xml() + "</item>")
			}
		}
		return "<securityGroupInfo>" + out.String() + "</securityGroupInfo>", ""
	},
	"CreateSecurityGroup": func(f *fakeAWS, region string, in url.Values) (string, fakeError) {
		g := &fakeGroup{
			ID: fmt.Sprintf("sg-%d", len(f.groups)+1), Name: in.Get("GroupName"), Region: region,
			Tags: formTags(in, "TagSpecification.1.Tag.%d."),
		}
		f.groups = append(f.groups, g)
		return element("groupId", g.ID), ""
	},
	"DeleteSecurityGroup": func(f *fakeAWS, _ string, in url.Values) (string, fakeError) {
		f.groups = slices.DeleteFunc(f.groups, func(g *fakeGroup) bool { return g.ID == in.Get("GroupId") })
		return "<return>true</return>", ""
	},
	"AuthorizeSecurityGroupIngress": onGroup(func(g *fakeGroup, r fakeRule) fakeError {
		if slices.ContainsFunc(g.Rules, r.same) {
			return "InvalidPermission.Duplicate"
		}
		g.Rules = append(g.Rules, r)
		return ""
	}),
	"RevokeSecurityGroupIngress": onGroup(func(g *fakeGroup, r fakeRule) fakeError {
		if !slices.ContainsFunc(g.Rules, r.same) {
			return "InvalidPermission.NotFound"
		}
		g.Rules = slices.DeleteFunc(g.Rules, r.same)
		return ""
	}),
	"UpdateSecurityGroupRuleDescriptionsIngress": onGroup(func(g *fakeGroup, r fakeRule) fakeError {
		i := slices.IndexFunc(g.Rules, r.same)
		if i < 0 {
			return "InvalidPermission.NotFound"
		}
		g.Rules[i].Description = r.Description
		return ""
	}),
}

// parameter answers for SSM.
func (f *fakeAWS) parameter(w http.ResponseWriter, r *http.Request) {
	var in struct{ Name string }
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		f.t.Errorf("read a request of SSM: %v", err)
	}
	out := map[string]any{"Parameter": map[string]string{"Value": f.params[in.Name]}}
	if _, known := f.params[in.Name]; !known {
		w.WriteHeader(http.StatusBadRequest)
		out = map[string]any{"__type": "ParameterNotFound"}
	}
	if err := json.NewEncoder(w).Encode(out); err != nil {
		f.t.Errorf("answer for SSM: %v", err)
	}
}

// onGroup does something with each rule of a request.
func onGroup(do func(*fakeGroup, fakeRule) fakeError) func(*fakeAWS, string, url.Values) (string, fakeError) {
	return func(f *fakeAWS, _ string, in url.Values) (string, fakeError) {
		for _, g := range f.groups {
			if g.ID != in.Get("GroupId") {
				continue
			}
			for _, r := range formRules(in) {
				if code := do(g, r); code != "" {
					return "", code
				}
			}
			return "<return>true</return>", ""
		}
		return "", "InvalidGroup.NotFound"
	}
}

// formRules reads the rules of a request.
func formRules(in url.Values) []fakeRule {
	var out []fakeRule
	for i := 1; in.Has(fmt.Sprintf("IpPermissions.%d.IpProtocol", i)); i++ {
		base := fmt.Sprintf("IpPermissions.%d.", i)
		for _, field := range [][2]string{{"IpRanges", "CidrIp"}, {"Ipv6Ranges", "CidrIpv6"}} {
			for j := 1; in.Has(fmt.Sprintf("%s%s.%d.%s", base, field[0], j, field[1])); j++ {
				one := fmt.Sprintf("%s%s.%d.", base, field[0], j)
				out = append(out, fakeRule{
					Proto: in.Get(base + "IpProtocol"), From: in.Get(base + "FromPort"), To: in.Get(base + "ToPort"),
					Block: in.Get(one + field[1]), Description: in.Get(one + "Description"),
				})
			}
		}
	}
	return out
}

// passes reports whether a group passes the filters of a request.
func (g *fakeGroup) passes(in url.Values) bool {
	for i := 1; in.Has(fmt.Sprintf("Filter.%d.Name", i)); i++ {
		base := fmt.Sprintf("Filter.%d.", i)
		name, have := in.Get(base+"Name"), g.Name
		if key, ok := strings.CutPrefix(name, "tag:"); ok {
			have = g.Tags[key]
		}
		var want []string
		for j := 1; in.Has(fmt.Sprintf("%sValue.%d", base, j)); j++ {
			want = append(want, in.Get(fmt.Sprintf("%sValue.%d", base, j)))
		}
		if !slices.Contains(want, have) {
			return false
		}
	}
	return true
}

func (g *fakeGroup) xml() string {
	var rules strings.Builder
	for _, r := range g.Rules {
		ranges := "<ipRanges><item>" + element("cidrIp", r.Block) + element("description", r.Description) +
			"</item></ipRanges>"
		if p, err := netip.ParsePrefix(r.Block); err == nil && p.Addr().Is6() {
			ranges = "<ipv6Ranges><item>" + element("cidrIpv6", r.Block) + element("description", r.Description) +
				"</item></ipv6Ranges>"
		}
		rules.WriteString("<item>" + element("ipProtocol", r.Proto) + element("fromPort", r.From) +
			element("toPort", r.To) + ranges + "</item>")
	}
	return element("groupId", g.ID) + element("groupName", g.Name) + element("vpcId", "vpc-1") +
		"<ipPermissions>" + rules.String() + "</ipPermissions>" + tagsXML("tagSet", "item", g.Tags)
}
