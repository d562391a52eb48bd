package walkthrough

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"cloudmaster/integration/aws/authz"
	"cloudmaster/integration/aws/awsfake"
	"cloudmaster/integration/aws/call"
	"cloudmaster/integration/aws/cloudwatch"
	"cloudmaster/integration/aws/ec2"
	"cloudmaster/integration/aws/events"
	"cloudmaster/integration/aws/iam"
	"cloudmaster/integration/aws/iampolicy"
	"cloudmaster/integration/aws/sqs"
	"cloudmaster/integration/imds"
	"cloudmaster/integration/metal"
	"cloudmaster/integration/program"
	"cloudmaster/integration/wire"
)

// storiesVar makes the stories on the fake of AWS run without LocalStack.
const storiesVar = "CLOUDMASTER_STORIES"

// amazon is the fake of AWS: one account with all its regions. Nobody but the tests may do more than his IAM policy
// says.
type amazon struct {
	*awsfake.Server

	t      testing.TB
	iam    *iam.Service
	sqs    *sqs.Service
	bus    *events.Service
	rights *authz.Authorizer
}

// A user of another account, who may do there what he likes.
const (
	strangers   = "999999999999"
	strangerARN = "arn:" + call.Partition + ":iam::" + strangers + ":user/stranger"
)

// newAmazon serves an empty account. At the end of the test, each call that was not allowed is a failure.
func newAmazon(t *testing.T, opts iam.Options) *amazon {
	t.Helper()
	t.Parallel()
	if os.Getenv(storiesVar) == "" && os.Getenv("LOCALSTACK_ENDPOINT") == "" {
		t.Skipf("takes minutes: set %s=1, as make stories does", storiesVar)
	}
	a := &amazon{t: t, iam: iam.New(opts), sqs: sqs.New()}
	a.bus = events.New(a.sqs.Deliver)
	a.rights = authz.New(a.iam, a.sqs.Policy)
	var err error
	a.Server, err = awsfake.Start(t.Context(), awsfake.Options{
		Authorizer: a.rights, Profiles: a.iam.Profiles(ec2.DefaultAccount), RoleID: a.roleID,
		Services: map[string]call.Service{
			"iam": a.iam, "sqs": a.sqs, events.Name: a.bus, cloudwatch.Name: cloudwatch.Service{},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	a.WatchInstances(func(e ec2.Event) {
		a.happens(e.Region, "EC2 Instance State-change Notification", e.Instance.ID, map[string]any{
			"instance-id": e.Instance.ID, "state": e.Instance.State,
		})
	})
	t.Cleanup(a.end)
	return a
}

// roleID is the unique id of a role; empty if there is none, or EC2 may not assume it.
func (a *amazon) roleID(role string) string {
	p, _ := a.iam.Session(a.Account(), role, "")
	return strings.TrimSuffix(p.UserID, ":")
}

// happens puts an event about an instance onto EventBridge's bus. Source of the events: EC2 User Guide, "State change
// events for your instances" and "Spot Instance interruption notices".
func (a *amazon) happens(region, what, instance string, detail map[string]any) {
	err := a.bus.Put(&events.Event{
		Account: a.Account(), Region: region, Source: "aws.ec2", DetailType: what, Detail: detail, At: time.Now(),
		Resources: []string{"arn:" + call.Partition + ":ec2:" + region + ":" + a.Account() + ":instance/" + instance},
	})
	if err != nil {
		a.t.Errorf("event %q of %s: %v", what, instance, err)
	}
}

func (a *amazon) end() {
	times := make(map[string]int)
	for _, r := range a.rights.Refused() {
		if r.Principal == strangerARN { // whose calls must be refused
			continue
		}
		times[r.String()]++
	}
	for what, n := range times {
		a.t.Errorf("a call was not allowed, %d times: %s", n, what)
	}
	if err := a.rights.Err(); err != nil {
		a.t.Errorf("what was allowed means nothing: %v", err)
	}
	if err := a.Close(); err != nil {
		a.t.Error(err)
	}
}

// story is a world on the fake of AWS, in one region.
type story struct {
	*world

	amazon *amazon
	cloud  *ec2.Region // EC2 in the region
	keys   map[string]string
}

// onAWS are the settings in which stories on the fake differ from those on LocalStack.
var onAWS = map[string]string{"verify_sender": "true"}

// times are how long things take on EC2, in short.
var times = ec2.Times{
	Boot: 200 * time.Millisecond, End: 200 * time.Millisecond, ListLag: 500 * time.Millisecond,
	IDLag: 100 * time.Millisecond,
}

// newStory begins a story on an AWS of its own, after setup.
func newStory(t *testing.T, p plot) *story {
	t.Helper()
	s := newAmazon(t, iam.Options{}).begin(region, p)
	s.setup()
	return s
}

// begin prepares a story in a region: images, and the configuration. Setup has not run.
func (a *amazon) begin(region string, p plot) *story {
	a.t.Helper()
	s := &story{amazon: a, cloud: a.EC2(region), keys: make(map[string]string)}
	s.world = newWorld(a.t, region, a.Account(), a.URL(), wire.Options{OwnTokens: true})
	if s.hurried = p.hurried; p.hurried {
		s.must(hurry())
	}
	s.key = s.keyOf
	s.cloud.SetTimes(times)
	for name, image := range map[string]string{"primes-worker": "walk-primes-1", "fib-server": "walk-fib-1"} {
		s.bakes(name, image)
	}
	if !p.noMetal {
		s.powered(a.URL(), metal.Options{Credentials: s.credentials, Interval: 100 * time.Millisecond})
	}
	defaults := maps.Clone(onAWS)
	maps.Copy(defaults, p.defaults)
	p.defaults = defaults
	s.configure(p)
	return s
}

// bakes registers an image of a program under a name, for all processors, since a process runs on any.
func (s *story) bakes(program, name string) {
	s.t.Helper()
	id := "ami-" + strings.Repeat("0", 15) + string(rune('a'+len(s.images)))
	s.cloud.AddImage(ec2.Image{ID: id + "0", Name: name})
	s.images[program] = id + "0"
}

// credentials are those of the role in the instance's profile, which the metadata service gives to its programs.
func (s *story) credentials(instance string) imds.Credentials {
	key, err := s.amazon.InstanceKey(s.region, instance)
	if err != nil {
		s.t.Errorf("instance %s gets no credentials: %v", instance, err)
	}
	return imds.Credentials{AccessKeyID: key, SecretAccessKey: "secret", Token: "token"}
}

// policyOf is the name under which "controller policy" prints what a program may do; empty if it calls no AWS.
func policyOf(program string, args []string) string {
	switch {
	case program == "controller" && slices.Contains([]string{"setup", "teardown"}, args[0]):
		return "setup"
	case program == "controller" && args[0] == "run":
		return "controller"
	case program == "allocator", program == "feed-primes":
		return program
	}
	return ""
}

// mostPolicy is how many characters a managed IAM policy may have, without white space. Source: IAM User Guide,
// "IAM and AWS STS quotas".
const mostPolicy = 6144

// keyOf returns the access key of a user for a program, who has the rights of the IAM policy that "controller policy"
// prints for it, and no others.
func (s *story) keyOf(program string, args []string) string {
	s.t.Helper()
	name := policyOf(program, args)
	if name == "" || s.keys[name] != "" {
		return s.keys[name]
	}
	text := s.succeeds("controller", "policy", "-c", s.config, "--account", s.account, name)
	if size := len(strings.Join(strings.Fields(strings.Join(text, "")), "")); size > mostPolicy {
		s.t.Fatalf("the IAM policy %s has %d characters, and IAM takes %d", name, size, mostPolicy)
	}
	doc, err := iampolicy.Parse(name, iampolicy.Identity, []byte(strings.Join(text, "\n")))
	s.must(err)
	user := s.region + "-" + name
	arn := "arn:" + call.Partition + ":iam::" + s.account + ":user/" + user
	s.must(s.amazon.rights.Grant(arn, doc))
	s.keys[name] = "AKIA" + strings.ToUpper(strings.ReplaceAll(user, "-", ""))
	s.amazon.AddKey(s.keys[name], call.Principal{Account: s.account, ARN: arn, UserID: "AIDA" + user})
	return s.keys[name]
}

// logged counts the lines of the programs' logs that contain all the parts.
func (s *story) logged(parts ...string) int {
	s.t.Helper()
	text, err := os.ReadFile(s.stderr.Name())
	s.must(err)
	n := 0
	for line := range strings.SplitSeq(string(text), "\n") {
		if _, ok := program.Find([]string{line}, parts...); ok {
			n++
		}
	}
	return n
}

// alive returns the instances that EC2 has, as it knows them, without those that have ended or are ending.
func (s *story) alive() []ec2.Instance {
	return slices.DeleteFunc(s.cloud.Instances(), func(i ec2.Instance) bool {
		return i.State != "pending" && i.State != "running"
	})
}

// over waits until no process runs any more. EC2 says that an instance has ended when its processes have; here they may
// take some seconds longer.
func (s *story) over() {
	s.t.Helper()
	s.sees("no processes", func() (string, bool) {
		running := s.metal.Running()
		return join(running), len(running) == 0
	})
}

// teardown runs "controller teardown", which removes what setup has made.
func (s *story) teardown() {
	s.t.Helper()
	s.succeeds("controller", "teardown", "-c", s.config, "--yes")
}

// left are the names of all that is in the account but instances that have ended: roles, instance profiles, queues,
// rules, buckets, security groups.
func (a *amazon) left(regions ...string) []string {
	out := slices.Concat(a.iam.All(a.Account()), a.sqs.All(), a.bus.All(), a.S3().Buckets())
	for _, r := range regions {
		out = append(out, a.EC2(r).Groups()...)
		for _, i := range a.EC2(r).Instances() {
			if i.State != "terminated" {
				out = append(out, i.ID)
			}
		}
	}
	return out
}
