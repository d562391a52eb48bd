package awsconf

import (
	"strings"
	"testing"

	"github.com/aws/smithy-go"
)

func TestExplainDenied(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ program, service, operation, want string }{
		"a program's own":      {"controller", "SQS", "SendMessageBatch", "sqs:SendMessage is denied to controller; deploy/aws/controller.json grants it: "},
		"tags are not setup's": {"controller", "EC2", "CreateTags", "ec2:CreateTags is denied to controller; deploy/aws/controller.json grants it: "},
		"setup":                {"setup", "IAM", "CreateRole", "iam:CreateRole is denied to setup; deploy/aws/setup.json grants it: "},
		"teardown":             {"teardown", "S3", "HeadBucket", "s3:ListBucket is denied to teardown; deploy/aws/setup.json grants it: "},
		"somebody else":        {"demo", "SQS", "GetQueueUrl", "sqs:GetQueueUrl is denied to demo: "},
	} {
		err := explainDenied(c.program, c.service, c.operation, &smithy.GenericAPIError{Code: "AccessDenied", Message: "no"})
		if !strings.HasPrefix(err.Error(), c.want) || !Is(err, Denied) {
			t.Errorf("%s: got %v, want it denied with %q", name, err, c.want)
		}
	}
}
