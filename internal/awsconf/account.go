package awsconf

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// Config is the SDK's, for those who only pass it on.
type Config = aws.Config

// accountTimeout bounds the first question to AWS. A service that does not answer it by then
// is not there.
const accountTimeout = 15 * time.Second

// Account returns the number of the account that the credentials belong to.
func Account(ctx context.Context, cfg Config) (string, error) {
	bounded, cancel := context.WithTimeout(ctx, accountTimeout)
	defer cancel()
	out, err := sts.NewFromConfig(cfg).GetCallerIdentity(bounded, &sts.GetCallerIdentityInput{})
	switch {
	case err == nil:
	case ctx.Err() == nil && Code(err) == "" && endpoint(cfg) != "":
		return "", fmt.Errorf("no AWS answers at %s; correct the endpoint (AWS_ENDPOINT_URL, or that of the address), or start what should be there: %w", endpoint(cfg), err)
	default:
		return "", fmt.Errorf("ask which AWS account this is: %w", err)
	}
	return aws.ToString(out.Account), nil
}

// endpoint returns where AWS is looked for if that is not AWS's own place.
func endpoint(cfg Config) string { return aws.ToString(cfg.BaseEndpoint) }
