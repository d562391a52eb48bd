package awssetup

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// ruleText describes the rules that setup makes. It tells them from those that somebody else added to a group of
// setup's, which stay.
const ruleText = "opened by controller setup"

// rule lets in one source.
type rule struct {
	perm types.IpPermission // without a description
	ours bool               // setup opened it, and may close it
}

// rules are permissions for incoming traffic by a text that describes them.
type rules map[string]rule

// ingress are the rules that open a port to the blocks; none for port 0.
func ingress(port int, blocks []string) rules {
	if port == 0 {
		return rules{}
	}
	number := aws.Int32(int32(port)) //nolint:gosec // the configuration was checked
	perm := types.IpPermission{IpProtocol: aws.String("tcp"), FromPort: number, ToPort: number}
	for _, b := range blocks {
		if prefix, err := netip.ParsePrefix(b); err == nil && prefix.Addr().Is6() {
			perm.Ipv6Ranges = append(perm.Ipv6Ranges, types.Ipv6Range{CidrIpv6: aws.String(b)})
		} else {
			perm.IpRanges = append(perm.IpRanges, types.IpRange{CidrIp: aws.String(b)})
		}
	}
	return split([]types.IpPermission{perm})
}

// split takes permissions apart so that each has one source.
func split(perms []types.IpPermission) rules {
	out := make(rules)
	for i := range perms {
		p := &perms[i]
		base := types.IpPermission{IpProtocol: p.IpProtocol, FromPort: p.FromPort, ToPort: p.ToPort}
		add := func(source, text *string, one types.IpPermission) {
			out[ports(p)+" from "+aws.ToString(source)] = rule{perm: one, ours: aws.ToString(text) == ruleText}
		}
		for _, r := range p.IpRanges {
			one := base
			one.IpRanges = []types.IpRange{{CidrIp: r.CidrIp}}
			add(r.CidrIp, r.Description, one)
		}
		for _, r := range p.Ipv6Ranges {
			one := base
			one.Ipv6Ranges = []types.Ipv6Range{{CidrIpv6: r.CidrIpv6}}
			add(r.CidrIpv6, r.Description, one)
		}
		for _, r := range p.PrefixListIds {
			one := base
			one.PrefixListIds = []types.PrefixListId{{PrefixListId: r.PrefixListId}}
			add(r.PrefixListId, r.Description, one)
		}
		for _, r := range p.UserIdGroupPairs {
			one := base
			one.UserIdGroupPairs = []types.UserIdGroupPair{{GroupId: r.GroupId, UserId: r.UserId}}
			add(r.GroupId, r.Description, one)
		}
	}
	return out
}

func ports(p *types.IpPermission) string {
	proto, from, to := aws.ToString(p.IpProtocol), aws.ToInt32(p.FromPort), aws.ToInt32(p.ToPort)
	switch {
	case proto == "-1":
		return "everything"
	case from == to:
		return fmt.Sprintf("%s %d", proto, from)
	}
	return fmt.Sprintf("%s %d-%d", proto, from, to)
}

// described returns the permission with the text that marks it as setup's. Only rules of ingress have one.
func (r rule) described() types.IpPermission {
	out := r.perm
	if len(out.IpRanges) > 0 {
		out.IpRanges = []types.IpRange{{CidrIp: out.IpRanges[0].CidrIp, Description: aws.String(ruleText)}}
	}
	if len(out.Ipv6Ranges) > 0 {
		out.Ipv6Ranges = []types.Ipv6Range{{CidrIpv6: out.Ipv6Ranges[0].CidrIpv6, Description: aws.String(ruleText)}}
	}
	return out
}

// ruleChange is what has to be done to the rules of a group, and the same in words.
type ruleChange struct {
	open, describe, shut []types.IpPermission
	done                 []string
	left                 []string // what others have opened, and stays so
}

// changes compares the rules that a group has with those that it should have.
func (want rules) changes(have rules) ruleChange {
	var c ruleChange
	for _, w := range slices.Sorted(maps.Keys(want)) {
		switch got, there := have[w]; {
		case !there:
			c.open, c.done = append(c.open, want[w].described()), append(c.done, "open "+w)
		case !got.ours: // an earlier version, or somebody else, has opened it
			c.describe, c.done = append(c.describe, want[w].described()), append(c.done, "describe "+w)
		}
	}
	for _, w := range slices.Sorted(maps.Keys(have)) {
		switch _, wanted := want[w]; {
		case wanted:
		case have[w].ours:
			c.shut, c.done = append(c.shut, have[w].perm), append(c.done, "close "+w)
		default:
			c.left = append(c.left, w)
		}
	}
	return c
}

// note says what is done and what stays.
func (c *ruleChange) note() string {
	var parts []string
	if len(c.done) > 0 {
		parts = append(parts, strings.Join(c.done, ", "))
	}
	if len(c.left) > 0 {
		parts = append(parts, "also open, and left so: "+strings.Join(c.left, ", "))
	}
	return strings.Join(parts, "; ")
}

// carryOut makes the changes. It opens before it closes, so that nobody is locked out if it fails between the two.
func (c *ruleChange) carryOut(ctx context.Context, client *ec2.Client, id *string) error {
	if len(c.open) > 0 {
		in := &ec2.AuthorizeSecurityGroupIngressInput{GroupId: id, IpPermissions: c.open}
		if err := settled(ctx, func(ctx context.Context) error {
			_, err := client.AuthorizeSecurityGroupIngress(ctx, in)
			return err
		}); err != nil {
			return err
		}
	}
	if len(c.describe) > 0 {
		in := &ec2.UpdateSecurityGroupRuleDescriptionsIngressInput{GroupId: id, IpPermissions: c.describe}
		if _, err := client.UpdateSecurityGroupRuleDescriptionsIngress(ctx, in); err != nil {
			return err
		}
	}
	if len(c.shut) > 0 {
		in := &ec2.RevokeSecurityGroupIngressInput{GroupId: id, IpPermissions: c.shut}
		if _, err := client.RevokeSecurityGroupIngress(ctx, in); err != nil {
			return err
		}
	}
	return nil
}
