package ec2cloud

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/pool"
)

const (
	pageSize = 1000 // the most DescribeInstances gives at once
	nameTag  = "Name"
	// ownPrefix begins the keys of all tags that CloudMaster writes, but the name's.
	ownPrefix = "cloudmaster:"
)

// phases are EC2's states of instances. A stopped instance does no work, its volume is paid for, and it stays like
// that.
var phases = map[types.InstanceStateName]cloud.Phase{
	types.InstanceStateNamePending:      cloud.Pending,
	types.InstanceStateNameRunning:      cloud.Running,
	types.InstanceStateNameShuttingDown: cloud.Terminating,
	types.InstanceStateNameStopping:     cloud.Halting,
	types.InstanceStateNameStopped:      cloud.Stopped,
	types.InstanceStateNameTerminated:   cloud.Terminated,
}

// List implements cloud.Cloud.
func (c *Cloud) List(ctx context.Context) ([]cloud.Instance, error) {
	if err := done(ctx); err != nil {
		return nil, fmt.Errorf("list instances: %w", err)
	}
	out, err := c.describe(ctx)
	if err != nil {
		return nil, fmt.Errorf("list instances: %w", err)
	}
	return out, nil
}

// describe returns all instances of the deployment that pass the filters as well.
func (c *Cloud) describe(ctx context.Context, filters ...types.Filter) ([]cloud.Instance, error) {
	pages := ec2.NewDescribeInstancesPaginator(c.client, &ec2.DescribeInstancesInput{
		Filters:    append(filters, filter("tag:"+cloud.TagDeployment, c.deployment)),
		MaxResults: aws.Int32(pageSize),
	})
	var out []cloud.Instance
	have := make(map[pool.InstanceID]bool) // an instance that changes while pages are read may come twice
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, classify(err)
		}
		for _, r := range page.Reservations {
			for _, in := range c.saw(r.Instances) {
				if !have[in.ID] {
					have[in.ID] = true
					out = append(out, in)
				}
			}
		}
	}
	c.expireSights()
	return out, nil
}

// instance is EC2's instance in the port's words.
func (c *Cloud) instance(in *types.Instance) cloud.Instance {
	out := cloud.Instance{
		Place: aws.ToString(in.SubnetId),
		ID:    pool.InstanceID(aws.ToString(in.InstanceId)), Phase: cloud.Pending,
		Image: aws.ToString(in.ImageId), Launched: aws.ToTime(in.LaunchTime),
		Tags: make(map[string]string, len(in.Tags)),
		Type: string(in.InstanceType), Spot: in.InstanceLifecycle == types.InstanceLifecycleTypeSpot,
	}
	if in.Placement != nil {
		out.Zone = aws.ToString(in.Placement.AvailabilityZone)
	}
	if in.State != nil {
		out.Phase = cmp.Or(phases[in.State.Name], cloud.Terminating) // an unknown state: do not expect work
	}
	if in.StateReason != nil && out.Phase != cloud.Pending && out.Phase != cloud.Running {
		out.Reason = aws.ToString(in.StateReason.Message)
	}
	for _, t := range in.Tags {
		if key := aws.ToString(t.Key); !strings.HasPrefix(key, "aws:") {
			out.Tags[key] = aws.ToString(t.Value)
		}
	}
	out.Hosts = hosts(in)
	out.Address = address(in, c.opts.public(pool.Name(out.Tags[cloud.TagPool])))
	if out.Tags[nameTag] == c.name(out.Tags[cloud.TagPool]) { // for people who look at EC2's console
		delete(out.Tags, nameTag)
	}
	return out
}

// hosts are the names and addresses of an instance, of all its network interfaces.
func hosts(in *types.Instance) (out []string) {
	all := []*string{in.PublicDnsName, in.PublicIpAddress, in.PrivateDnsName, in.PrivateIpAddress, in.Ipv6Address}
	for i := range in.NetworkInterfaces {
		n := &in.NetworkInterfaces[i]
		for j := range n.PrivateIpAddresses {
			p := &n.PrivateIpAddresses[j]
			if all = append(all, p.PrivateIpAddress, p.PrivateDnsName); p.Association != nil {
				all = append(all, p.Association.PublicIp, p.Association.PublicDnsName)
			}
		}
		for j := range n.Ipv6Addresses {
			all = append(all, n.Ipv6Addresses[j].Ipv6Address)
		}
	}
	for _, host := range all {
		if h := aws.ToString(host); h != "" && !slices.Contains(out, h) {
			out = append(out, h)
		}
	}
	return out
}

// address is where clients reach an instance. A private address comes before the private name, because clients in
// another network that is joined with this one need not know the name.
func address(in *types.Instance, public bool) string {
	if public {
		return cmp.Or(aws.ToString(in.PublicDnsName), aws.ToString(in.PublicIpAddress),
			aws.ToString(in.PrivateDnsName), aws.ToString(in.PrivateIpAddress))
	}
	return cmp.Or(aws.ToString(in.PrivateIpAddress), aws.ToString(in.PrivateDnsName))
}

// name is what EC2's console calls the instances of a pool.
func (c *Cloud) name(poolName string) string {
	return strings.TrimSuffix("cloudmaster-"+c.deployment+"-"+poolName, "-")
}

func filter(name string, values ...string) types.Filter {
	return types.Filter{Name: aws.String(name), Values: values}
}
