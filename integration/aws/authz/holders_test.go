package authz

import (
	"maps"
	"os"
	"path/filepath"
	"testing"

	"cloudmaster/integration/aws/iampolicy"
)

// The things that holders of IAM policies are asked about. Those of deployment sample are ours.
const (
	queues     = "arn:aws:sqs:eu-west-1:" + account + ":"
	roles      = "arn:aws:iam::" + account + ":role/"
	profiles   = "arn:aws:iam::" + account + ":instance-profile/"
	inRegion   = "arn:aws:ec2:eu-west-1:" + account + ":"
	machine    = inRegion + "instance/i-0123456789abcdef0"
	rules      = "arn:aws:events:eu-west-1:" + account + ":rule/"
	ownBucket  = "arn:aws:s3:::cloudmaster-sample-" + account + "-eu-west-1"
	onOther    = "cloudmaster-other-eu-west-1-primes"
	own        = "cloudmaster-sample-eu-west-1-primes"
	controller = "cloudmaster-sample-eu-west-1-controller"
	limits     = "arn:aws:iam::" + account + ":policy/limits"
)

// keys are the condition keys of a request.
type keys map[string][]string

// tags are the condition keys of a thing's tags: that of its deployment under both of their names.
func tags(deployment string) keys {
	return keys{
		"ec2:ResourceTag/cloudmaster:deployment": {deployment}, "aws:ResourceTag/cloudmaster:deployment": {deployment},
		"aws:ResourceTag/cloudmaster:region": {"eu-west-1"},
	}
}

// with adds one key.
func (k keys) with(key, value string) keys {
	out := maps.Clone(k)
	out[key] = []string{value}
	return out
}

// ask is one request of a holder.
type ask struct {
	action, resource string
	context          keys
}

// the actions that are asked for more than once.
const (
	pass     = "iam:PassRole"
	send     = "sqs:SendMessage"
	take     = "sqs:ReceiveMessage"
	end      = "ec2:TerminateInstances"
	tag      = "ec2:CreateTags"
	run      = "ec2:RunInstances"
	grant    = "iam:PutRolePolicy"
	bound    = "iam:PermissionsBoundary"
	setState = "aws:RequestTag/cloudmaster:state"
	setOwner = "aws:RequestTag/cloudmaster:deployment"
)

var (
	toEC2  = keys{"iam:PassedToService": {"ec2.amazonaws.com"}}
	launch = keys{setOwner: {"sample"}, "ec2:MetadataHttpTokens": {"required"}}
)

// ofController are what a controller may and may not do, whatever its pools are called.
func ofController(job, role string) (may, mayNot []ask) {
	may = []ask{
		{pass, roles + role, toEC2},
		{end, machine, tags("sample")},
		{tag, machine, tags("sample").with(setState, "draining")},
		{take, queues + job + "-status-sample", nil},
		{take, queues + "cloudmaster-sample-events", nil},
		{run, machine, launch},
	}
	mayNot = []ask{
		{pass, roles + controller, toEC2},
		{pass, roles + onOther, toEC2},
		{pass, roles + role, keys{"iam:PassedToService": {"lambda.amazonaws.com"}}},
		{end, machine, tags("other")},
		{end, machine, nil},
		{tag, machine, tags("other").with(setOwner, "sample")}, // take another's instance
		{tag, machine, tags("sample").with(setOwner, "other")}, // slip another one an instance
		{run, machine, launch.with(setOwner, "other")},
		{run, machine, launch.with("ec2:MetadataHttpTokens", "optional")},
		{run, inRegion + "security-group/sg-1", tags("other")},
		{run, "arn:aws:ec2:eu-west-1::image/ami-1", keys{"ec2:Owner": {"999999999999"}}}, // an image of anybody
		{take, queues + job + "-status-other", nil},
		{take, queues + "cloudmaster-other-events", nil},
		{take, queues + "cloudmaster-sample-2-events", nil}, // of deployment sample-2
		{send, queues + job + "-status-sample", nil},
		{"s3:PutObject", "arn:aws:s3:::cloudmaster-other-" + account + "-eu-west-1/controller/lease", nil},
		{"s3:DeleteObject", ownBucket + "/controller/lease", nil},
		{grant, roles + role, tags("sample")},
		{"sqs:DeleteQueue", queues + job + "-work-sample", nil},
	}
	return may, mayNot
}

// ofSender are what a program that sends to work queues may and may not do.
func ofSender(to, status string) (may, mayNot []ask) {
	return []ask{{send, queues + to, nil}, {send, queues + "cloudmaster-sample-hints", nil}},
		[]ask{
			{send, queues + status, nil},
			{send, queues + "cloudmaster-sample-events", nil},
			{send, queues + "cloudmaster-sample-2-hints", nil}, // of deployment sample-2
			{send, queues + "primes-work-other", nil},
			{send, queues + to + "-dead", nil},
			{take, queues + to, nil},
			{"s3:PutObject", ownBucket + "/active-set/fib-instances", nil},
			{end, machine, tags("sample")},
		}
}

// ofSetup are what setup may and may not do.
func ofSetup() (may, mayNot []ask) {
	made := keys{setOwner: {"sample"}, "aws:RequestTag/cloudmaster:region": {"eu-west-1"}}
	may = []ask{
		{"iam:CreateRole", roles + own, made.with(bound, limits)},
		{grant, roles + own, tags("sample").with(bound, limits)},
		{pass, roles + own, toEC2},
		{"ec2:DeleteSecurityGroup", inRegion + "security-group/sg-1", tags("sample")},
	}
	mayNot = []ask{
		{"iam:CreateRole", roles + "admin", made.with(bound, limits)},
		{"iam:CreateRole", roles + onOther, made.with(bound, limits)},
		{"iam:CreateRole", roles + own, made.with(setOwner, "other").with(bound, limits)},
		{grant, roles + onOther, tags("other").with(bound, limits)},
		{grant, roles + own, tags("other").with(bound, limits)}, // a role under our name that is not ours
		{"iam:AddRoleToInstanceProfile", profiles + onOther, tags("other")},
		{"iam:DeleteRolePermissionsBoundary", roles + own, tags("sample").with(bound, limits)},
		{"iam:CreatePolicyVersion", limits, nil},
		{"iam:AttachRolePolicy", roles + own, tags("sample").with(bound, limits)},
		{pass, roles + onOther, toEC2},
		{run, machine, launch},
		{"sts:AssumeRole", roles + own, nil},
		{end, machine, tags("sample")},
		{"ec2:DeleteSecurityGroup", inRegion + "security-group/sg-1", tags("other")},
		{"ec2:AuthorizeSecurityGroupIngress", inRegion + "security-group/sg-1", nil},
		{"sqs:DeleteQueue", queues + "primes-work-other", nil},
		{"sqs:DeleteQueue", queues + "cloudmaster-sample-2-hints", nil}, // of deployment sample-2
		{"sqs:SetQueueAttributes", queues + "cloudmaster-other-events", nil},
		{send, queues + "cloudmaster-sample-events", nil},
		{"s3:DeleteBucket", "arn:aws:s3:::cloudmaster-other-" + account + "-eu-west-1", nil},
		{"s3:PutObject", ownBucket + "/controller/lease", nil},
		{
			"events:PutTargets", rules + "cloudmaster-sample-events-health",
			keys{"events:TargetArn": {queues + "primes-work-other"}},
		},
		{"events:DeleteRule", rules + "cloudmaster-other-events-health", tags("other")},
	}
	return may, mayNot
}

// unbounded are what setup must not do with a boundary, beside all else that it may not.
var unbounded = []ask{
	{"iam:CreateRole", roles + own, keys{setOwner: {"sample"}, "aws:RequestTag/cloudmaster:region": {"eu-west-1"}}},
	{grant, roles + own, tags("sample")},
	{grant, roles + own, tags("sample").with(bound, "arn:aws:iam::aws:policy/AdministratorAccess")},
	{
		"iam:PutRolePermissionsBoundary", roles + own,
		tags("sample").with(bound, "arn:aws:iam::aws:policy/AdministratorAccess"),
	},
}

// ofInstances are what instances of a job pool may and may not do.
func ofInstances() (may, mayNot []ask) {
	return []ask{{take, queues + "primes-work-sample", nil}, {send, queues + "primes-status-sample", nil}},
		[]ask{
			{take, queues + "primes-status-sample", nil},
			{send, queues + "primes-work-sample", nil},
			{send, queues + "fib-status-sample", nil},
			{send, queues + "cloudmaster-sample-events", nil},
			{send, queues + "cloudmaster-sample-hints", nil},
			{"s3:GetObject", ownBucket + "/active-set/fib-instances", nil},
			{end, machine, tags("sample")},
			{pass, roles + own, toEC2},
		}
}

// TestWhatHoldersMayNot asks what the holder of each IAM policy may do. What it may is here so that a request which is
// refused for the wrong reason, such as an ARN that no statement could name, does not go unnoticed.
func TestWhatHoldersMayNot(t *testing.T) {
	t.Parallel()
	// Pools of the configuration that the IAM policies in testdata/many are for.
	const job, servers = "a-pool-with-a-rather-long-nm-000", "a-pool-with-a-rather-long-nm-001"
	setupMay, setupMayNot := ofSetup()
	for file, c := range map[string]func() (may, mayNot []ask){
		"deploy/aws/controller.json": func() ([]ask, []ask) { return ofController("primes", own) },
		"many/controller.json": func() ([]ask, []ask) {
			return ofController(job, "cloudmaster-sample-eu-west-1-"+job)
		},
		"deploy/aws/feed-primes.json": func() ([]ask, []ask) {
			return ofSender("primes-work-sample", "primes-status-sample")
		},
		"many/feeder.json": func() ([]ask, []ask) {
			return ofSender(job+"-work-sample", job+"-status-sample")
		},
		"deploy/aws/allocator.json": func() ([]ask, []ask) { return ofSender("fib-work-sample", "fib-status-sample") },
		"many/allocator.json": func() ([]ask, []ask) {
			return ofSender(servers+"-work-sample", servers+"-status-sample")
		},
		"deploy/aws/primes-worker.json": ofInstances,
		"deploy/aws/setup.json":         func() ([]ask, []ask) { return setupMay, setupMayNot },
		"many/setup.json":               func() ([]ask, []ask) { return setupMay, setupMayNot },
		"bound/setup.json":              func() ([]ask, []ask) { return setupMay, append(unbounded, setupMayNot...) },
	} {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			doc := stored(t, file)
			may, mayNot := c()
			for _, a := range may {
				judge(t, doc, a, true)
			}
			for _, a := range mayNot {
				judge(t, doc, a, false)
			}
		})
	}
}

// stored is an IAM policy of a file under deploy/aws or in testdata.
func stored(t *testing.T, file string) *iampolicy.Document {
	t.Helper()
	path := filepath.Join("testdata", file)
	if filepath.Dir(file) == "deploy/aws" {
		path = filepath.Join(root, file)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := iampolicy.Parse(file, iampolicy.Identity, text)
	if err != nil {
		t.Fatal(err)
	}
	if err := Check(doc); err != nil {
		t.Error(err)
	}
	return doc
}

// judge wants a request to be allowed or not.
func judge(t *testing.T, doc *iampolicy.Document, a ask, want bool) {
	t.Helper()
	got, err := iampolicy.Evaluate(&iampolicy.Policies{Identity: []*iampolicy.Document{doc}}, &iampolicy.Request{
		Action: a.action, Resource: a.resource, Owner: owner(a.resource), Context: a.context,
		Principal: iampolicy.Principal{Account: account, ARN: "arn:aws:iam::" + account + ":user/holder"},
	})
	if err != nil || got.Allowed != want {
		t.Errorf("%s on %s with %v: got %v (%s, %v), want %v", a.action, a.resource, a.context, got.Allowed, got.Why,
			err, want)
	}
}
