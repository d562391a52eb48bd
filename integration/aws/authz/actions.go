package authz

import (
	"maps"
	"slices"
	"strings"

	"cloudmaster/integration/aws/iampolicy"
)

// Action is an action of AWS that our IAM policies may name.
type Action struct {
	Name string
	// On are the types of resources that it can be allowed on, each with the condition keys that the fake gives for it:
	// "role aws:ResourceTag/ | instance-profile aws:ResourceTag/". A key that ends in / stands for all tags. The type *
	// is for actions on no resource.
	On string
	// Calls are the operations of the SDK that need it: "sqs.SendMessage sqs.SendMessageBatch".
	Calls string
	// By are the programs that make these calls, by the files of their IAM policies: "controller setup". One with a
	// question mark makes them only with settings that the sample does not have.
	By string
}

// Keys that many actions have.
const (
	tagged   = " aws:ResourceTag/"
	tagging  = " aws:RequestTag/ aws:TagKeys"
	ec2Tag   = " aws:ResourceTag/ ec2:ResourceTag/"
	workers  = " primes-worker fib-server"
	senders  = workers + " allocator feed-primes"
	openers  = "controller setup" + senders
	newTags  = tagging + " ec2:CreateAction" + ec2Tag
	roleKeys = tagged + " iam:PermissionsBoundary"
)

// Actions are all that are known, one a line. Source of resource types and keys: Service Authorization Reference,
// "Actions, resources, and condition keys" for each service.
var Actions = []Action{
	{"ec2:AuthorizeSecurityGroupIngress", "security-group" + ec2Tag, "ec2.AuthorizeSecurityGroupIngress", "setup"},
	{"ec2:CreateSecurityGroup", "security-group" + tagging + " | vpc" + ec2Tag, "ec2.CreateSecurityGroup", "setup"},
	{
		"ec2:CreateTags", "instance" + newTags + " | volume" + newTags + " | network-interface" + newTags +
			" | spot-instances-request" + newTags + " | security-group" + newTags,
		"ec2.CreateTags ec2.RunInstances ec2.CreateSecurityGroup", "controller setup",
	},
	{"ec2:DeleteSecurityGroup", "security-group" + ec2Tag, "ec2.DeleteSecurityGroup", "setup"},
	{"ec2:DescribeImages", "*", "ec2.DescribeImages", "controller setup"},
	{"ec2:DescribeInstances", "*", "ec2.DescribeInstances", "controller setup"},
	{"ec2:DescribeInstanceStatus", "*", "ec2.DescribeInstanceStatus", "controller"},
	{"ec2:DescribeInstanceTypes", "*", "ec2.DescribeInstanceTypes", "controller? setup"},
	{"ec2:DescribeSecurityGroups", "*", "ec2.DescribeSecurityGroups", "controller setup"},
	{"ec2:DescribeSubnets", "*", "ec2.DescribeSubnets", "setup"},
	{"ec2:DescribeVpcs", "*", "ec2.DescribeVpcs", "setup"},
	{"ec2:RevokeSecurityGroupIngress", "security-group" + ec2Tag, "ec2.RevokeSecurityGroupIngress", "setup"},
	{
		"ec2:RunInstances", "instance" + tagging + " ec2:InstanceType ec2:MetadataHttpTokens | volume" + tagging +
			" | network-interface ec2:Vpc | subnet ec2:Vpc" + ec2Tag + " | key-pair | placement-group" +
			" | spot-instances-request" + tagging + " | security-group" + ec2Tag + " | image ec2:Owner" + ec2Tag,
		"ec2.RunInstances", "controller",
	},
	{"ec2:StartInstances", "instance" + ec2Tag, "ec2.StartInstances", "controller?"},
	{"ec2:StopInstances", "instance" + ec2Tag, "ec2.StopInstances", "controller?"},
	{"ec2:TerminateInstances", "instance" + ec2Tag, "ec2.TerminateInstances", "controller"},
	{
		"ec2:UpdateSecurityGroupRuleDescriptionsIngress", "security-group" + ec2Tag,
		"ec2.UpdateSecurityGroupRuleDescriptionsIngress", "setup",
	},
	{"events:DeleteRule", "rule" + tagged, "eventbridge.DeleteRule", "setup"},
	{"events:DescribeRule", "rule" + tagged, "eventbridge.DescribeRule", "setup"},
	{"events:ListTagsForResource", "rule" + tagged, "eventbridge.ListTagsForResource", "setup"},
	{"events:ListTargetsByRule", "rule" + tagged, "eventbridge.ListTargetsByRule", "setup"},
	{"events:PutRule", "rule" + tagged + tagging, "eventbridge.PutRule", "setup"},
	{"events:PutTargets", "rule" + tagged + " events:TargetArn", "eventbridge.PutTargets", "setup"},
	{"events:RemoveTargets", "rule" + tagged, "eventbridge.RemoveTargets", "setup"},
	{"events:TagResource", "rule" + tagged + tagging, "eventbridge.PutRule", "setup"},
	{"cloudwatch:GetMetricData", "*", "cloudwatch.GetMetricData", "controller"},
	{"iam:AddRoleToInstanceProfile", "instance-profile" + tagged, "iam.AddRoleToInstanceProfile", "setup"},
	{"iam:CreateInstanceProfile", "instance-profile" + tagging, "iam.CreateInstanceProfile", "setup"},
	{"iam:CreateRole", "role" + tagging + " iam:PermissionsBoundary", "iam.CreateRole", "setup"},
	{"iam:CreateServiceLinkedRole", "role iam:AWSServiceName", "iam.CreateServiceLinkedRole", "setup"},
	{"iam:DeleteInstanceProfile", "instance-profile" + tagged, "iam.DeleteInstanceProfile", "setup"},
	{"iam:DeleteRole", "role" + tagged, "iam.DeleteRole", "setup"},
	{"iam:DeleteRolePolicy", "role" + roleKeys, "iam.DeleteRolePolicy", "setup"},
	{"iam:DeleteRolePermissionsBoundary", "role" + roleKeys, "", "setup?"},
	{"iam:DetachRolePolicy", "role" + roleKeys + " iam:PolicyARN", "iam.DetachRolePolicy", "setup"},
	{"iam:GetInstanceProfile", "instance-profile" + tagged, "iam.GetInstanceProfile", "setup"},
	{"iam:GetPolicy", "policy", "iam.GetPolicy", "setup?"},
	{"iam:GetRole", "role" + tagged, "iam.GetRole", "setup"},
	{"iam:GetRolePolicy", "role" + tagged, "iam.GetRolePolicy", "setup"},
	{"iam:ListAttachedRolePolicies", "role" + tagged, "iam.ListAttachedRolePolicies", "setup"},
	{"iam:ListInstanceProfiles", "instance-profile", "iam.ListInstanceProfiles", "setup"},
	{"iam:ListRolePolicies", "role" + tagged, "iam.ListRolePolicies", "setup"},
	{"iam:ListRoles", "role", "iam.ListRoles", "setup"},
	{
		"iam:PassRole", "role" + tagged + " iam:PassedToService", "ec2.RunInstances iam.AddRoleToInstanceProfile",
		"controller setup",
	},
	{"iam:PutRolePermissionsBoundary", "role" + roleKeys, "iam.PutRolePermissionsBoundary", "setup?"},
	{"iam:PutRolePolicy", "role" + roleKeys, "iam.PutRolePolicy", "setup"},
	{
		"iam:RemoveRoleFromInstanceProfile", "instance-profile" + tagged, "iam.RemoveRoleFromInstanceProfile", "setup",
	},
	{"iam:TagInstanceProfile", "instance-profile" + tagged + tagging, "iam.CreateInstanceProfile", "setup"},
	{"iam:TagRole", "role" + tagged + tagging, "iam.CreateRole", "setup"},
	{"iam:UpdateAssumeRolePolicy", "role" + tagged, "iam.UpdateAssumeRolePolicy", "setup"},
	{"s3:CreateBucket", "bucket", "s3.CreateBucket", "setup"},
	{"s3:DeleteBucket", "bucket", "s3.DeleteBucket", "setup"},
	{"s3:DeleteObject", "object", "s3.DeleteObject s3.DeleteObjects", "setup"},
	{"s3:DeleteObjectVersion", "object", "s3.DeleteObjects", "setup"},
	{"s3:GetBucketPublicAccessBlock", "bucket", "s3.GetPublicAccessBlock", "setup"},
	{"s3:GetBucketTagging", "bucket", "s3.GetBucketTagging", "setup"},
	{"s3:GetEncryptionConfiguration", "bucket", "s3.GetBucketEncryption", "setup"},
	{"s3:GetObject", "object", "s3.GetObject", "controller setup allocator"},
	{"s3:ListBucket", "bucket", "s3.HeadBucket", "controller setup allocator"},
	{"s3:ListBucketVersions", "bucket", "s3.ListObjectVersions", "setup"},
	{"s3:PutBucketOwnershipControls", "bucket", "s3.CreateBucket", "setup"},
	{"s3:PutBucketPublicAccessBlock", "bucket", "s3.PutPublicAccessBlock", "setup"},
	{"s3:PutBucketTagging", "bucket", "s3.PutBucketTagging", "setup"},
	{"s3:PutEncryptionConfiguration", "bucket", "s3.PutBucketEncryption", "setup"},
	{"s3:PutObject", "object", "s3.PutObject", "controller"},
	{
		"sqs:ChangeMessageVisibility", "queue" + tagged, "sqs.ChangeMessageVisibilityBatch", "controller primes-worker",
	},
	{"sqs:CreateQueue", "queue" + tagging, "sqs.CreateQueue", "setup"},
	{"sqs:DeleteMessage", "queue" + tagged, "sqs.DeleteMessageBatch", "controller primes-worker"},
	{"sqs:DeleteQueue", "queue" + tagged, "sqs.DeleteQueue", "setup"},
	{"sqs:GetQueueAttributes", "queue" + tagged, "sqs.GetQueueAttributes", openers},
	{"sqs:GetQueueUrl", "queue" + tagged, "sqs.GetQueueUrl", openers},
	{"sqs:ListQueueTags", "queue" + tagged, "sqs.ListQueueTags", "setup"},
	{"sqs:PurgeQueue", "queue" + tagged, "sqs.PurgeQueue", "setup?"},
	{"sqs:ReceiveMessage", "queue" + tagged, "sqs.ReceiveMessage", "controller primes-worker"},
	{"sqs:SendMessage", "queue" + tagged, "sqs.SendMessage sqs.SendMessageBatch", senders},
	{"sqs:SetQueueAttributes", "queue" + tagged, "sqs.SetQueueAttributes", "setup"},
	{"sqs:TagQueue", "queue" + tagged + tagging, "sqs.CreateQueue", "setup"},
	{"ssm:GetParameter", "parameter", "ssm.GetParameter", "controller setup?"},
	{"sts:GetCallerIdentity", "*", "sts.GetCallerIdentity", "controller setup allocator"},
}

// global are the keys that every request has, whatever it does. The fake's package call sets them; those of ec2: come
// with the session of an instance's role.
var global = []string{
	"aws:CurrentTime", "aws:EpochTime", "aws:PrincipalAccount", "aws:PrincipalArn", "aws:RequestedRegion",
	"aws:SecureTransport", "aws:userid", "ec2:SourceInstanceARN",
}

// find returns the action of a name, in whatever case.
func find(name string) *Action {
	for i := range Actions {
		if strings.EqualFold(Actions[i].Name, name) {
			return &Actions[i]
		}
	}
	return nil
}

// matching are the actions that a pattern of a policy stands for.
func matching(pattern string) []*Action {
	var out []*Action
	for i := range Actions {
		if iampolicy.ActionMatches(pattern, Actions[i].Name) {
			out = append(out, &Actions[i])
		}
	}
	return out
}

// types are the types of resources with their keys.
func (a *Action) types() map[string][]string {
	out := make(map[string][]string)
	for part := range strings.SplitSeq(a.On, "|") {
		words := strings.Fields(part)
		out[words[0]] = words[1:]
	}
	return out
}

// gives reports whether the fake gives a key for a type of resource; the type * stands for any.
func (a *Action) gives(kind, key string) bool {
	keys := slices.Clone(global)
	types := a.types()
	if kind == "*" {
		for _, more := range maps.All(types) {
			keys = append(keys, more...)
		}
	}
	return slices.ContainsFunc(append(keys, types[kind]...), func(known string) bool {
		head, _, isTag := strings.Cut(key, "/")
		return strings.EqualFold(known, key) || isTag && strings.EqualFold(known, head+"/")
	})
}

// kindOf is the type of the resource that an ARN, or a pattern of ARNs, names.
func kindOf(arn string) string {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) < 6 {
		return "*"
	}
	head, _, slash := strings.Cut(parts[5], "/")
	switch {
	case parts[2] == "sqs":
		return "queue"
	case parts[2] == "s3" && slash:
		return "object"
	case parts[2] == "s3":
		return "bucket"
	case strings.ContainsAny(head, "*?$"):
		return "*"
	}
	return head
}
