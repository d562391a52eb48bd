// Package awsbackend is the AWS backend: queues of SQS and objects of S3.
package awsbackend

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"cloudmaster/internal/awsconf"
	"cloudmaster/internal/backend"
	"cloudmaster/internal/backend/awsqueues"
	"cloudmaster/internal/blob"
	"cloudmaster/internal/blob/s3blob"
)

var (
	_ backend.Backend = (*Backend)(nil)
	_ backend.Opener  = Open
)

// Backend is SQS and S3 of one account and region. Make it with Open.
type Backend struct {
	*awsqueues.Queues

	cfg  awsconf.Config
	at   awsconf.Address
	opts backend.Options
}

// Open opens an address as aws://eu-west-1 or aws://eu-west-1?bucket=NAME.
func Open(ctx context.Context, address *url.URL, opts backend.Options) (backend.Backend, error) {
	b, err := open(ctx, address, opts)
	if err != nil {
		return nil, err
	}
	return b, nil
}

func open(ctx context.Context, address *url.URL, opts backend.Options) (*Backend, error) {
	cfg, at, err := awsqueues.Load(ctx, address, opts)
	if err != nil {
		return nil, err
	}
	return &Backend{Queues: awsqueues.New(cfg, opts), cfg: cfg, at: at, opts: opts}, nil
}

// Blobs implements backend.Backend. The bucket is that of the address, or is named after deployment, account and
// region. Only setup makes it, so that a mistyped deployment does not get one.
func (b *Backend) Blobs(ctx context.Context) (blob.Store, error) {
	account, err := awsconf.Account(ctx, b.cfg, b.at.Account)
	if err != nil {
		return nil, err
	}
	bucket := Bucket(b.at.Bucket, b.opts.Deployment, account, b.cfg.Region)
	s, err := s3blob.Open(ctx, b.cfg, bucket, s3blob.Options{Account: account})
	if errors.Is(err, blob.ErrNotFound) {
		return nil, fmt.Errorf("there is no bucket %s, which controller setup makes; "+
			"is the deployment's name right, %q? %w", bucket, b.opts.Deployment, err)
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Bucket returns the name of a deployment's bucket: the one in the address, or else one with account and region
// in it, because the names of buckets are unique in the world.
func Bucket(named, deployment, account, region string) string {
	if named != "" {
		return named
	}
	parts := []string{"cloudmaster", deployment, account, region}
	if deployment == "" {
		parts = []string{"cloudmaster", account, region}
	}
	return strings.Join(parts, "-")
}
