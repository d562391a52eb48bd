package ec2

import (
	"maps"
	"slices"
	"strconv"

	"cloudmaster/integration/aws/call"
)

// mayLaunch asks for everything that RunInstances needs: for each resource that it makes or uses, to tag what it makes,
// and to give the instance a role. Source: Service Authorization Reference, "Actions, resources, and condition keys
// for Amazon EC2"; EC2 User Guide, "Grant permission to tag Amazon EC2 resources during creation"; IAM User Guide,
// "Grant a user permissions to pass a role to an AWS service".
func (r *Region) mayLaunch(in *request, l *launch) error {
	ask := func(resource string, context call.Context) error {
		maps.Copy(context, r.context())
		return in.allowed(call.Call{Action: "ec2:RunInstances", Resources: []string{resource}, Context: context})
	}
	for _, one := range r.launchResources(l) {
		if err := ask(one.arn, one.context); err != nil {
			return err
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(l.tags)) {
		context := r.context()
		context.Set("ec2:CreateAction", "RunInstances")
		context.SetRequestTags(l.tags[kind])
		one := call.Call{Action: "ec2:CreateTags", Resources: []string{r.arn(kind, "*")}, Context: context}
		if err := in.allowed(one); err != nil {
			return err
		}
	}
	if l.role == "" {
		return nil
	}
	context := call.Context{}
	context.Set("iam:PassedToService", "ec2.amazonaws.com")
	role := "arn:" + call.Partition + ":iam::" + r.account + ":role/" + l.role
	return in.allowed(call.Call{Action: "iam:PassRole", Resources: []string{role}, Context: context})
}

// resource is something that an action makes or uses, with its condition keys.
type resource struct {
	arn     string
	context call.Context
}

// launchResources are the resources of a RunInstances.
func (r *Region) launchResources(l *launch) []resource {
	out := []resource{
		{r.arn("instance", "*"), r.instanceContext(l)},
		{r.arn("volume", "*"), r.volumeContext(l)},
		{r.arn("network-interface", "*"), r.interfaceContext(l)},
		{"arn:" + call.Partition + ":ec2:" + r.name + "::image/" + l.image.ID, l.image.context()},
	}
	if l.subnet != nil {
		out = append(out, resource{r.arn("subnet", l.subnet.ID), r.subnetContext(l.subnet)})
	} else {
		// EC2 chooses one of the default subnets. All of them have the same keys but for their ids.
		for _, s := range r.defaults(l.zone) {
			out = append(out, resource{r.arn("subnet", s.ID), r.subnetContext(s)})
			break
		}
	}
	for _, g := range l.groups {
		out = append(out, resource{r.arn("security-group", g.id), r.groupContext(g)})
	}
	if l.key != "" {
		out = append(out, resource{r.arn("key-pair", l.key), call.Context{"ec2:KeyPairName": {l.key}}})
	}
	if l.placement != "" {
		context := call.Context{"ec2:PlacementGroupName": {l.placement}}
		out = append(out, resource{r.arn("placement-group", l.placement), context})
	}
	if l.market == spot {
		context := call.Context{}
		context.SetRequestTags(l.tags["spot-instances-request"])
		out = append(out, resource{r.arn("spot-instances-request", "*"), context})
	}
	return out
}

func (r *Region) instanceContext(l *launch) call.Context {
	c := call.Context{}
	c.Set("ec2:InstanceType", l.kind.Name)
	c.Set("ec2:MetadataHttpTokens", l.tokens)
	c.Set("ec2:MetadataHttpEndpoint", l.endpoint)
	c.Set("ec2:MetadataHttpPutResponseHopLimit", l.hops)
	c.Set("ec2:RootDeviceType", "ebs")
	c.Set("ec2:Tenancy", "default")
	c.Set("ec2:EbsOptimized", "false")
	c.Set("ec2:InstanceMarketType", "on-demand")
	if l.market == spot {
		c.Set("ec2:InstanceMarketType", "spot")
	}
	if l.profile != "" {
		c.Set("ec2:InstanceProfile",
			"arn:"+call.Partition+":iam::"+r.account+":instance-profile/"+l.profile)
	}
	if l.zone != "" {
		c.Set("ec2:AvailabilityZone", l.zone)
	}
	c.SetRequestTags(l.tags["instance"])
	return c
}

func (*Region) volumeContext(l *launch) call.Context {
	c := call.Context{}
	c.Set("ec2:Encrypted", "false")
	if l.zone != "" {
		c.Set("ec2:AvailabilityZone", l.zone)
	}
	c.SetRequestTags(l.tags["volume"])
	return c
}

func (r *Region) interfaceContext(l *launch) call.Context {
	c := call.Context{}
	if l.subnet != nil {
		c.Set("ec2:Subnet", r.arn("subnet", l.subnet.ID))
		c.Set("ec2:Vpc", r.arn("vpc", l.subnet.VPC))
		c.Set("ec2:AvailabilityZone", l.subnet.Zone)
	}
	c.SetRequestTags(l.tags["network-interface"])
	return c
}

func (r *Region) subnetContext(s *subnet) call.Context {
	c := call.Context{}
	c.Set("ec2:SubnetID", s.ID)
	c.Set("ec2:Vpc", r.arn("vpc", s.VPC))
	c.Set("ec2:AvailabilityZone", s.Zone)
	setResourceTags(c, s.Tags)
	return c
}

func (r *Region) groupContext(g *group) call.Context {
	c := call.Context{}
	c.Set("ec2:SecurityGroupID", g.id)
	c.Set("ec2:Vpc", r.arn("vpc", g.vpc))
	setResourceTags(c, g.tags)
	return c
}

func (i *Image) context() call.Context {
	c := call.Context{}
	c.Set("ec2:Owner", i.Owner)
	c.Set("ec2:ImageID", i.ID)
	c.Set("ec2:ImageType", "machine")
	c.Set("ec2:Public", strconv.FormatBool(i.Public))
	c.Set("ec2:RootDeviceType", "ebs")
	setResourceTags(c, i.Tags)
	return c
}

// ofInstance holds the condition keys of an instance that exists.
func (r *Region) ofInstance(i *instance) call.Context {
	c := r.context()
	c.Set("ec2:InstanceType", i.Type)
	c.Set("ec2:InstanceID", i.ID)
	c.Set("ec2:AvailabilityZone", i.Zone)
	c.Set("ec2:MetadataHttpTokens", i.HTTPTokens)
	c.Set("ec2:RootDeviceType", "ebs")
	c.Set("ec2:Tenancy", "default")
	if i.Profile != "" {
		c.Set("ec2:InstanceProfile", "arn:"+call.Partition+":iam::"+r.account+":instance-profile/"+i.Profile)
	}
	setResourceTags(c, i.Tags)
	return c
}

// setResourceTags sets the tags of a resource under both of their keys. Source: Service Authorization Reference,
// condition keys for Amazon EC2.
func setResourceTags(c call.Context, tags map[string]string) {
	c.SetTags("aws:ResourceTag", tags)
	c.SetTags("ec2:ResourceTag", tags)
}
