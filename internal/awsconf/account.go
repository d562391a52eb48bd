package awsconf

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// Config is the SDK's, for those who only pass it on.
type Config = aws.Config

// Account returns the number of the account that the credentials belong to.
func Account(ctx context.Context, cfg Config) (string, error) {
	out, err := sts.NewFromConfig(cfg).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		return "", fmt.Errorf("ask which AWS account this is: %w", err)
	}
	return aws.ToString(out.Account), nil
}
