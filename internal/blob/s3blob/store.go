// Package s3blob is the S3 adapter of the blob port: each object is an object of one bucket, ETags
// are versions, and conditional requests are compare-and-set.
//
// If the answer to a conditional write is lost, the SDK sends it again. The second try then finds
// what the first one wrote, and reports blob.ErrConflict, as the port allows: whoever gets a
// conflict reads the object and sees who wrote it.
package s3blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"cloudmaster/internal/awsconf"
	"cloudmaster/internal/blob"
)

var _ blob.Store = (*Store)(nil)

// Options are the settings of Open; the zero value works.
type Options struct {
	// Account is the number of the account that must own the bucket. Names are global, so a bucket of
	// this name may belong to someone else. Empty accepts any owner.
	Account string
}

// Store is one bucket. Make it with Open.
type Store struct {
	client *s3.Client
	bucket string
	owner  *string
}

// Open opens an existing bucket. It returns blob.ErrNotFound if there is none, and blob.ErrDenied
// if it belongs to another account.
func Open(ctx context.Context, cfg aws.Config, bucket string, opts Options) (*Store, error) {
	s := &Store{client: newClient(cfg), bucket: bucket}
	if opts.Account != "" {
		s.owner = aws.String(opts.Account)
	}
	_, err := s.client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &s.bucket, ExpectedBucketOwner: s.owner})
	switch err = classify(err); {
	case errors.Is(err, blob.ErrDenied):
		return nil, fmt.Errorf("open bucket %s: it belongs to another account, or we may not use it: %w", bucket, err)
	case status(err) == http.StatusMovedPermanently:
		return nil, fmt.Errorf("open bucket %s: it is in another region than %s: %w", bucket, cfg.Region, err)
	case err != nil:
		return nil, fmt.Errorf("open bucket %s: %w", bucket, err)
	}
	return s, nil
}

// newClient returns a client that works with any service that has S3's API: if an endpoint is
// configured, the bucket is part of the path instead of the host name.
func newClient(cfg aws.Config) *s3.Client {
	return s3.NewFromConfig(cfg, func(o *s3.Options) {
		o.UsePathStyle = o.BaseEndpoint != nil
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
	})
}

// Get implements blob.Store.
func (s *Store) Get(ctx context.Context, key string, have blob.Version) (blob.Object, error) {
	if err := blob.CheckKey(key); err != nil {
		return blob.Object{}, err
	}
	in := &s3.GetObjectInput{Bucket: &s.bucket, Key: &key, ExpectedBucketOwner: s.owner}
	if have != "" {
		in.IfNoneMatch = aws.String(string(have))
	}
	out, err := s.client.GetObject(ctx, in)
	if err != nil {
		return blob.Object{}, fmt.Errorf("get %s: %w", key, classify(err))
	}
	defer out.Body.Close() //nolint:errcheck // the body was read to its end, or reading failed
	data, err := io.ReadAll(io.LimitReader(out.Body, blob.MaxSize+1))
	if err != nil {
		return blob.Object{}, fmt.Errorf("get %s: %w", key, err)
	}
	if len(data) > blob.MaxSize {
		return blob.Object{}, fmt.Errorf("get %s: %w: more than %d bytes", key, blob.ErrTooLarge, blob.MaxSize)
	}
	return blob.Object{Key: key, Data: data, Version: blob.Version(aws.ToString(out.ETag))}, nil
}

// Put implements blob.Store.
func (s *Store) Put(ctx context.Context, key string, data []byte, last blob.Version) (blob.Version, error) {
	if err := blob.CheckKey(key); err != nil {
		return "", err
	}
	if len(data) > blob.MaxSize {
		return "", fmt.Errorf("put %s: %w: %d bytes, the most is %d", key, blob.ErrTooLarge, len(data), blob.MaxSize)
	}
	in := &s3.PutObjectInput{Bucket: &s.bucket, Key: &key, Body: bytes.NewReader(data), ExpectedBucketOwner: s.owner}
	switch last {
	case "":
		in.IfNoneMatch = aws.String("*")
	case blob.Any:
	default:
		in.IfMatch = aws.String(string(last))
	}
	out, err := s.client.PutObject(ctx, in)
	err = classify(err)
	if in.IfMatch != nil && awsconf.Code(err) == codeNoKey {
		err = fmt.Errorf("%w: %v", blob.ErrConflict, err) //nolint:errorlint // must not also be ErrNotFound
	}
	if err != nil {
		return "", fmt.Errorf("put %s: %w", key, err)
	}
	return blob.Version(aws.ToString(out.ETag)), nil
}

// Delete implements blob.Store.
func (s *Store) Delete(ctx context.Context, key string) error {
	if err := blob.CheckKey(key); err != nil {
		return err
	}
	_, err := s.client.DeleteObject(ctx,
		&s3.DeleteObjectInput{Bucket: &s.bucket, Key: &key, ExpectedBucketOwner: s.owner})
	if err != nil && awsconf.Code(err) != codeNoKey {
		return fmt.Errorf("delete %s: %w", key, classify(err))
	}
	return nil
}
