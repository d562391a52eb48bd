package awssetup

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"cloudmaster/internal/awsconf"
	"cloudmaster/services/controller/internal/config"
)

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
	if named := ec2Settings(s.cfg, pl.Cloud).VPC; named != "" && named != aws.ToString(vpc.VpcId) {
		p.refuse("clouds.%s.vpc: it is %s, and instances of pool %s run in %s: name that one, or subnets of %s",
			pl.Cloud, named, pl.Name, aws.ToString(vpc.VpcId), named)
		return nil
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
		t.verb = keep
		diff := want.changes(split(found[0].IpPermissions))
		t.note = diff.note()
		if len(diff.done) > 0 {
			t.verb = change
			t.do = func(ctx context.Context) error { return diff.carryOut(ctx, client, found[0].GroupId) }
		}
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
	change := want.changes(nil)
	return change.carryOut(ctx, client, out.GroupId)
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
