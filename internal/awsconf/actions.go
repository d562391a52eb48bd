package awsconf

import (
	"cmp"
	"fmt"
	"strings"
)

// actions are the operations that IAM knows by another name, each with that name. Source: Service Authorization
// Reference, "Actions defined by Amazon S3", "… Amazon SQS".
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

// services are those that IAM knows by another name than the SDK. Source: Service Authorization Reference, "Actions
// defined by Amazon EventBridge".
var services = map[string]string{"eventbridge": "events"}

// Action returns the IAM action that an operation needs, as IAM policies name it.
func Action(service, operation string) string {
	service = strings.ToLower(service)
	name := cmp.Or(services[service], service) + ":" + operation
	if action, ok := actions[name]; ok {
		return action
	}
	return name
}

// explainDenied names what was denied, to whom, and what to do about it. policyFile is the IAM policy that the
// program should have; empty if there is none to recommend.
func explainDenied(program, policyFile, service, operation string, err error) error {
	what := fmt.Sprintf("%s is denied to %s", Action(service, operation), program)
	switch {
	case unknownCredentials[Code(err)]:
		what += "; its AWS credentials are wrong or have run out: " +
			"renew them, or correct AWS_PROFILE or AWS_ACCESS_KEY_ID"
	case policyFile != "":
		what += "; " + policyFile + " grants it"
	}
	return fmt.Errorf("%s: %w", what, err)
}
