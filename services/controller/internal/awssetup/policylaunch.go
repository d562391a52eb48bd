package awssetup

import (
	"slices"
	"strings"

	"cloudmaster/internal/awsconf"
	"cloudmaster/internal/cloud"
	"cloudmaster/internal/cloud/ec2cloud"
	"cloudmaster/services/controller/internal/config"
)

// controlInstances are the controller's rights on EC2. Instances must have the deployment's tag and refuse the first
// version of the metadata service, images must be of the owners that the configuration knows, and security groups must
// be the deployment's; subnets are bound if all pools name theirs, or all clouds their VPC.
func (p *Policies) controlInstances() []Statement {
	ours := equals("ec2:ResourceTag/"+cloud.TagDeployment, p.owner)
	tagged := equals("aws:RequestTag/"+cloud.TagDeployment, p.owner)
	instances := p.ec2("instance")
	run := []string{"ec2:RunInstances"}
	see := []string{
		"ec2:DescribeImages", "ec2:DescribeInstanceStatus", "ec2:DescribeInstances", "ec2:DescribeSecurityGroups",
	}
	if slices.ContainsFunc(pools(p.cfg), byArchitecture) {
		see = append(see, "ec2:DescribeInstanceTypes")
	}
	s := []Statement{
		allow("SeeInstances", see, everything...),
		allow("LaunchTagged", run, instances...).when(tagged.and("ec2:MetadataHttpTokens", "required")),
		allow("LaunchVolumes", run, p.ec2("volume")...).when(tagged),
	}
	s = append(s, p.launchIn(run)...)
	s = append(s,
		allow("LaunchInGroups", run, p.ec2("security-group")...).
			when(equals("aws:ResourceTag/"+awsconf.TagDeployment, p.cfg.Deployment)),
	)
	if others := p.named("security-group", p.foreignGroups); len(others) > 0 {
		s = append(s, allow("LaunchInNamedGroups", run, others...))
	}
	if byID := p.named("image", p.imageIDs); len(byID) > 0 {
		s = append(s, allow("LaunchImages", run, byID...))
	}
	if slices.ContainsFunc(pools(p.cfg), keepsWarm) {
		s = append(s, allow("StopAndStartOurs", []string{"ec2:StartInstances", "ec2:StopInstances"}, instances...).
			when(ours))
	}
	return append(s,
		allow("LaunchImagesOfOwners", run, p.images("*")...).when(equals("ec2:Owner", p.imageOwners()...)),
		allow("TagAtLaunch", []string{"ec2:CreateTags"}, slices.Concat(instances,
			p.ec2("volume", "network-interface", "spot-instances-request"))...).
			when(equals("ec2:CreateAction", "RunInstances")),
		// Another deployment's tag would make the instance one of that deployment.
		allow("TagOurs", []string{"ec2:CreateTags"}, instances...).
			when(ours.orNone("aws:RequestTag/"+cloud.TagDeployment, p.owner)),
		allow("EndOurs", []string{"ec2:TerminateInstances"}, instances...).when(ours),
		allow("ReadImageNames", []string{"ssm:GetParameter"}, p.parameters()...),
		allow("GiveRoles", []string{"iam:PassRole"}, p.roles()...).when(p.toEC2()),
	)
}

// launchIn are the rights on where instances are launched. Where all clouds name their VPC, subnets and network
// interfaces must be in it. Without that the default VPC cannot be named, because IAM policies are made without AWS.
// What EC2 is taken to do here is number 55 of docs/assumptions.md.
func (p *Policies) launchIn(run []string) []Statement {
	subnets := p.named("subnet", p.subnets)
	if !p.vpcKnown() {
		return []Statement{allow("LaunchWith", run, slices.Concat(subnets,
			p.ec2("key-pair", "network-interface", "placement-group", "spot-instances-request"))...)}
	}
	return []Statement{
		allow("LaunchWith", run, p.ec2("key-pair", "placement-group", "spot-instances-request")...),
		allow("LaunchInVPC", run, slices.Concat(subnets, p.ec2("network-interface"))...).
			when(equals("ec2:Vpc", p.vpcs()...)),
	}
}

// vpcKnown reports whether each cloud on EC2 names its VPC.
func (p *Policies) vpcKnown() bool {
	for _, name := range onEC2(p.cfg) {
		if ec2Settings(p.cfg, name).VPC == "" {
			return false
		}
	}
	return true
}

// vpcs are the ARNs of the VPCs that clouds name; of all, if a cloud names none.
func (p *Policies) vpcs() []string {
	if !p.vpcKnown() {
		return p.ec2("vpc")
	}
	var out []string
	for _, name := range onEC2(p.cfg) {
		out = append(out,
			"arn:"+p.partition+":ec2:"+p.regionOf(name)+":"+p.account+":vpc/"+ec2Settings(p.cfg, name).VPC)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// keepsWarm reports whether a pool keeps stopped instances.
func keepsWarm(pl *config.Pool) bool { return pl.Warm > 0 }

// byArchitecture reports whether a pool's image depends on the instance type.
func byArchitecture(pl *config.Pool) bool { return strings.Contains(pl.Image, ec2cloud.ArchMark) }

// images are ARNs of images. They name no account, because images may belong to anybody.
func (p *Policies) images(id string) []string {
	var out []string
	for _, region := range p.regions() {
		out = append(out, "arn:"+p.partition+":ec2:"+region+"::image/"+id)
	}
	return out
}

// named are the ARNs of the things of a kind that pools name; an id * stands for all.
func (p *Policies) named(kind string, ids func() []string) []string {
	var out []string
	for _, id := range ids() {
		if kind == "image" {
			out = append(out, p.images(id)...)
			continue
		}
		for _, region := range p.regions() {
			out = append(out, "arn:"+p.partition+":ec2:"+region+":"+p.account+":"+kind+"/"+id)
		}
	}
	return out
}

// launches are how the pools on EC2 are launched.
func (p *Policies) launches() []ec2cloud.Launch {
	var out []ec2cloud.Launch
	for _, pl := range pools(p.cfg) {
		if p.cfg.Clouds[pl.Cloud].Kind.Name == ec2cloud.KindName {
			out = append(out, launch(p.cfg, p.regionOf(pl.Cloud), pl))
		}
	}
	return out
}

// subnets are those that pools name. One that names none may be in any of the default VPC.
func (p *Policies) subnets() []string {
	var out []string
	for _, l := range p.launches() {
		if len(l.Subnets) == 0 {
			return []string{"*"}
		}
		out = append(out, l.Subnets...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// foreignGroups are the security groups that pools name. A name may stand for any of them.
func (p *Policies) foreignGroups() []string {
	var out []string
	for _, pl := range pools(p.cfg) {
		if p.cfg.Clouds[pl.Cloud].Kind.Name != ec2cloud.KindName {
			continue
		}
		for _, g := range launch(p.cfg, p.regionOf(pl.Cloud), pl).SecurityGroups {
			switch {
			case strings.HasPrefix(g, "sg-"):
				out = append(out, g)
			case g != ownedGroup(p.cfg, pl.Name):
				return []string{"*"}
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// imageIDs are the images that pools name by their ids. An SSM parameter may hold that of anybody.
func (p *Policies) imageIDs() []string {
	var out []string
	for _, pl := range pools(p.cfg) {
		if p.cfg.Clouds[pl.Cloud].Kind.Name != ec2cloud.KindName {
			continue
		}
		if path, ok := namesParameter(pl); ok && strings.HasPrefix(strings.TrimPrefix(path, "/"), "aws/") {
			return []string{"*"}
		}
		if strings.HasPrefix(pl.Image, "ami-") {
			out = append(out, pl.Image)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// imageOwners are whose images are found by name, as IAM names them: self is the account.
func (p *Policies) imageOwners() []string {
	out := []string{p.account}
	for _, name := range onEC2(p.cfg) {
		for _, owner := range ec2Settings(p.cfg, name).ImageOwners {
			if owner != ec2cloud.DefaultImageOwner {
				out = append(out, owner)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
