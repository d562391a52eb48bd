package s3blob

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"cloudmaster/internal/awsconf"
)

// usEast1 is the one region that CreateBucket refuses as a location: it is the default, and must be left out.
const usEast1 = "us-east-1"

// Create makes a bucket that is private, encrypted and closed to public access, and tags it with
// the deployment. A bucket of this name that is already ours gets the same settings.
func Create(ctx context.Context, cfg aws.Config, bucket, deployment string) error {
	client := newClient(cfg)
	in := &s3.CreateBucketInput{Bucket: &bucket, ObjectOwnership: types.ObjectOwnershipBucketOwnerEnforced}
	if cfg.Region != usEast1 {
		in.CreateBucketConfiguration = &types.CreateBucketConfiguration{
			LocationConstraint: types.BucketLocationConstraint(cfg.Region),
		}
	}
	_, err := client.CreateBucket(ctx, in)
	switch code := awsconf.Code(err); {
	case err == nil, code == "BucketAlreadyOwnedByYou":
	case code == "BucketAlreadyExists":
		return fmt.Errorf("create bucket %s: another account owns a bucket of this name, "+
			"choose another name (aws://REGION?bucket=NAME): %w", bucket, classify(err))
	default:
		return fmt.Errorf("create bucket %s: %w", bucket, classify(err))
	}
	made := err == nil
	if err := tag(ctx, client, bucket, deployment); err != nil {
		if made { // without our tags, no later setup or teardown would know it as ours
			_, undone := client.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: &bucket})
			err = errors.Join(err, classify(undone))
		}
		return fmt.Errorf("create bucket %s: tag it: %w", bucket, err)
	}
	if err := protect(ctx, client, bucket); err != nil {
		return fmt.Errorf("create bucket %s: %w", bucket, err)
	}
	return nil
}

func tag(ctx context.Context, client *s3.Client, bucket, deployment string) error {
	var set []types.Tag
	for key, value := range awsconf.SetupTags(deployment) {
		set = append(set, types.Tag{Key: aws.String(key), Value: aws.String(value)})
	}
	_, err := client.PutBucketTagging(ctx, &s3.PutBucketTaggingInput{
		Bucket: &bucket, Tagging: &types.Tagging{TagSet: set},
	})
	return classify(err)
}

// Protect closes a bucket to public access and makes S3 encrypt its objects.
func Protect(ctx context.Context, cfg aws.Config, bucket string) error {
	if err := protect(ctx, newClient(cfg), bucket); err != nil {
		return fmt.Errorf("protect bucket %s: %w", bucket, err)
	}
	return nil
}

func protect(ctx context.Context, client *s3.Client, bucket string) error {
	yes := aws.Bool(true)
	_, public := client.PutPublicAccessBlock(ctx, &s3.PutPublicAccessBlockInput{
		Bucket: &bucket,
		PublicAccessBlockConfiguration: &types.PublicAccessBlockConfiguration{
			BlockPublicAcls: yes, BlockPublicPolicy: yes, IgnorePublicAcls: yes, RestrictPublicBuckets: yes,
		},
	})
	rule := types.ServerSideEncryptionRule{
		ApplyServerSideEncryptionByDefault: &types.ServerSideEncryptionByDefault{
			SSEAlgorithm: types.ServerSideEncryptionAes256,
		},
	}
	_, encrypted := client.PutBucketEncryption(ctx, &s3.PutBucketEncryptionInput{
		Bucket: &bucket,
		ServerSideEncryptionConfiguration: &types.ServerSideEncryptionConfiguration{
			Rules: []types.ServerSideEncryptionRule{rule},
		},
	})
	return errors.Join(classify(public), classify(encrypted))
}
