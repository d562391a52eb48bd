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

	"cloudmaster/internal/awsconf"
	"cloudmaster/services/controller/internal/config"
)

// rules are permissions for incoming traffic, each from one source, by a text that describes it.
type rules map[string]types.IpPermission

// planGroup looks at the security group of a pool, if it is the one that setup makes.
func (s *site) planGroup(ctx context.Context, p *plan, at *place, pl *config.Pool) error {
	if !s.ownsGroup(at, pl) {
		return nil
	}
	client, name := ec2.NewFromConfig(at.aws), ownedGroup(s.cfg, pl.Name)
	vpc, err := s.vpc(ctx, p, client, launch(s.cfg, at.aws.Region, pl).Subnets, pl)
	if err != nil || vpc == nil {
		return err
	}
	found, err := groups(ctx, client, filter("group-name", name))
	if err != nil {
		return fmt.Errorf("look for security group %s: %w", name, err)
	}
	want := ingress(pl.ServicePort, s.sources(pl, vpc))
	t := thing{kind: kindGroup, name: name}
	switch {
	case len(found) == 0:
		t.verb, t.do = create, func(ctx context.Context) error {
			return createGroup(ctx, client, s.cfg.Deployment, pl, name, aws.ToString(vpc.VpcId), want)
		}
	case p.refuseOthers(kindGroup, name, s.cfg.Deployment, ec2Tags(found[0].Tags)):
		return nil
	case len(found) > 1 || aws.ToString(found[0].VpcId) != aws.ToString(vpc.VpcId):
		s.refuseGroup(p, pl, found, aws.ToString(vpc.VpcId))
		return nil
	case !awsconf.Ours(ec2Tags(found[0].Tags), s.cfg.Deployment):
		t.verb, t.note = use, notOurs
	default:
		t.verb, t.note, t.do = compareRules(client, found[0], want)
	}
	p.add(t)
	return nil
}

// refuseGroup refuses groups with the pool's name in another VPC: the controller finds its groups by name, and
// would find those.
func (s *site) refuseGroup(p *plan, pl *config.Pool, found []types.SecurityGroup, vpc string) {
	var where []string
	for i := range found {
		where = append(where, aws.ToString(found[i].GroupId)+" in "+aws.ToString(found[i].VpcId))
	}
	next := "delete it, or name another one in security_groups"
	if awsconf.Ours(ec2Tags(found[0].Tags), s.cfg.Deployment) {
		next = "run controller teardown, which removes it, and then setup again; or name another one in security_groups"
	}
	p.refuse("security group %s exists (%s), and instances of pool %s run in %s: %s",
		ownedGroup(s.cfg, pl.Name), strings.Join(where, ", "), pl.Name, vpc, next)
}

// vpc returns the VPC that the pool's instances run in; nil if there is a reason to refuse, which is noted.
func (s *site) vpc(
	ctx context.Context, p *plan, client *ec2.Client, subnets []string, pl *config.Pool,
) (*types.Vpc, error) {
	in := &ec2.DescribeVpcsInput{Filters: []types.Filter{filter("is-default", "true")}}
	if len(subnets) > 0 {
		out, err := client.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{SubnetIds: subnets})
		if err != nil {
			return nil, fmt.Errorf("look for subnets %s of pool %s: %w", strings.Join(subnets, ", "), pl.Name, err)
		}
		ids := make(map[string]bool)
		for i := range out.Subnets {
			ids[aws.ToString(out.Subnets[i].VpcId)] = true
		}
		in = &ec2.DescribeVpcsInput{VpcIds: slices.Sorted(maps.Keys(ids))}
	}
	out, err := client.DescribeVpcs(ctx, in)
	switch {
	case err != nil:
		return nil, fmt.Errorf("look for the VPC of pool %s: %w", pl.Name, err)
	case len(out.Vpcs) == 0:
		p.refuse("pool %s names no subnets, and the region has no default VPC: "+
			"name some in subnets, or make one (aws ec2 create-default-vpc)", pl.Name)
		return nil, nil
	case len(out.Vpcs) > 1:
		p.refuse("the subnets of pool %s are in %d VPCs, and a security group is in one: "+
			"name subnets of one VPC, or security_groups", pl.Name, len(out.Vpcs))
		return nil, nil
	}
	return &out.Vpcs[0], nil
}

// sources are the blocks of addresses that may reach the pool's service.
func (s *site) sources(pl *config.Pool, vpc *types.Vpc) []string {
	if named := clients(s.cfg, pl); len(named) > 0 {
		return named
	}
	var out []string
	for _, a := range vpc.CidrBlockAssociationSet {
		if a.CidrBlockState == nil || a.CidrBlockState.State == types.VpcCidrBlockStateCodeAssociated {
			out = append(out, aws.ToString(a.CidrBlock))
		}
	}
	if len(out) == 0 {
		out = append(out, aws.ToString(vpc.CidrBlock))
	}
	return out
}

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
		add := func(source *string, one types.IpPermission) { out[ports(p)+" from "+aws.ToString(source)] = one }
		for _, r := range p.IpRanges {
			one := base
			one.IpRanges = []types.IpRange{{CidrIp: r.CidrIp}}
			add(r.CidrIp, one)
		}
		for _, r := range p.Ipv6Ranges {
			one := base
			one.Ipv6Ranges = []types.Ipv6Range{{CidrIpv6: r.CidrIpv6}}
			add(r.CidrIpv6, one)
		}
		for _, r := range p.PrefixListIds {
			one := base
			one.PrefixListIds = []types.PrefixListId{{PrefixListId: r.PrefixListId}}
			add(r.PrefixListId, one)
		}
		for _, r := range p.UserIdGroupPairs {
			one := base
			one.UserIdGroupPairs = []types.UserIdGroupPair{{GroupId: r.GroupId, UserId: r.UserId}}
			add(r.GroupId, one)
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

// without returns the rules that others lack, and their descriptions, sorted.
func (r rules) without(others rules) (words []string, perms []types.IpPermission) {
	for _, w := range slices.Sorted(maps.Keys(r)) {
		if _, ok := others[w]; !ok {
			words, perms = append(words, w), append(perms, r[w])
		}
	}
	return words, perms
}

// compareRules says what has to be done to a group of ours.
func compareRules(client *ec2.Client, g types.SecurityGroup, want rules) (verb, string, func(context.Context) error) {
	have := split(g.IpPermissions)
	opened, open := want.without(have)
	closed, shut := have.without(want)
	if len(open)+len(shut) == 0 {
		return keep, "", nil
	}
	var notes []string
	for _, w := range opened {
		notes = append(notes, "open "+w)
	}
	for _, w := range closed {
		notes = append(notes, "close "+w)
	}
	return change, strings.Join(notes, ", "), func(ctx context.Context) error {
		return changeRules(ctx, client, g.GroupId, open, shut)
	}
}

func changeRules(ctx context.Context, client *ec2.Client, id *string, open, shut []types.IpPermission) error {
	if len(open) > 0 {
		in := &ec2.AuthorizeSecurityGroupIngressInput{GroupId: id, IpPermissions: open}
		if _, err := client.AuthorizeSecurityGroupIngress(ctx, in); err != nil {
			return err
		}
	}
	if len(shut) > 0 {
		in := &ec2.RevokeSecurityGroupIngressInput{GroupId: id, IpPermissions: shut}
		if _, err := client.RevokeSecurityGroupIngress(ctx, in); err != nil {
			return err
		}
	}
	return nil
}

func createGroup(
	ctx context.Context, client *ec2.Client, deployment string, pl *config.Pool, name, vpc string, want rules,
) error {
	out, err := client.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{
		GroupName: aws.String(name), VpcId: aws.String(vpc),
		Description: aws.String("CloudMaster: instances of pool " + string(pl.Name)),
		TagSpecifications: []types.TagSpecification{{
			ResourceType: types.ResourceTypeSecurityGroup,
			Tags:         ec2TagList(awsconf.SetupTags(deployment)),
		}},
	})
	if err != nil {
		return err
	}
	_, open := want.without(nil)
	return changeRules(ctx, client, out.GroupId, open, nil)
}

// groups returns all security groups that pass the filter.
func groups(ctx context.Context, client *ec2.Client, by types.Filter) ([]types.SecurityGroup, error) {
	pages := ec2.NewDescribeSecurityGroupsPaginator(client, &ec2.DescribeSecurityGroupsInput{
		Filters: []types.Filter{by},
	})
	var out []types.SecurityGroup
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		out = append(out, page.SecurityGroups...)
	}
	return out, nil
}

func filter(name string, values ...string) types.Filter {
	return types.Filter{Name: aws.String(name), Values: values}
}

func ec2Tags(tags []types.Tag) map[string]string {
	out := make(map[string]string, len(tags))
	for _, t := range tags {
		out[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	return out
}

func ec2TagList(tags map[string]string) []types.Tag {
	return tagList(tags, func(k, v string) types.Tag { return types.Tag{Key: &k, Value: &v} })
}

// tagList returns tags in the type of one service, sorted by their keys.
func tagList[T any](tags map[string]string, tag func(key, value string) T) []T {
	var out []T
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		out = append(out, tag(key, tags[key]))
	}
	return out
}
