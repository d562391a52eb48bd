package awsbackend

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"cloudmaster/internal/awsconf"
	"cloudmaster/internal/backend"
	"cloudmaster/internal/queue"
	"cloudmaster/internal/queue/sqsages"
	"cloudmaster/internal/queue/sqsqueue"
)

// Name is the name of the kind, and the scheme of its addresses.
const Name = "aws"

// Kind describes the backend to the configuration.
func Kind() backend.Kind {
	return backend.Kind{
		Name: Name, Form: "aws://eu-west-1",
		Help: "SQS and S3 of one region; aws://REGION[?bucket=NAME][&account=NUMBER][&endpoint=URL], " +
			"and `controller setup` makes what is needed",
		LeaseTTL: 3 * time.Minute, // each renewal is paid for
		Check: func(address string) error {
			_, err := ParseAddress(address)
			return err
		},
		CheckRemote: checkRemote, CheckDeployment: checkDeployment, CheckQueue: sqsqueue.CheckLimits,
		Open: backend.Opens(Name, openAging),
	}
}

// aging is a backend that also knows how old messages are. Only controllers ask, and only they link what that needs.
type aging struct {
	*Backend
	*sqsages.Reader
}

var _ queue.Ager = aging{}

func openAging(ctx context.Context, address *url.URL, opts backend.Options) (backend.Backend, error) {
	b, err := open(ctx, address, opts)
	if err != nil {
		return nil, err
	}
	return aging{b, sqsages.New(b.cfg)}, nil
}

// ParseAddress reads an address of this kind.
func ParseAddress(address string) (awsconf.Address, error) {
	u, err := backend.ParseAddress(address)
	if err != nil {
		return awsconf.Address{}, err
	}
	return awsconf.ParseAddress(u)
}

// checkRemote: without a region an address means what the SDK finds on the machine that reads it.
func checkRemote(address string) error {
	if at, err := ParseAddress(address); err != nil || at.Region != "" {
		return err
	}
	return fmt.Errorf("%q names no region, and instances are told this address: write it as aws://eu-west-1", address)
}

// maxBucket is the longest name of a bucket. Source: S3 User Guide, "General purpose bucket naming rules".
const maxBucket = 63

// checkDeployment checks the name that the deployment's bucket gets if the address names none.
func checkDeployment(address, deployment string) error {
	at, err := ParseAddress(address)
	if err != nil {
		return err
	}
	const account = "123456789012" // all account numbers have as many digits
	name := Bucket(at.Bucket, deployment, account, at.Region)
	if len(name) <= maxBucket {
		return nil
	}
	return fmt.Errorf("is too long: its bucket would be called %s, with your account's number, "+
		"and S3 takes %d characters; name a bucket in the backend's address (?bucket=NAME)", name, maxBucket)
}
