package awsconf

import (
	"context"
	"fmt"
	"regexp"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// Config is the SDK's configuration. Packages that only pass it on need not import the SDK for it.
type Config = aws.Config

// AccountForm is the form of an account's number.
var AccountForm = regexp.MustCompile(`^[0-9]{12}$`)

// accountTimeout bounds Account, which is a program's first call to AWS. If there is no answer by then, there is no
// service at the endpoint.
const accountTimeout = 15 * time.Second

// Account returns the number of the account that the credentials belong to: what is given, or else what comes with the
// credentials (AWS_ACCOUNT_ID, aws_account_id in the profile, an assumed role), or else what STS says. So STS, which
// not every network reaches, is asked only if nothing else is known.
func Account(ctx context.Context, cfg Config, given string) (string, error) {
	if given != "" {
		return given, nil
	}
	bounded, cancel := context.WithTimeout(ctx, accountTimeout)
	defer cancel()
	if cfg.Credentials != nil {
		if creds, err := cfg.Credentials.Retrieve(bounded); err == nil && AccountForm.MatchString(creds.AccountID) {
			return creds.AccountID, nil
		}
	}
	return askAccount(ctx, cfg)
}

// askAccount asks STS.
func askAccount(ctx context.Context, cfg Config) (string, error) {
	bounded, cancel := context.WithTimeout(ctx, accountTimeout)
	defer cancel()
	out, err := sts.NewFromConfig(cfg).GetCallerIdentity(bounded, &sts.GetCallerIdentityInput{})
	switch {
	case err == nil:
	case ctx.Err() == nil && Code(err) == "" && endpoint(cfg) != "":
		return "", fmt.Errorf("no AWS answers at %s; correct the endpoint (AWS_ENDPOINT_URL, or that of the address), "+
			"or start what should be there: %w", endpoint(cfg), err)
	default:
		return "", fmt.Errorf("ask which AWS account this is; if STS cannot be reached, set AWS_ACCOUNT_ID, or add "+
			"account=NUMBER to the backend's address: %w", err)
	}
	return aws.ToString(out.Account), nil
}

// endpoint returns the URL that is configured in place of AWS's own endpoints; empty if none is.
func endpoint(cfg Config) string { return aws.ToString(cfg.BaseEndpoint) }
