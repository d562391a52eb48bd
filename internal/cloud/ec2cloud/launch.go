package ec2cloud

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/pool"
)

// Launch implements cloud.Cloud.
func (c *Cloud) Launch(ctx context.Context, spec cloud.Spec) ([]cloud.Instance, error) {
	out, err := c.launch(ctx, &spec)
	if err != nil {
		err = fmt.Errorf("launch %d of image %q: %w", spec.Count, spec.Image, err)
	}
	return out, err
}

func (c *Cloud) launch(ctx context.Context, spec *cloud.Spec) ([]cloud.Instance, error) {
	if err := done(ctx); err != nil {
		return nil, err
	}
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	if spec.Login != nil {
		return nil, cloud.ErrNoLogins
	}
	conf, err := c.opts.of(pool.Name(spec.Tags[cloud.TagPool]))
	if err != nil {
		return nil, err
	}
	last, begun := c.recall(spec.Token)
	in, err := c.request(ctx, spec, &conf, last)
	if err != nil {
		return nil, err
	}
	refused := cloud.ErrCapacity
	for _, try := range order(tries(spec, &conf), last, begun) {
		out, err := c.run(ctx, spec, in, try)
		switch {
		case err == nil && len(out) < spec.Count:
			return out, fmt.Errorf("%w: %d were started", cloud.ErrCapacity, len(out))
		case err == nil, !errors.Is(err, cloud.ErrCapacity):
			return out, err
		}
		c.log.InfoContext(ctx, "no capacity",
			"subnet", try.subnet, "at_least", try.least, "count", spec.Count, "error", err)
		refused = err
	}
	return nil, refused
}

// request returns what all tries of a launch have in common.
func (c *Cloud) request(
	ctx context.Context, spec *cloud.Spec, conf *Launch, last attempt,
) (*ec2.RunInstancesInput, error) {
	doc, err := userData(spec)
	if err != nil {
		return nil, err
	}
	image := last.image // not a newer one of this name: that would be another request
	if last.name != spec.Image {
		if image, err = c.image(ctx, spec.Image); err != nil {
			return nil, err
		}
	}
	groups, err := c.groupIDs(ctx, conf.SecurityGroups)
	if err != nil {
		return nil, err
	}
	tags := c.tags(spec)
	in := &ec2.RunInstancesInput{
		ImageId: aws.String(image), InstanceType: types.InstanceType(conf.InstanceType),
		SecurityGroupIds: groups, UserData: doc,
		MaxCount:                          aws.Int32(int32(min(spec.Count, 1<<30))), //nolint:gosec // bounded
		InstanceInitiatedShutdownBehavior: types.ShutdownBehaviorTerminate,
		MetadataOptions: &types.InstanceMetadataOptionsRequest{
			HttpEndpoint: types.InstanceMetadataEndpointStateEnabled,
			HttpTokens:   types.HttpTokensStateRequired, HttpPutResponseHopLimit: aws.Int32(1),
		},
		TagSpecifications: []types.TagSpecification{
			{ResourceType: types.ResourceTypeInstance, Tags: tags},
			{ResourceType: types.ResourceTypeVolume, Tags: tags},
		},
	}
	if conf.KeyName != "" {
		in.KeyName = aws.String(conf.KeyName)
	}
	if conf.Spot {
		in.InstanceMarketOptions = &types.InstanceMarketOptionsRequest{
			MarketType:  types.MarketTypeSpot,
			SpotOptions: &types.SpotMarketOptions{SpotInstanceType: types.SpotInstanceTypeOneTime},
		}
	}
	in.IamInstanceProfile = profile(conf.InstanceProfile)
	return in, nil
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

func (c *Cloud) tags(spec *cloud.Spec) []types.Tag {
	tags := map[string]string{nameTag: c.name(spec.Tags[cloud.TagPool])}
	maps.Copy(tags, spec.Tags)
	tags[cloud.TagDeployment] = c.deployment
	return list(tags)
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

// run makes one request, and remembers the try unless it is certain that it started nothing.
func (c *Cloud) run(
	ctx context.Context, spec *cloud.Spec, common *ec2.RunInstancesInput, try try,
) ([]cloud.Instance, error) {
	in := *common
	in.ClientToken = aws.String(try.token)
	in.MinCount = aws.Int32(int32(min(try.least, int(*in.MaxCount)))) //nolint:gosec // MaxCount is an int32
	if try.subnet != "" {
		in.SubnetId = aws.String(try.subnet)
	}
	res, err := c.client.RunInstances(ctx, &in)
	if err != nil {
		err = classify(err)
		c.settle(spec.Token, try.attempt(spec.Image, *in.ImageId), err)
		return nil, err
	}
	c.remember(spec.Token, try.attempt(spec.Image, *in.ImageId))
	out := make([]cloud.Instance, len(res.Instances))
	for i := range res.Instances {
		out[i] = c.instance(&res.Instances[i])
	}
	c.saw(out)
	return out, nil
}

// settle forgets or remembers a try, as its error demands.
func (c *Cloud) settle(token string, a attempt, err error) {
	switch {
	case errors.Is(err, cloud.ErrNotFound): // images and groups may have been made anew under their names
		c.forgetNames()
		c.forget(token, a)
	case errors.Is(err, cloud.ErrConflict): // the token is taken, possibly by what we remember
	case cloud.Refused(err):
		c.forget(token, a)
	default:
		c.remember(token, a)
	}
}
