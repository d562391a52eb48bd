package awsconf

import (
	"fmt"
	"slices"
	"strings"
)

// actions are what IAM calls operations that have another name there. Source: Service
// Authorization Reference, "Actions defined by Amazon S3", "… Amazon SQS".
var actions = map[string]string{
	"sqs:SendMessageBatch":             "sqs:SendMessage",
	"sqs:DeleteMessageBatch":           "sqs:DeleteMessage",
	"sqs:ChangeMessageVisibilityBatch": "sqs:ChangeMessageVisibility",
	"s3:HeadBucket":                    "s3:ListBucket",
	"s3:ListObjectVersions":            "s3:ListBucketVersions",
	"s3:DeleteObjects":                 "s3:DeleteObject",
	"s3:GetPublicAccessBlock":          "s3:GetBucketPublicAccessBlock",
	"s3:PutPublicAccessBlock":          "s3:PutBucketPublicAccessBlock",
	"s3:GetBucketEncryption":           "s3:GetEncryptionConfiguration",
	"s3:PutBucketEncryption":           "s3:PutEncryptionConfiguration",
}

// Action returns the IAM action that an operation needs, as policies name it.
func Action(service, operation string) string {
	name := strings.ToLower(service) + ":" + operation
	if action, ok := actions[name]; ok {
		return action
	}
	return name
}

// policies is where the rights of each program are written down.
const policies = "deploy/aws/"

// programs are those that have a policy of their own name.
var programs = []string{"controller", "primes-worker", "fib-server", "allocator", "feed-primes"}

// setups are the programs that run with setup's policy.
var setups = []string{"setup", "teardown"}

// explainDenied names what was denied, to whom, and what to do about it.
func explainDenied(program, service, operation string, err error) error {
	what := fmt.Sprintf("%s is denied to %s", Action(service, operation), program)
	switch {
	case unknownCredentials[Code(err)]:
		what += "; its AWS credentials are wrong or have run out: renew them, or correct AWS_PROFILE or AWS_ACCESS_KEY_ID"
	case slices.Contains(setups, program):
		what += "; " + policies + "setup.json grants it"
	case slices.Contains(programs, program):
		what += "; " + policies + program + ".json grants it"
	}
	return fmt.Errorf("%s: %w", what, err)
}
