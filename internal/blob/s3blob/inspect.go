package s3blob

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"cloudmaster/internal/awsconf"
	"cloudmaster/internal/blob"
)

// State is what S3 has under a bucket's name. Those who set up and take down deployments ask for it.
type State struct {
	Exists  bool
	Tags    map[string]string
	Differs []string // what Protect would change
}

// Inspect looks at a bucket, and changes nothing. If the bucket belongs to another account it
// returns blob.ErrDenied.
func Inspect(ctx context.Context, cfg aws.Config, bucket, account string) (State, error) {
	opened, err := Open(ctx, cfg, bucket, Options{Account: account})
	if errors.Is(err, blob.ErrNotFound) {
		return State{}, nil
	}
	if err != nil {
		return State{}, err
	}
	s := State{Exists: true, Tags: make(map[string]string)}
	if err := s.read(ctx, opened.client, bucket); err != nil {
		return State{}, fmt.Errorf("look at bucket %s: %w", bucket, err)
	}
	return s, nil
}

// S3's error codes for settings that a bucket does not have.
const (
	codeNoTags       = "NoSuchTagSet"
	codeNoBlock      = "NoSuchPublicAccessBlockConfiguration"
	codeNoEncryption = "ServerSideEncryptionConfigurationNotFoundError"
)

func (s *State) read(ctx context.Context, client *s3.Client, bucket string) error {
	tags, err := client.GetBucketTagging(ctx, &s3.GetBucketTaggingInput{Bucket: &bucket})
	switch {
	case err == nil:
		for _, t := range tags.TagSet {
			s.Tags[aws.ToString(t.Key)] = aws.ToString(t.Value)
		}
	case awsconf.Code(err) != codeNoTags:
		return classify(err)
	}
	public, err := client.GetPublicAccessBlock(ctx, &s3.GetPublicAccessBlockInput{Bucket: &bucket})
	switch {
	case err != nil && awsconf.Code(err) != codeNoBlock:
		return classify(err)
	case err != nil, !closed(public.PublicAccessBlockConfiguration):
		s.Differs = append(s.Differs, "public access is not blocked")
	}
	crypt, err := client.GetBucketEncryption(ctx, &s3.GetBucketEncryptionInput{Bucket: &bucket})
	switch {
	case err != nil && awsconf.Code(err) != codeNoEncryption:
		return classify(err)
	case err != nil, !encrypted(crypt.ServerSideEncryptionConfiguration):
		s.Differs = append(s.Differs, "objects are not encrypted")
	}
	return nil
}

func closed(c *types.PublicAccessBlockConfiguration) bool {
	return c != nil && aws.ToBool(c.BlockPublicAcls) && aws.ToBool(c.BlockPublicPolicy) &&
		aws.ToBool(c.IgnorePublicAcls) && aws.ToBool(c.RestrictPublicBuckets)
}

// encrypted reports whether objects are encrypted, with whatever key: an operator may have chosen one of KMS.
func encrypted(c *types.ServerSideEncryptionConfiguration) bool {
	if c == nil {
		return false
	}
	for _, r := range c.Rules {
		if d := r.ApplyServerSideEncryptionByDefault; d != nil && d.SSEAlgorithm != "" {
			return true
		}
	}
	return false
}

// Remove deletes a bucket with everything in it, old versions included. It is not an error if the
// bucket does not exist.
func Remove(ctx context.Context, cfg aws.Config, bucket, account string) error {
	client, owner := newClient(cfg), aws.String(account)
	err := empty(ctx, client, bucket, owner)
	if err == nil {
		_, err = client.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: &bucket, ExpectedBucketOwner: owner})
	}
	if err = classify(err); err != nil && !errors.Is(err, blob.ErrNotFound) {
		return fmt.Errorf("remove bucket %s: %w", bucket, err)
	}
	return nil
}

func empty(ctx context.Context, client *s3.Client, bucket string, owner *string) error {
	pages := s3.NewListObjectVersionsPaginator(client, &s3.ListObjectVersionsInput{
		Bucket: &bucket, ExpectedBucketOwner: owner,
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		var ids []types.ObjectIdentifier
		for i := range page.Versions {
			ids = append(ids, types.ObjectIdentifier{Key: page.Versions[i].Key, VersionId: page.Versions[i].VersionId})
		}
		for i := range page.DeleteMarkers {
			ids = append(ids, types.ObjectIdentifier{
				Key: page.DeleteMarkers[i].Key, VersionId: page.DeleteMarkers[i].VersionId,
			})
		}
		if err := erase(ctx, client, bucket, owner, ids); err != nil {
			return err
		}
	}
	return nil
}

// erase deletes the objects of one page of a list. One call accepts as many as a page has.
func erase(ctx context.Context, client *s3.Client, bucket string, owner *string, ids []types.ObjectIdentifier) error {
	if len(ids) == 0 {
		return nil
	}
	out, err := client.DeleteObjects(ctx, &s3.DeleteObjectsInput{
		Bucket: &bucket, ExpectedBucketOwner: owner, Delete: &types.Delete{Objects: ids, Quiet: aws.Bool(true)},
	})
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range out.Errors {
		errs = append(errs, fmt.Errorf("object %s: %s: %s",
			aws.ToString(e.Key), aws.ToString(e.Code), aws.ToString(e.Message)))
	}
	return errors.Join(errs...)
}
