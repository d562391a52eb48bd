package s3blob_test

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"cloudmaster/internal/awsconf"
	"cloudmaster/internal/blob"
	"cloudmaster/internal/blob/blobtest"
	"cloudmaster/internal/blob/s3blob"
)

// localstack returns the AWS configuration of an account for the LocalStack that the environment
// names, and skips the test if it names none.
func localstack(t *testing.T, account string) aws.Config {
	t.Helper()
	endpoint := os.Getenv("LOCALSTACK_ENDPOINT")
	if endpoint == "" {
		t.Skip("LOCALSTACK_ENDPOINT names no LocalStack to test against")
	}
	t.Setenv("AWS_ACCESS_KEY_ID", account)
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	cfg, err := awsconf.Load(t.Context(), awsconf.Options{
		Region: "eu-west-1", Endpoint: endpoint, Client: "controller",
	})
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func pathStyle(o *s3.Options) { o.UsePathStyle = true }

// bucket creates a bucket, which is deleted with everything in it when the test ends.
func bucket(t *testing.T, cfg aws.Config) string {
	t.Helper()
	name := "test-" + strings.ToLower(rand.Text()[:16])
	if err := s3blob.Create(t.Context(), cfg, name, "test"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, client := context.WithoutCancel(t.Context()), s3.NewFromConfig(cfg, pathStyle)
		list, err := client.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &name})
		if err != nil {
			t.Errorf("list bucket %s: %v", name, err)
			return
		}
		for i := range list.Contents {
			_, err := client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &name, Key: list.Contents[i].Key})
			if err != nil {
				t.Error(err)
			}
		}
		if _, err := client.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: &name}); err != nil {
			t.Errorf("delete bucket %s: %v", name, err)
		}
	})
	return name
}

func TestConformance(t *testing.T) {
	cfg := localstack(t, "test")
	blobtest.Run(t, blobtest.Harness{ByContent: true, Make: func(t *testing.T) blob.Store {
		s, err := s3blob.Open(t.Context(), cfg, bucket(t, cfg), s3blob.Options{Account: "000000000000"})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}})
}

func TestOpenMissing(t *testing.T) {
	cfg := localstack(t, "test")
	name := "test-" + strings.ToLower(rand.Text()[:16])
	if _, err := s3blob.Open(t.Context(), cfg, name, s3blob.Options{}); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("got %v, want %v", err, blob.ErrNotFound)
	}
}

func TestCreateProtects(t *testing.T) {
	cfg := localstack(t, "test")
	name, client := bucket(t, cfg), s3.NewFromConfig(cfg, pathStyle)
	if err := s3blob.Create(t.Context(), cfg, name, "test"); err != nil {
		t.Errorf("create again: %v", err)
	}
	public, err := client.GetPublicAccessBlock(t.Context(), &s3.GetPublicAccessBlockInput{Bucket: &name})
	if err != nil {
		t.Fatal(err)
	}
	p := public.PublicAccessBlockConfiguration
	if !*p.BlockPublicAcls || !*p.BlockPublicPolicy || !*p.IgnorePublicAcls || !*p.RestrictPublicBuckets {
		t.Errorf("got %+v, want all public access blocked", p)
	}
	crypt, err := client.GetBucketEncryption(t.Context(), &s3.GetBucketEncryptionInput{Bucket: &name})
	if err != nil {
		t.Fatal(err)
	}
	rule := crypt.ServerSideEncryptionConfiguration.Rules[0]
	if got := rule.ApplyServerSideEncryptionByDefault.SSEAlgorithm; got != types.ServerSideEncryptionAes256 {
		t.Errorf("got encryption %q, want AES256", got)
	}
	tags, err := client.GetBucketTagging(t.Context(), &s3.GetBucketTaggingInput{Bucket: &name})
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]string)
	for _, tag := range tags.TagSet {
		got[*tag.Key] = *tag.Value
	}
	if got["cloudmaster:deployment"] != "test" || got["cloudmaster:made-by"] != "setup" {
		t.Errorf("got tags %v, want the deployment and who made it", got)
	}
}

func TestCreateForeign(t *testing.T) {
	name := bucket(t, localstack(t, "111111111111"))
	err := s3blob.Create(t.Context(), localstack(t, "222222222222"), name, "test")
	if !errors.Is(err, blob.ErrDenied) || !strings.Contains(err.Error(), name+": another account owns") {
		t.Errorf("got %v, want %v that names the bucket", err, blob.ErrDenied)
	}
}
