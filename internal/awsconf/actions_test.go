package awsconf

import (
	"strings"
	"testing"

	"github.com/aws/smithy-go"
)

func TestExplainDenied(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]struct{ program, policyFile, service, operation string }{
		"sqs:SendMessage is denied to controller; deploy/aws/controller.json grants it: ": {
			"controller", "deploy/aws/controller.json", "SQS", "SendMessageBatch",
		},
		"ec2:CreateTags is denied to controller; deploy/aws/controller.json grants it: ": {
			"controller", "deploy/aws/controller.json", "EC2", "CreateTags",
		},
		"iam:CreateRole is denied to setup; deploy/aws/setup.json grants it: ": {
			"setup", "deploy/aws/setup.json", "IAM", "CreateRole",
		},
		"s3:ListBucket is denied to teardown; deploy/aws/setup.json grants it: ": {
			"teardown", "deploy/aws/setup.json", "S3", "HeadBucket",
		},
		"sqs:GetQueueUrl is denied to demo: ": {
			"demo", "", "SQS", "GetQueueUrl",
		},
	} {
		denied := &smithy.GenericAPIError{Code: "AccessDenied", Message: "no"}
		err := explainDenied(c.program, c.policyFile, c.service, c.operation, denied)
		if !strings.HasPrefix(err.Error(), want) || !Is(err, Denied) {
			t.Errorf("got %v, want it denied with %q", err, want)
		}
	}
}
