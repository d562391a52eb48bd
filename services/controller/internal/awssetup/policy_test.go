package awssetup_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"cloudmaster/internal/kind"
	"cloudmaster/internal/policy"
	"cloudmaster/services/controller/internal/app"
	"cloudmaster/services/controller/internal/awssetup"
	"cloudmaster/services/controller/internal/config"
)

var update = flag.Bool("update", false, "rewrite deploy/aws/*.json")

const (
	deployAWS = "../../../../deploy/aws"
	account   = "123456789012"
	region    = "eu-west-1"
)

// sample is the deployment that the files under deploy/aws are for.
func sample(t *testing.T) *config.Config {
	t.Helper()
	cfg, err := config.Load(filepath.Join(deployAWS, "cloudmaster.yaml"), app.Kinds())
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// documents are the sample's policies by the names of their files.
func documents(t *testing.T) map[string]awssetup.Document {
	t.Helper()
	cfg := sample(t)
	p, err := awssetup.NewPolicies(t.Context(), cfg, account, region, "cloudmaster-sample-"+account+"-"+region)
	try(t, err)
	docs := make(map[string]awssetup.Document)
	for file, name := range map[string]string{
		"controller": "controller", "primes-worker": "primes", "fib-server": "fib",
		"allocator": "allocator", "feed-primes": "feed-primes", "setup": "setup",
	} {
		doc, ok := p.Named(name)
		if !ok {
			t.Fatalf("there is no policy %s", name)
		}
		docs[file] = doc
	}
	return docs
}

func TestPolicyFiles(t *testing.T) {
	t.Parallel()
	for name, doc := range documents(t) {
		want, err := doc.Encode()
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(deployAWS, name+".json")
		if *update {
			if err := os.WriteFile(file, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what policy.go builds (%v): "+
				"go test ./services/controller/internal/awssetup -run PolicyFiles -update", file, err)
		}
	}
}

// mayBeAll are actions that know no resource.
func mayBeAll(action string) bool {
	return strings.HasPrefix(action, "ec2:Describe") || action == "sts:GetCallerIdentity" ||
		action == "cloudwatch:GetMetricData"
}

func TestStatementsNameWhatTheyGrant(t *testing.T) {
	t.Parallel()
	for name, doc := range documents(t) {
		sids := make(map[string]bool)
		for _, s := range doc.Statement {
			if s.Effect != "Allow" || len(s.Action) == 0 || len(s.Resource) == 0 || s.Sid == "" || sids[s.Sid] {
				t.Errorf("%s: %+v: want it to allow, to have a name of its own, actions and resources", name, s)
			}
			sids[s.Sid] = true
			for _, a := range s.Action {
				if strings.Contains(a, "*") {
					t.Errorf("%s: %s: action %s, want each by its name", name, s.Sid, a)
				}
				if slices.Contains(s.Resource, "*") != mayBeAll(a) {
					t.Errorf("%s: %s: %s on %v, want * if and only if it knows no resource", name, s.Sid, a, s.Resource)
				}
			}
			for _, r := range s.Resource {
				ours := strings.Contains(r, "sample") &&
					(strings.Contains(r, ":"+account+":") ||
						strings.HasPrefix(r, "arn:aws:s3:::cloudmaster-sample-"+account))
				if !ours && !wide[s.Sid] {
					t.Errorf("%s: %s: %s, want it to be of the deployment alone", name, s.Sid, r)
				}
			}
		}
	}
}

// wide are statements whose resources no name tells apart. Those that change something are
// bound to the deployment's tag, or are what instances are launched with.
var wide = map[string]bool{
	"WhoAmI": true, "SeeInstances": true, "SeeEC2": true, "ListRoles": true, "ReadImageNames": true,
	"LaunchTagged": true, "LaunchWith": true, "TagAtLaunch": true, "TagOurs": true, "EndOurs": true,
	"MakeGroups": true, "MakeGroupsInVPC": true, "TagNewGroups": true, "ChangeOurGroups": true,
	"LaunchVolumes": true, "LaunchInGroups": true, "LaunchImagesOfOwners": true,
	"SeeAges": true, "SeeSpotRole": true, "MakeSpotRole": true,
}

func TestWhatNoNameTellsApartIsBoundByTag(t *testing.T) {
	t.Parallel()
	const launched, made = "ec2:ResourceTag/cloudmaster:deployment", "aws:ResourceTag/cloudmaster:"
	for program, conditions := range map[string]map[string]map[string]string{
		"controller": {
			"LaunchTagged": {
				"aws:RequestTag/cloudmaster:deployment": "sample", "ec2:MetadataHttpTokens": "required",
			},
			"LaunchVolumes":        {"aws:RequestTag/cloudmaster:deployment": "sample"},
			"LaunchInGroups":       {made + "deployment": "sample"},
			"LaunchImagesOfOwners": {"ec2:Owner": account},
			"TagAtLaunch":          {"ec2:CreateAction": "RunInstances"},
			"EndOurs":              {launched: "sample"},
			"GiveRoles":            {"iam:PassedToService": "ec2.amazonaws.com"},
		},
		"setup": {
			"MakeGroups":      {"aws:RequestTag/cloudmaster:deployment": "sample"},
			"TagNewGroups":    {"ec2:CreateAction": "CreateSecurityGroup"},
			"ChangeOurGroups": {launched: "sample"},
			"MakeSpotRole":    {"iam:AWSServiceName": "spot.amazonaws.com"},
			"ChangeOurRoles":  {made + "deployment": "sample", made + "region": region},
			"MakeRoles": {
				"aws:RequestTag/cloudmaster:deployment": "sample", "aws:RequestTag/cloudmaster:region": region,
			},
			"GiveRoles": {"iam:PassedToService": "ec2.amazonaws.com"},
		},
	} {
		for sid, keys := range conditions {
			want := make(map[string]awssetup.Values)
			for key, value := range keys {
				want[key] = awssetup.Values{value}
			}
			got := statement(documents(t)[program], sid).Condition
			if len(got) != 1 || !reflect.DeepEqual(got["StringEquals"], want) {
				t.Errorf("%s: %s: got condition %v, want %v", program, sid, got, want)
			}
		}
	}
}

// TestTagsKeepInstancesOurs: the tag of another deployment would give it the instance.
func TestTagsKeepInstancesOurs(t *testing.T) {
	t.Parallel()
	got := statement(documents(t)["controller"], "TagOurs").Condition
	if want := (awssetup.Condition{
		"StringEquals":         {"ec2:ResourceTag/cloudmaster:deployment": {"sample"}},
		"StringEqualsIfExists": {"aws:RequestTag/cloudmaster:deployment": {"sample"}},
	}); !reflect.DeepEqual(got, want) {
		t.Errorf("got condition %v, want %v", got, want)
	}
}

// statement is that of a name; empty if there is none.
func statement(d awssetup.Document, sid string) awssetup.Statement {
	for _, s := range d.Statement {
		if s.Sid == sid {
			return s
		}
	}
	return awssetup.Statement{}
}

func TestPoliciesOfOtherConfigurations(t *testing.T) {
	t.Parallel()
	build := func(text string) *awssetup.Policies {
		cfg, err := config.Parse("c.yaml", []byte(text), app.Kinds())
		if err != nil {
			t.Fatal(err)
		}
		p, err := awssetup.NewPolicies(t.Context(), cfg, account, "cn-north-1", "b")
		try(t, err)
		return p
	}
	resources := func(d awssetup.Document, sid string) []string { return statement(d, sid).Resource }
	p := build(`deployment: d
backend: aws://cn-north-1
clouds: {c: {type: ec2}, far: {type: ec2, region: cn-northwest-1}}
pools:
  a: {image: "ssm:/images/a", cloud: c, instance_profile: "arn:aws-cn:iam::123456789012:instance-profile/path/mine"}
  b: {image: "ssm:/aws/service/x", cloud: c}
`).Controller()
	for sid, want := range map[string][]string{
		"EndOurs": {
			"arn:aws-cn:ec2:cn-north-1:123456789012:instance/*",
			"arn:aws-cn:ec2:cn-northwest-1:123456789012:instance/*",
		},
		"GiveRoles": {
			"arn:aws-cn:iam::123456789012:role/cloudmaster-d-cn-north-1-b",
			"arn:aws-cn:iam::123456789012:role/mine",
		},
		"ReadImageNames": {
			"arn:aws-cn:ssm:cn-north-1:123456789012:parameter/cloudmaster/*",
			"arn:aws-cn:ssm:cn-north-1:123456789012:parameter/images/a",
			"arn:aws-cn:ssm:cn-north-1::parameter/aws/service/x",
			"arn:aws-cn:ssm:cn-northwest-1:123456789012:parameter/cloudmaster/*",
			"arn:aws-cn:ssm:cn-northwest-1:123456789012:parameter/images/a",
			"arn:aws-cn:ssm:cn-northwest-1::parameter/aws/service/x",
		},
	} {
		if got := resources(p, sid); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", sid, got, want)
		}
	}
	bound := build(`deployment: d
backend: aws://cn-north-1
clouds: {c: {type: ec2, image_owners: [self, "210987654321"], subnets: [subnet-1]}}
pools:
  a: {image: ami-0123456789abcdef0, cloud: c, security_groups: [sg-1]}
  b: {image: "x-{arch}", cloud: c}
  e: {image: "ssm:/images/e-{arch}", cloud: c}
`).Controller()
	const kinds = "ec2:DescribeInstanceTypes"
	if see := "SeeInstances"; !slices.Contains(statement(bound, see).Action, kinds) ||
		slices.Contains(statement(p, see).Action, kinds) {
		t.Errorf("%s: want it granted where an image goes by the architecture, and there alone", kinds)
	}
	const both = "arn:aws-cn:ssm:cn-north-1:123456789012:parameter/images/e-*"
	if got := resources(bound, "ReadImageNames"); !slices.Contains(got, both) {
		t.Errorf("got parameters %q, want %s among them", got, both)
	}
	for sid, want := range map[string]string{
		"LaunchInNamedGroups": "arn:aws-cn:ec2:cn-north-1:123456789012:security-group/sg-1",
		"LaunchImages":        "arn:aws-cn:ec2:cn-north-1::image/ami-0123456789abcdef0",
		"LaunchWith":          "arn:aws-cn:ec2:cn-north-1:123456789012:subnet/subnet-1",
	} {
		if got := resources(bound, sid); len(got) == 0 || got[0] != want {
			t.Errorf("%s: got %q, want %s", sid, got, want)
		}
	}
	if got := statement(bound, "LaunchImagesOfOwners").Condition["StringEquals"]["ec2:Owner"]; !slices.Equal(got,
		[]string{account, "210987654321"}) {
		t.Errorf("got owners %q, want the account and the other one", got)
	}
	nats := build("deployment: d\nbackend: nats://h:1\nclouds: {c: {type: ec2, region: cn-north-1}}\n" +
		"pools: {a: {image: x, cloud: c}}\n")
	if got := resources(nats.Controller(), "WatchQueues"); got != nil ||
		resources(nats.Controller(), "EndOurs") == nil {
		t.Errorf("with queues elsewhere: got rights on queues %q, want none, and rights on instances", got)
	}
}

// TestRoles: who feeds and who allocates is found from the pools, whatever their names.
func TestRoles(t *testing.T) {
	t.Parallel()
	kinds := app.Kinds()
	kinds.Policies = append(kinds.Policies, policy.Kind{
		Name: "told", Settings: func() kind.Settings { return new(kind.None) },
		Traits: policy.Traits{Orders: "told_queue_name"},
		New:    func(kind.Settings, policy.Policy) (policy.Policy, error) { return policy.Fixed{}, nil },
	})
	cfg, err := config.Parse("c.yaml", []byte(`backend: aws://eu-west-1
clouds: {c: {type: ec2}}
pools:
  ants: {policy: job, image: x, cloud: c}
  bees: {policy: resource, image: x, cloud: c, active_set_type: blob}
  wasps: {policy: told, image: x, cloud: c}
`), kinds)
	if err != nil {
		t.Fatal(err)
	}
	p, err := awssetup.NewPolicies(t.Context(), cfg, account, region, "b")
	try(t, err)
	want := []string{"controller", "allocator", "feeder", "setup", "feed-ants", "feed-wasps", "ants", "bees", "wasps"}
	if got := p.Names(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, name := range want {
		if _, ok := p.Named(name); !ok {
			t.Errorf("there is no policy %s", name)
		}
	}
	for _, name := range []string{"feed-bees", "feed-", "feed-primes", ""} {
		if doc, ok := p.Named(name); ok {
			t.Errorf("%s: got %+v, want none", name, doc)
		}
	}
	queues := func(name, sid string) string {
		doc, _ := p.Named(name)
		for _, s := range doc.Statement {
			if s.Sid == sid {
				return strings.ReplaceAll(strings.Join(s.Resource, " "), "arn:aws:sqs:eu-west-1:"+account+":", "")
			}
		}
		return ""
	}
	for want, at := range map[string][2]string{
		"ants-work wasps-work cloudmaster-hints": {"feeder", "SendJobs"},
		"ants-work cloudmaster-hints":            {"feed-ants", "SendJobs"},
		"bees-work cloudmaster-hints":            {"allocator", "RequestServers"},
		"cloudmaster-hints cloudmaster-events":   {"controller", "TakePost"},
		"wasps-told":                             {"controller", "TakeOrders"},
		"bees-work":                              {"controller", "TakeRequests"},
		"ants-status bees-status wasps-status":   {"controller", "Hear"},
	} {
		if got := queues(at[0], at[1]); got != want {
			t.Errorf("%s of %s: got %s, want %s", at[1], at[0], got, want)
		}
	}
	if got := queues("controller", "WatchQueues"); !strings.Contains(got, "wasps-told wasps-told-dead") {
		t.Errorf("got %s, want the queue of orders among all", got)
	}
}
