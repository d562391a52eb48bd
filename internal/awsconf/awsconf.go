// Package awsconf is the one place that configures the AWS SDK: region, endpoint, credentials, retries, the counting
// of calls, and the advice in their errors.
//
// Credentials and region come from the SDK's normal chain (environment, shared files, the instance profile). A
// region or an endpoint that an address or an option names takes precedence. If the chain has no credentials or no
// region, Load says so at once, in one sentence.
package awsconf

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/smithy-go/logging"
	"github.com/aws/smithy-go/middleware"
)

// Options of Load; the zero value takes everything from the SDK's chain.
type Options struct {
	// Region takes precedence over the chain's.
	Region string
	// Endpoint is the URL of a service that speaks AWS's APIs; it takes precedence over AWS_ENDPOINT_URL.
	Endpoint string
	// Client is the program's name. It is part of the user agent, and the errors of denied calls name it.
	// Anything behind a space, such as an instance's id, is left out of both.
	Client string
	// PolicyFile is the IAM policy with the rights that the program needs, as deploy/aws/controller.json.
	// Errors of denied calls name it as the remedy; empty if there is no such file.
	PolicyFile string
	// Count is called once for each request, each try of a retried call included; may be nil.
	Count func(service, operation string, err error)
}

// Errors of Load.
var (
	// ErrNoCredentials: the SDK's chain found none.
	ErrNoCredentials = errors.New("no AWS credentials")
	// ErrNoRegion: neither the address nor the SDK's chain names one.
	ErrNoRegion = errors.New("no AWS region")
)

const (
	// A call is tried a few times only. Callers repeat what has failed themselves, and log what they wait for.
	mostAttempts = 4
	mostBackoff  = 5 * time.Second
	dialTimeout  = 3 * time.Second
	// responseTimeout is above SQS's longest poll, 20 s.
	responseTimeout    = 30 * time.Second
	credentialsTimeout = 10 * time.Second
	idlePerHost        = 32
)

// Load returns the configuration that every AWS client of this process is made from.
func Load(ctx context.Context, opts Options) (aws.Config, error) {
	loaders := []func(*config.LoadOptions) error{
		config.WithRetryer(newRetryer),
		config.WithHTTPClient(newHTTPClient()),
		config.WithAppID(appID(opts.Client)),
		config.WithLogger(logging.Nop{}), // what matters comes back as an error
		config.WithEC2RoleCredentialOptions(func(o *ec2rolecreds.Options) {
			o.Client = imds.New(imds.Options{EnableFallback: aws.FalseTernary}) // IMDSv2 only
		}),
		config.WithAPIOptions([]func(*middleware.Stack) error{
			plainBody, count(opts.Count), explain(opts.Client, opts.PolicyFile),
		}),
	}
	if opts.Region != "" {
		loaders = append(loaders, config.WithRegion(opts.Region))
	}
	if opts.Endpoint != "" {
		loaders = append(loaders, config.WithBaseEndpoint(opts.Endpoint))
	}
	cfg, err := config.LoadDefaultConfig(ctx, loaders...)
	if err != nil {
		return aws.Config{}, fmt.Errorf("load AWS configuration: %w", err)
	}
	if cfg.Region == "" {
		return aws.Config{}, fmt.Errorf("%w: name it in the address (aws://eu-west-1), or set AWS_REGION", ErrNoRegion)
	}
	bounded, cancel := context.WithTimeout(ctx, credentialsTimeout)
	defer cancel()
	if _, err := cfg.Credentials.Retrieve(bounded); err != nil {
		return aws.Config{}, fmt.Errorf("%w: set AWS_PROFILE or AWS_ACCESS_KEY_ID, or give the instance a profile: %w",
			ErrNoCredentials, err)
	}
	return cfg, nil
}

func newRetryer() aws.Retryer {
	return retry.NewAdaptiveMode(func(o *retry.AdaptiveModeOptions) {
		o.StandardOptions = append(o.StandardOptions, func(s *retry.StandardOptions) {
			s.MaxAttempts, s.MaxBackoff = mostAttempts, mostBackoff
		})
	})
}

func newHTTPClient() *awshttp.BuildableClient {
	return awshttp.NewBuildableClient().
		WithDialerOptions(func(d *net.Dialer) { d.Timeout = dialTimeout }).
		WithTransportOptions(func(t *http.Transport) {
			t.ResponseHeaderTimeout = responseTimeout
			t.MaxIdleConnsPerHost = idlePerHost
		})
}

// Address is a parsed backend address: aws://REGION, aws://REGION?bucket=NAME&account=NUMBER&endpoint=URL.
// An empty region, as in aws://, means the one of the SDK's chain.
type Address struct {
	Region   string
	Bucket   string // of the store; empty: named after deployment, account and region
	Account  string // that the credentials belong to; empty: see Account
	Endpoint string // empty: the one of the SDK's chain
}

// ParseAddress reads an address of the scheme aws.
func ParseAddress(u *url.URL) (Address, error) {
	if u.Scheme != "aws" {
		return Address{}, fmt.Errorf("%q is not an address as aws://eu-west-1", u.Redacted())
	}
	if u.User != nil || u.Port() != "" || u.Path != "" && u.Path != "/" {
		return Address{}, fmt.Errorf("%q has more than a region: write aws://eu-west-1; "+
			"credentials come from the environment, ~/.aws or the instance profile", u.Redacted())
	}
	a := Address{Region: u.Hostname()}
	if a.Region != "" && !regionForm.MatchString(a.Region) {
		return Address{}, fmt.Errorf("%q is not an AWS region, as eu-west-1", a.Region)
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return Address{}, fmt.Errorf("%q: %w", u.Redacted(), err)
	}
	for key := range query {
		switch key {
		case "bucket":
			a.Bucket = query.Get(key)
		case "account":
			a.Account = query.Get(key)
		case "endpoint":
			a.Endpoint = query.Get(key)
		default:
			return Address{}, fmt.Errorf("unknown option %q in %q: there are account, bucket and endpoint",
				key, u.Redacted())
		}
	}
	return a, a.check()
}

func (a *Address) check() error {
	if a.Bucket != "" && !bucketForm.MatchString(a.Bucket) {
		return fmt.Errorf("%q is not a bucket name: 3 to 63 of a-z 0-9 . and -", a.Bucket)
	}
	if a.Account != "" && !AccountForm.MatchString(a.Account) {
		return fmt.Errorf("account %q is not the number of an AWS account: it has 12 digits", a.Account)
	}
	if a.Endpoint == "" {
		return nil
	}
	e, err := url.Parse(a.Endpoint)
	if err != nil || e.Host == "" || e.Scheme != "http" && e.Scheme != "https" || e.User != nil {
		return fmt.Errorf("endpoint %q is not a URL as http://localhost:4566", a.Endpoint)
	}
	return nil
}
