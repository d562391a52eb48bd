package awssetup_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"cloudmaster/internal/blob"
	"cloudmaster/internal/blob/s3blob"
	"cloudmaster/internal/cloud/ec2cloud"
	"cloudmaster/internal/pool"
)

func TestSetupMakesAllOnceAndTeardownRemovesIt(t *testing.T) {
	w := newWorld(t)
	cfg, all := w.config("d", ""), w.all("d")
	planned, err := w.setup(cfg, true)
	try(t, err)
	if again := w.mustSetUp(cfg); planned != each("create", all) || again != planned+each("created", all) {
		t.Errorf("dry run:\n%s\nthen setup:\n%s\nwant all planned twice, then created", planned, again)
	}
	w.looksRight("d")
	if second := w.mustSetUp(cfg); second != each("keep", all)+nothingToDo {
		t.Errorf("second setup:\n%s\nwant nothing done", second)
	}
	store := w.store()
	for i := range 3 {
		_, err := store.Put(t.Context(), fmt.Sprint("active-set/", i), []byte("x"), blob.Any)
		try(t, err)
	}
	planned, err = w.teardown(cfg, true)
	try(t, err)
	gone := len(all) - 1 // the queue policy goes with its queue
	if n := strings.Count(planned, "remove "); n != gone {
		t.Errorf("dry run:\n%s\nwant %d things", planned, gone)
	}
	if done := w.mustTearDown(cfg); !strings.HasPrefix(done, planned) || strings.Count(done, "removed ") != gone {
		t.Errorf("teardown:\n%s\nwant the plan, and all removed", done)
	}
	if second := w.mustTearDown(cfg); second != nothingToRemove {
		t.Errorf("second teardown:\n%s\nwant nothing", second)
	}
	if again := w.mustSetUp(cfg); !strings.HasSuffix(again, each("created", all)) {
		t.Errorf("setup again:\n%s\nwant all made again", again)
	}
}

// store is the bucket of deployment d.
func (w *world) store() blob.Store {
	w.t.Helper()
	s, err := s3blob.Open(w.t.Context(), w.aws, "cloudmaster-d-"+w.account+"-eu-west-1", s3blob.Options{})
	try(w.t, err)
	return s
}

func TestSetupGoesOnWhereItStopped(t *testing.T) {
	w := newWorld(t)
	for action, thing := range map[string]string{
		"CreateRole": "role cloudmaster-d-eu-west-1-fib", "PutRolePolicy": "role cloudmaster-d-eu-west-1-fib",
		"AuthorizeSecurityGroupIngress": "security group cloudmaster-d-fib",
		"AddRoleToInstanceProfile":      "instance profile cloudmaster-d-eu-west-1-fib",
	} {
		var on atomic.Bool
		on.Store(true)
		cfg := onAWS(t, w.denying(action, &on), "d", "")
		out, err := w.setup(cfg, false)
		if err == nil {
			t.Fatalf("%s denied: got no error and:\n%s", action, out)
		}
		for _, want := range []string{"could not create " + thing + ", after ", action +
			" is denied to setup; deploy/aws/setup.json grants it", "run controller setup again"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s denied: got %v, want %q in it", action, err, want)
			}
		}
		on.Store(false)
		wants(t, w.mustSetUp(cfg), "keep queue primes-work-d", "create security group cloudmaster-d-primes",
			"created security group cloudmaster-d-primes")
		w.looksRight("d")
		w.mustTearDown(cfg)
	}
}

// group returns the only security group of the name.
func (w *world) group(name string) ec2types.SecurityGroup {
	w.t.Helper()
	out, err := w.ec2.DescribeSecurityGroups(w.t.Context(), &ec2.DescribeSecurityGroupsInput{
		Filters: []ec2types.Filter{{Name: aws.String("group-name"), Values: []string{name}}},
	})
	try(w.t, err)
	if len(out.SecurityGroups) != 1 {
		w.t.Fatalf("got %d groups %s, want one", len(out.SecurityGroups), name)
	}
	return out.SecurityGroups[0]
}

// sources are what a group lets in, as "tcp 80 10.0.0.0/8".
func sources(g ec2types.SecurityGroup) []string {
	var out []string
	for _, p := range g.IpPermissions {
		for _, r := range p.IpRanges {
			out = append(out, fmt.Sprint(*p.IpProtocol, " ", *p.FromPort, " ", *r.CidrIp))
		}
		for _, r := range p.Ipv6Ranges {
			out = append(out, fmt.Sprint(*p.IpProtocol, " ", *p.FromPort, " ", *r.CidrIpv6))
		}
	}
	slices.Sort(out)
	return out
}

// looksRight checks what was made with other eyes than setup's.
func (w *world) looksRight(deployment string) {
	w.t.Helper()
	ctx := w.t.Context()
	if got := sources(w.group("cloudmaster-" + deployment + "-fib")); !slices.Equal(got,
		[]string{"tcp 20808 10.0.0.0/8", "tcp 20808 fd00::/8"}) {
		w.t.Errorf("fib's group lets in %q", got)
	}
	if got := sources(w.group("cloudmaster-" + deployment + "-primes")); got != nil {
		w.t.Errorf("primes' group lets in %q, want nothing: it has no service port", got)
	}
	for _, name := range []string{"fib", "primes"} {
		p, err := w.iam.GetInstanceProfile(ctx, &iam.GetInstanceProfileInput{
			InstanceProfileName: aws.String("cloudmaster-" + deployment + "-eu-west-1-" + name),
		})
		try(w.t, err)
		if roles := p.InstanceProfile.Roles; len(roles) != 1 ||
			*roles[0].RoleName != "cloudmaster-"+deployment+"-eu-west-1-"+name {
			w.t.Errorf("profile of %s has roles %+v, want its own", name, roles)
		}
	}
	policy, err := w.iam.GetRolePolicy(ctx, &iam.GetRolePolicyInput{
		RoleName: aws.String("cloudmaster-" + deployment + "-eu-west-1-fib"), PolicyName: aws.String("cloudmaster"),
	})
	try(w.t, err)
	if doc := *policy.PolicyDocument; !strings.Contains(doc, "fib-status-"+deployment) ||
		strings.Contains(doc, "work") ||
		strings.Contains(doc, "Receive") {
		w.t.Errorf("fib's policy is %s, want its status queue alone", doc)
	}
	url, err := w.sqs.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: aws.String("primes-work-" + deployment)})
	try(w.t, err)
	attrs, err := w.sqs.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{
		QueueUrl: url.QueueUrl, AttributeNames: []sqstypes.QueueAttributeName{"All"},
	})
	try(w.t, err)
	var redrive struct {
		Target string `json:"deadLetterTargetArn"`
	}
	try(w.t, json.Unmarshal([]byte(attrs.Attributes["RedrivePolicy"]), &redrive))
	if attrs.Attributes["VisibilityTimeout"] != "120" ||
		!strings.HasSuffix(redrive.Target, ":primes-work-"+deployment+"-dead") {
		w.t.Errorf("primes' work queue has %v, want 120 s and its dead letters", attrs.Attributes)
	}
}

func TestWhatDiffersIsChanged(t *testing.T) {
	w := newWorld(t)
	cfg := w.config("d", "")
	w.mustSetUp(cfg)
	w.drift()
	lines := []string{
		"change queue primes-work-d-dead: MessageRetentionPeriod is 60, not 1209600",
		"change queue primes-work-d: VisibilityTimeout is 5, not 120",
		"change bucket cloudmaster-d-" + w.account + "-eu-west-1: public access is not blocked",
		"change security group cloudmaster-d-fib: open tcp 20808 from 10.0.0.0/8, close tcp 22 from 0.0.0.0/0",
		"change role cloudmaster-d-eu-west-1-fib: who may take it is not EC2 alone, its policy is not as it should be",
		"change instance profile cloudmaster-d-eu-west-1-fib: its role is missing, not cloudmaster-d-eu-west-1-fib",
		"change security group cloudmaster-d-primes: close tcp 22 from 0.0.0.0/0",
	}
	planned, err := w.setup(cfg, true)
	try(t, err)
	wants(t, planned, lines...)
	if n := strings.Count(planned, "change "); n != len(lines) {
		t.Errorf("got:\n%s\nwant %d changes", planned, len(lines))
	}
	if again, err := w.setup(cfg, true); err != nil || again != planned {
		t.Errorf("a dry run changed something: got\n%s\n%v", again, err)
	}
	w.mustSetUp(cfg)
	w.looksRight("d")
	if last := w.mustSetUp(cfg); !strings.HasSuffix(last, nothingToDo) {
		t.Errorf("got:\n%s\nwant nothing more to do", last)
	}
	w.mustTearDown(cfg)
	// The calls of all this are those that setup's policy grants. What LocalStack does not ask for is here.
	w.rec.compare(t, documents(t)["setup"],
		"sqs:TagQueue", "iam:TagRole", "iam:TagInstanceProfile", "ec2:CreateTags", // tags at creation
		"events:TagResource",                             // likewise
		"s3:PutBucketOwnershipControls",                  // CreateBucket with an ownership
		"s3:DeleteObjectVersion",                         // DeleteObjects with versions
		"iam:PassRole",                                   // AddRoleToInstanceProfile
		"ec2:DescribeSubnets",                            // of pools that name subnets, TestSubnets
		"iam:CreateServiceLinkedRole",                    // of pools on spot instances, TestSpotRole
		"ec2:UpdateSecurityGroupRuleDescriptionsIngress", // TestRulesOfEarlierVersions
	)
}

// drift changes what setup made.
func (w *world) drift() {
	w.t.Helper()
	ctx, fib := w.t.Context(), aws.String("cloudmaster-d-eu-west-1-fib")
	for name, attrs := range map[string]map[string]string{
		"primes-work-d":      {"VisibilityTimeout": "5"},
		"primes-work-d-dead": {"MessageRetentionPeriod": "60"},
	} {
		url, err := w.sqs.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: &name})
		try(w.t, err)
		_, err = w.sqs.SetQueueAttributes(ctx, &sqs.SetQueueAttributesInput{QueueUrl: url.QueueUrl, Attributes: attrs})
		try(w.t, err)
	}
	_, err := w.s3.DeletePublicAccessBlock(ctx, &s3.DeletePublicAccessBlockInput{
		Bucket: aws.String("cloudmaster-d-" + w.account + "-eu-west-1"),
	})
	try(w.t, err)
	_, err = w.store().Put(ctx, "active-set/x", []byte("x"), blob.Any)
	try(w.t, err)
	g := w.group("cloudmaster-d-fib")
	_, err = w.ec2.RevokeSecurityGroupIngress(ctx, &ec2.RevokeSecurityGroupIngressInput{
		GroupId: g.GroupId, CidrIp: aws.String("10.0.0.0/8"), IpProtocol: aws.String("tcp"), FromPort: aws.Int32(20808),
		ToPort: aws.Int32(20808),
	})
	try(w.t, err)
	for _, id := range []*string{g.GroupId, w.group("cloudmaster-d-primes").GroupId} {
		_, err = w.ec2.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{
			GroupId: id, IpPermissions: []ec2types.IpPermission{{
				IpProtocol: aws.String("tcp"), FromPort: aws.Int32(22), ToPort: aws.Int32(22),
				IpRanges: []ec2types.IpRange{{
					CidrIp: aws.String("0.0.0.0/0"), Description: aws.String("opened by controller setup"),
				}},
			}},
		})
		try(w.t, err)
	}
	_, err = w.iam.UpdateAssumeRolePolicy(ctx, &iam.UpdateAssumeRolePolicyInput{
		RoleName: fib, PolicyDocument: aws.String(anybody),
	})
	try(w.t, err)
	_, err = w.iam.DeleteRolePolicy(ctx,
		&iam.DeleteRolePolicyInput{RoleName: fib, PolicyName: aws.String("cloudmaster")})
	try(w.t, err)
	_, err = w.iam.RemoveRoleFromInstanceProfile(ctx,
		&iam.RemoveRoleFromInstanceProfileInput{InstanceProfileName: fib, RoleName: fib})
	try(w.t, err)
	managed, err := w.iam.CreatePolicy(ctx, &iam.CreatePolicyInput{
		PolicyName: aws.String("extra"),
		PolicyDocument: aws.String(`{"Version":"2012-10-17",` +
			`"Statement":[{"Effect":"Allow","Action":"ssm:*","Resource":"*"}]}`),
	})
	try(w.t, err)
	_, err = w.iam.AttachRolePolicy(ctx, &iam.AttachRolePolicyInput{RoleName: fib, PolicyArn: managed.Policy.Arn})
	try(w.t, err)
}

var location = &s3types.CreateBucketConfiguration{LocationConstraint: region}

const anybody = `{"Version":"2012-10-17",` +
	`"Statement":[{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"sts:AssumeRole"}]}`

func TestWhatSetupDidNotMakeIsLeftAlone(t *testing.T) {
	w := newWorld(t)
	ctx, fib, role := t.Context(), aws.String("cloudmaster-d-fib"), aws.String("cloudmaster-d-eu-west-1-fib")
	cfg := w.config("d", "")
	vpcs, err := w.ec2.DescribeVpcs(ctx, nil)
	try(t, err)
	_, err = w.ec2.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{
		GroupName: fib, Description: fib, VpcId: vpcs.Vpcs[0].VpcId,
	})
	try(t, err)
	_, err = w.iam.CreateRole(ctx,
		&iam.CreateRoleInput{RoleName: role, AssumeRolePolicyDocument: aws.String(anybody), Tags: []iamtypes.Tag{
			{
				Key: aws.String("cloudmaster:deployment"), Value: aws.String("d"),
			}, {Key: aws.String("cloudmaster:made-by"), Value: aws.String("hand")},
		}})
	try(t, err)
	bucket := "cloudmaster-d-" + w.account + "-eu-west-1"
	_, err = w.s3.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &bucket, CreateBucketConfiguration: location})
	try(t, err)
	// Another deployment's names begin as ours do.
	other := w.config("d-x", "")
	w.mustSetUp(other)

	out := w.mustSetUp(cfg)
	wants(t, out, "use bucket "+bucket+" (not made by setup)",
		"use security group cloudmaster-d-fib (not made by setup)",
		"use role cloudmaster-d-eu-west-1-fib (not made by setup)",
		"create instance profile cloudmaster-d-eu-west-1-fib")
	out = w.mustTearDown(cfg)
	wants(t, out, "leave security group cloudmaster-d-fib (not made by setup)",
		"leave role cloudmaster-d-eu-west-1-fib (not made by setup)", "leave bucket "+bucket+" (not made by setup)")
	if strings.Contains(out, "d-x") {
		t.Errorf("got:\n%s\nwant nothing of deployment d-x", out)
	}
	if got := sources(w.group(*fib)); got != nil {
		t.Errorf("the group of somebody else lets in %q, want it as it was", got)
	}
	got, err := w.iam.GetRole(ctx, &iam.GetRoleInput{RoleName: role})
	try(t, err)
	if doc := *got.Role.AssumeRolePolicyDocument; !strings.Contains(doc, "AWS") {
		t.Errorf("somebody else's role may be taken by %s, want it as it was", doc)
	}
	w.store()
	if out := w.mustSetUp(other); out != each("keep", w.all("d-x"))+nothingToDo {
		t.Errorf("deployment d-x after teardown of d:\n%s\nwant all there", out)
	}
}

// TestNamesThatMeetAreRefused: pool b-fib of deployment a would be called what pool fib of a-b is.
func TestNamesThatMeetAreRefused(t *testing.T) {
	w := newWorld(t)
	other := w.config("a-b", "")
	w.mustSetUp(other)
	cfg := w.config("a", "")
	for _, name := range []pool.Name{"fib", "primes"} {
		p := cfg.Pools[name]
		p.Name = "b-" + name
		delete(cfg.Pools, name)
		cfg.Pools[p.Name] = p
	}
	out, err := w.setup(cfg, false)
	if err == nil || strings.Contains(out, "created") {
		t.Fatalf("got %v and:\n%s\nwant a refusal, and nothing made", err, out)
	}
	for _, want := range []string{
		`security group cloudmaster-a-b-fib belongs to deployment "a-b"`,
		`security group cloudmaster-a-b-primes belongs to deployment "a-b"`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got:\n%v\nwant %q in it", err, want)
		}
	}
	if out := w.mustSetUp(other); !strings.HasSuffix(out, nothingToDo) {
		t.Errorf("got:\n%s\nwant deployment a-b as it was", out)
	}
}

func TestWhatCannotWorkIsRefused(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	_, err := w.sqs.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: aws.String("primes-work-d")})
	try(t, err)
	_, err = w.iam.CreateInstanceProfile(ctx, &iam.CreateInstanceProfileInput{
		InstanceProfileName: aws.String("cloudmaster-d-eu-west-1-fib"),
	})
	try(t, err)
	vpc, err := w.ec2.CreateVpc(ctx, &ec2.CreateVpcInput{CidrBlock: aws.String("10.9.0.0/16")})
	try(t, err)
	_, err = w.ec2.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{
		GroupName: aws.String("cloudmaster-d-fib"), Description: aws.String("x"), VpcId: vpc.Vpc.VpcId,
	})
	try(t, err)
	out, err := w.setup(w.config("d", ""), false)
	if err == nil || strings.Contains(out, "created") {
		t.Fatalf("got %v and:\n%s\nwant a refusal, and nothing made", err, out)
	}
	for _, want := range []string{
		"queue primes-work-d was not made by setup for this deployment, and does not fit pool primes: " +
			"MessageRetentionPeriod is ",
		"name another queue in work_queue_name",
		"instance profile cloudmaster-d-eu-west-1-fib was not made by setup for this deployment, and has no role",
		"security group cloudmaster-d-fib exists (sg-",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got:\n%v\nwant %q in it", err, want)
		}
	}
}

func TestSubnets(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	var subnets []string
	for _, block := range []string{"10.8.0.0/16", "10.9.0.0/16"} {
		vpc, err := w.ec2.CreateVpc(ctx, &ec2.CreateVpcInput{CidrBlock: aws.String(block)})
		try(t, err)
		subnet, err := w.ec2.CreateSubnet(ctx, &ec2.CreateSubnetInput{
			VpcId: vpc.Vpc.VpcId, CidrBlock: aws.String(block),
		})
		try(t, err)
		subnets = append(subnets, *subnet.Subnet.SubnetId)
	}
	cfg := w.config("d", ", subnets: ["+subnets[0]+"]")
	fib, ok := cfg.Pools["fib"].OnCloud.(*ec2cloud.Machine)
	if !ok {
		t.Fatalf("got %T", cfg.Pools["fib"].OnCloud)
	}
	fib.ClientCIDRs = nil
	w.mustSetUp(cfg)
	if got := sources(w.group("cloudmaster-d-fib")); !slices.Equal(got, []string{"tcp 20808 10.8.0.0/16"}) {
		t.Errorf("got %q, want the block of the subnet's VPC", got)
	}
	_, err := w.setup(w.config("d", ", subnets: ["+subnets[0]+", "+subnets[1]+"]"), true)
	if err == nil || !strings.Contains(err.Error(), "the subnets of pool fib are in 2 VPCs") {
		t.Errorf("got %v, want subnets of two VPCs refused", err)
	}
	_, err = w.setup(w.config("d", ", subnets: ["+subnets[1]+"]"), true)
	if err == nil || !strings.Contains(err.Error(), "run controller teardown") {
		t.Errorf("got %v, want our group in another VPC refused", err)
	}
}
