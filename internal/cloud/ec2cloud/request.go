package ec2cloud

import (
	"context"
	"encoding/base64"
	"fmt"
	"maps"
	"regexp"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"cloudmaster/internal/cloud"
)

// request returns what one try of a launch asks for.
func (c *Cloud) request(
	ctx context.Context, spec *cloud.Spec, conf *Launch, t *try, last attempt,
) (*ec2.RunInstancesInput, error) {
	doc, err := userData(spec)
	if err != nil {
		return nil, err
	}
	image := last.image // not a newer one of this name: that would be another request
	if last.name != spec.Image || last.suffix != t.suffix {
		if image, err = c.imageFor(ctx, spec.Image, t.kind); err != nil {
			return nil, err
		}
	}
	groups, err := c.groupIDs(ctx, conf.SecurityGroups)
	if err != nil {
		return nil, err
	}
	disks, err := c.disks(ctx, image, &conf.Volume)
	if err != nil {
		return nil, err
	}
	in := &ec2.RunInstancesInput{
		ClientToken: aws.String(t.token), ImageId: aws.String(image), InstanceType: types.InstanceType(t.kind),
		MinCount:         aws.Int32(int32(min(t.least, mostAtOnce))), //nolint:gosec // bounded
		MaxCount:         aws.Int32(int32(min(t.count, mostAtOnce))), //nolint:gosec // bounded
		SecurityGroupIds: groups, UserData: doc, BlockDeviceMappings: disks,
		InstanceInitiatedShutdownBehavior: types.ShutdownBehaviorTerminate,
		MetadataOptions: &types.InstanceMetadataOptionsRequest{
			HttpEndpoint: types.InstanceMetadataEndpointStateEnabled,
			HttpTokens:   types.HttpTokensStateRequired, HttpPutResponseHopLimit: aws.Int32(1),
		},
		TagSpecifications: c.tagged(spec, conf, t), CreditSpecification: credits(conf, t),
		InstanceMarketOptions: market(t), IamInstanceProfile: profile(conf.InstanceProfile),
		KeyName: text(conf.KeyName), SubnetId: text(t.subnet),
	}
	if conf.PlacementGroup != "" {
		in.Placement = &types.Placement{GroupName: aws.String(conf.PlacementGroup)}
	}
	if conf.IPv6 {
		in.Ipv6AddressCount = aws.Int32(1)
	}
	return in, nil
}

// mostAtOnce is more than EC2 starts at once.
const mostAtOnce = 1 << 30

// text returns a pointer as the SDK takes it; nil if there is nothing.
func text(s string) *string {
	if s == "" {
		return nil
	}
	return aws.String(s)
}

func market(t *try) *types.InstanceMarketOptionsRequest {
	if !t.spot {
		return nil
	}
	return &types.InstanceMarketOptionsRequest{
		MarketType:  types.MarketTypeSpot,
		SpotOptions: &types.SpotMarketOptions{SpotInstanceType: types.SpotInstanceTypeOneTime},
	}
}

// burstable are the types that earn credits. EC2 refuses to be told of credits for any other.
// Source: Amazon EC2 User Guide, "Burstable performance instances".
var burstable = regexp.MustCompile(`^t[0-9]`)

// credits returns how the instance pays for processor time above its share. EC2's default is that t3 and t4g pay for as
// much as they use, which a program that computes without pause turns into a bill nobody expects.
func credits(conf *Launch, t *try) *types.CreditSpecificationRequest {
	if !burstable.MatchString(t.kind) {
		return nil
	}
	how := conf.Credits
	if how == "" {
		how = CreditsStandard
	}
	return &types.CreditSpecificationRequest{CpuCredits: aws.String(how)}
}

func profile(name string) *types.IamInstanceProfileSpecification {
	switch {
	case name == "":
		return nil
	case strings.HasPrefix(name, "arn:"):
		return &types.IamInstanceProfileSpecification{Arn: aws.String(name)}
	}
	return &types.IamInstanceProfileSpecification{Name: aws.String(name)}
}

// tagged returns the tags of everything that a try makes.
func (c *Cloud) tagged(spec *cloud.Spec, conf *Launch, t *try) []types.TagSpecification {
	tags := map[string]string{nameTag: c.name(spec.Tags[cloud.TagPool])}
	maps.Copy(tags, conf.Tags)
	maps.Copy(tags, spec.Tags)
	tags[cloud.TagDeployment] = c.deployment
	what := []types.ResourceType{types.ResourceTypeInstance, types.ResourceTypeVolume}
	if len(conf.Tags) > 0 {
		what = append(what, types.ResourceTypeNetworkInterface)
	}
	if len(conf.Tags) > 0 && t.spot {
		what = append(what, types.ResourceTypeSpotInstancesRequest)
	}
	out := make([]types.TagSpecification, len(what))
	for i := range what {
		out[i] = types.TagSpecification{ResourceType: what[i], Tags: list(tags)}
	}
	return out
}

// disks returns how the root volume differs from the image's; nil if it does not.
func (c *Cloud) disks(ctx context.Context, image string, v *Volume) ([]types.BlockDeviceMapping, error) {
	if *v == (Volume{}) {
		return nil, nil
	}
	root, err := c.root(ctx, image)
	if err != nil {
		return nil, err
	}
	disk := &types.EbsBlockDevice{DeleteOnTermination: aws.Bool(true), VolumeType: types.VolumeType(v.Type)}
	if v.Size > 0 {
		disk.VolumeSize = aws.Int32(int32(v.Size)) //nolint:gosec // at most maxVolume
	}
	if v.Encrypted {
		disk.Encrypted = aws.Bool(true)
	}
	return []types.BlockDeviceMapping{{DeviceName: aws.String(root), Ebs: disk}}, nil
}

// userData returns the document as RunInstances takes it; nil if there is none.
func userData(spec *cloud.Spec) (*string, error) {
	if spec.UserData == nil {
		return nil, nil
	}
	doc, err := spec.UserData("")
	if err != nil {
		return nil, fmt.Errorf("user data: %w", err)
	}
	if len(doc) > cloud.MaxUserData {
		return nil, fmt.Errorf("%w: user data is %d bytes, EC2 takes %d; shorten the pool's settings",
			cloud.ErrInvalid, len(doc), cloud.MaxUserData)
	}
	return aws.String(base64.StdEncoding.EncodeToString(doc)), nil
}
