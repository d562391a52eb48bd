package iam_test

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cloudmaster/integration/aws/authz"
	"cloudmaster/integration/aws/call"
	"cloudmaster/integration/aws/iam"
	"cloudmaster/integration/aws/iampolicy"
)

// lag is how long changes take in some tests.
const lag = 10 * time.Second

const (
	account  = "123456789012"
	ec2Trust = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["sts:AssumeRole"],` +
		`"Principal":{"Service":"ec2.amazonaws.com"}}]}`
	sendAny = `{"Version":"2012-10-17","Statement":[{"Sid":"Send","Effect":"Allow","Action":"sqs:SendMessage",` +
		`"Resource":"*"}]}`
	jobs = "arn:aws:sqs:eu-west-1:" + account + ":jobs"
)

// world is an IAM with a clock, and somebody who calls it.
type world struct {
	t    *testing.T
	s    *iam.Service
	who  call.Principal
	gate call.Gate
	now  atomic.Int64 // in nanoseconds
}

func newWorld(t *testing.T, lag time.Duration) *world {
	t.Helper()
	w := &world{t: t, who: call.Root(account)}
	w.now.Store(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano())
	w.s = iam.New(iam.Options{Now: w.clock, Lag: lag})
	return w
}

func (w *world) clock() time.Time { return time.Unix(0, w.now.Load()) }

// settle lets what was done take effect.
func (w *world) settle() { w.now.Add(int64(lag)) }

// call makes a call and returns the answer, with a < before each element: parameters are name and value in turn.
func (w *world) call(action string, params ...string) string {
	w.t.Helper()
	form := url.Values{"Action": {action}}
	for i := 0; i < len(params); i += 2 {
		form.Set(params[i], params[i+1])
	}
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	out := httptest.NewRecorder()
	w.s.Serve(out, r, call.Caller{
		Principal: w.who, Region: "us-east-1", RequestID: rand.Text(), Now: w.clock(), Gate: w.gate,
	})
	return fmt.Sprint(out.Code, " ", out.Body)
}

// want makes a call, and fails the test if a text is not in the answer.
func (w *world) want(text, action string, params ...string) {
	w.t.Helper()
	if got := w.call(action, params...); !strings.Contains(got, text) {
		w.t.Errorf("%s %.200q: got %s, want %q", action, params, got, text)
	}
}

func (w *world) makeRole(name string, more ...string) {
	w.t.Helper()
	w.want("200", "CreateRole", append(more, "RoleName", name, "AssumeRolePolicyDocument", ec2Trust)...)
}

func TestLifeOfARole(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 0)
	w.makeRole("a", "Tags.member.1.Key", "team", "Tags.member.1.Value", "x<y")
	w.want("<Code>EntityAlreadyExists</Code>", "CreateRole", "RoleName", "a", "AssumeRolePolicyDocument", ec2Trust)
	w.want("<Tags><member><Key>team</Key><Value>x&lt;y</Value></member></Tags>", "GetRole", "RoleName", "a")
	w.want("<Arn>arn:aws:iam::123456789012:role/a</Arn>", "GetRole", "RoleName", "a")
	w.want("200", "PutRolePolicy", "RoleName", "a", "PolicyName", "p", "PolicyDocument", sendAny)
	w.want("<PolicyDocument>%7B%22Version", "GetRolePolicy", "RoleName", "a", "PolicyName", "p")
	w.want("<PolicyNames><member>p</member></PolicyNames>", "ListRolePolicies", "RoleName", "a")
	w.want("<Code>DeleteConflict</Code>", "DeleteRole", "RoleName", "a")
	w.want("200", "CreateInstanceProfile", "InstanceProfileName", "a")
	w.want("200", "AddRoleToInstanceProfile", "InstanceProfileName", "a", "RoleName", "a")
	w.want("LimitExceeded", "AddRoleToInstanceProfile", "InstanceProfileName", "a", "RoleName", "a")
	w.want("<Roles><member><Path>/</Path><RoleName>a<", "GetInstanceProfile", "InstanceProfileName", "a")
	w.want("<Code>DeleteConflict</Code>", "DeleteInstanceProfile", "InstanceProfileName", "a")
	w.want("200", "DeleteRolePolicy", "RoleName", "a", "PolicyName", "p")
	w.want("404", "DeleteRolePolicy", "RoleName", "a", "PolicyName", "p")
	w.want("DeleteConflict", "DeleteRole", "RoleName", "a") // it is still in the profile
	w.want("200", "RemoveRoleFromInstanceProfile", "InstanceProfileName", "a", "RoleName", "a")
	w.want("200", "DeleteInstanceProfile", "InstanceProfileName", "a")
	w.want("200", "DeleteRole", "RoleName", "a")
	w.want("<Code>NoSuchEntity</Code>", "GetRole", "RoleName", "a")
	w.want("<Code>NoSuchEntity</Code>", "GetInstanceProfile", "InstanceProfileName", "a")
}

func TestAttachedPoliciesAndBoundaries(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 0)
	const own = "arn:aws:iam::" + account + ":policy/own"
	w.want("NoSuchEntity", "CreateRole", "RoleName", "a", "AssumeRolePolicyDocument", ec2Trust,
		"PermissionsBoundary", own)
	w.want(own, "CreatePolicy", "PolicyName", "own", "PolicyDocument", sendAny)
	w.makeRole("a", "PermissionsBoundary", own)
	w.want("<PermissionsBoundaryArn>"+own, "GetRole", "RoleName", "a")
	w.want("200", "AttachRolePolicy", "RoleName", "a", "PolicyArn", own)
	w.want("<PolicyArn>"+own, "ListAttachedRolePolicies", "RoleName", "a")
	identity, boundary, ok := w.s.Role(account, "a")
	if !ok || len(identity) != 1 || boundary == nil {
		t.Errorf("got %d policies, boundary %v, %t", len(identity), boundary, ok)
	}
	w.want("DeleteConflict", "DeleteRole", "RoleName", "a")
	w.want("200", "DetachRolePolicy", "RoleName", "a", "PolicyArn", own)
	w.want("NoSuchEntity", "DetachRolePolicy", "RoleName", "a", "PolicyArn", own)
	w.want("200", "DeleteRolePermissionsBoundary", "RoleName", "a")
	w.want("200", "DeleteRole", "RoleName", "a")
}

// TestLimits: sizes count without white space, and those of a role's own IAM policies together.
func TestLimits(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 0)
	sized := func(n int) string {
		const frame = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"a:B",` +
			`"Resource":"arn:a:b:c:d:"}]}`
		return strings.Replace(frame, "c:d:", "c:d:"+strings.Repeat("x", n-len(frame)), 1) + "\n \t"
	}
	w.makeRole("a")
	w.want("200", "PutRolePolicy", "RoleName", "a", "PolicyName", "p", "PolicyDocument", sized(10_240))
	w.want("LimitExceeded", "PutRolePolicy", "RoleName", "a", "PolicyName", "p", "PolicyDocument", sized(10_241))
	w.want("200", "PutRolePolicy", "RoleName", "a", "PolicyName", "p", "PolicyDocument", sized(10_000))
	w.want("LimitExceeded", "PutRolePolicy", "RoleName", "a", "PolicyName", "q", "PolicyDocument", sized(241))
	w.want("200", "PutRolePolicy", "RoleName", "a", "PolicyName", "q", "PolicyDocument", sized(240))
	w.want("200", "CreatePolicy", "PolicyName", "p", "PolicyDocument", sized(6144))
	w.want("LimitExceeded", "CreatePolicy", "PolicyName", "q", "PolicyDocument", sized(6145))
	w.want("MalformedPolicyDocument", "PutRolePolicy", "RoleName", "a", "PolicyName", "r", "PolicyDocument", "{}")
	w.want("ValidationError", "CreateRole", "RoleName", strings.Repeat("x", 65), "AssumeRolePolicyDocument", ec2Trust)
	w.want("ValidationError", "CreateRole", "RoleName", "a/b", "AssumeRolePolicyDocument", ec2Trust)
	w.want("ValidationError", "CreateInstanceProfile", "InstanceProfileName", strings.Repeat("x", 129))
	w.want("InvalidInput", "TagRole", "RoleName", "a", "Tags.member.1.Key", "T", "Tags.member.1.Value", "1",
		"Tags.member.2.Key", "t", "Tags.member.2.Value", "2")
	var many []string
	for i := range 51 {
		many = append(many, fmt.Sprintf("Tags.member.%d.Key", i+1), fmt.Sprint("k", i))
	}
	w.want("LimitExceeded", "TagRole", append(many, "RoleName", "a")...)
}

// TestChangesTakeTime: until then a new role is not there, and a changed one does what it did before.
func TestChangesTakeTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lag)
	w.makeRole("a")
	w.want("NoSuchEntity", "PutRolePolicy", "RoleName", "a", "PolicyName", "p", "PolicyDocument", sendAny)
	w.want("EntityAlreadyExists", "CreateRole", "RoleName", "a", "AssumeRolePolicyDocument", ec2Trust)
	if _, ok := w.s.Session(account, "a", "i-1"); ok {
		t.Error("a new role: got a session at once")
	}
	w.settle()
	p, ok := w.s.Session(account, "a", "i-1")
	if !ok || !strings.HasPrefix(p.UserID, "AROA") || !strings.HasSuffix(p.UserID, ":i-1") {
		t.Fatalf("got %+v, %t, want a session", p, ok)
	}
	a := authz.New(w.s, nil)
	send := call.Call{Action: "sqs:SendMessage", Resources: []string{jobs}}
	allowed := func(want bool, when string) {
		t.Helper()
		if err := a.Authorize(p, send); (err == nil) != want {
			t.Errorf("%s: got %v, want it allowed: %t", when, err, want)
		}
	}
	w.want("200", "PutRolePolicy", "RoleName", "a", "PolicyName", "p", "PolicyDocument", sendAny)
	allowed(false, "just after the policy was put")
	w.settle()
	allowed(true, "later")
	w.want("200", "DeleteRolePolicy", "RoleName", "a", "PolicyName", "p")
	allowed(true, "just after the policy was deleted")
	w.settle()
	allowed(false, "later")
	w.want("200", "CreateInstanceProfile", "InstanceProfileName", "a")
	w.settle()
	w.want("200", "AddRoleToInstanceProfile", "InstanceProfileName", "a", "RoleName", "a")
	if role, ok := w.s.Profiles(account)("a"); ok {
		t.Errorf("got role %s in the profile at once", role)
	}
	w.settle()
	if role, ok := w.s.Profiles(account)("a"); !ok || role != "a" {
		t.Errorf("got role %q, %t in the profile, want a", role, ok)
	}
}

func TestOnlyTrustedServicesGetSessions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 0)
	w.want("200", "CreateRole", "RoleName", "f", "AssumeRolePolicyDocument",
		strings.Replace(ec2Trust, "ec2.", "lambda.", 1))
	if _, ok := w.s.Session(account, "f", "i-1"); ok {
		t.Error("got a session on an instance for a role that trusts Lambda only")
	}
}

func TestServiceLinkedRole(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 0)
	const service = "spot.amazonaws.com"
	w.want("role/aws-service-role/spot.amazonaws.com/AWSServiceRoleForEC2Spot", "CreateServiceLinkedRole",
		"AWSServiceName", service)
	w.want("has been taken", "CreateServiceLinkedRole", "AWSServiceName", service)
	w.want("200", "GetRole", "RoleName", "AWSServiceRoleForEC2Spot")
}

func TestPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 0)
	for _, name := range []string{"c", "a", "b"} {
		w.makeRole(name)
	}
	first := w.call("ListRoles", "MaxItems", "2")
	for _, want := range []string{">a<", ">b<", "<IsTruncated>true</IsTruncated>", "<Marker>2</Marker>"} {
		if !strings.Contains(first, want) {
			t.Errorf("got %s, want %s in it", first, want)
		}
	}
	w.want("<RoleName>c</RoleName>", "ListRoles", "MaxItems", "2", "Marker", "2")
	w.want("<IsTruncated>false</IsTruncated>", "ListRoles", "MaxItems", "2", "Marker", "2")
}

// gate asks an authorizer.
type gate struct{ call.Authorizer }

func (g gate) Pass(caller *call.Caller, c call.Call) error { return g.Authorize(caller.Principal, c) }
func (gate) Note(*call.Caller, string)                     {}

// TestPermissions: setup may make and change roles with the deployment's tags only.
func TestPermissions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 0)
	w.makeRole("ours-b", "Tags.member.1.Key", "team", "Tags.member.1.Value", "others")
	const user = "arn:aws:iam::" + account + ":user/setup"
	text := `{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":["iam:CreateRole","iam:TagRole","iam:CreateInstanceProfile"],
		 "Resource":["arn:aws:iam::*:role/ours-*","arn:aws:iam::*:instance-profile/ours-*"],
		 "Condition":{"StringEquals":{"aws:RequestTag/team":"us"},
		  "ForAllValues:StringEquals":{"aws:TagKeys":["team"]}}},
		{"Effect":"Allow","Action":["iam:PutRolePolicy"],"Resource":"arn:aws:iam::*:role/ours-*",
		 "Condition":{"StringEquals":{"aws:ResourceTag/team":"us"}}},
		{"Effect":"Allow","Action":"iam:AddRoleToInstanceProfile","Resource":"*"}]}`
	doc, err := iampolicy.Parse("setup", iampolicy.Identity, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	a := authz.New(w.s, nil)
	if err := a.Grant(user, doc); err != nil {
		t.Fatal(err)
	}
	w.who, w.gate = call.Principal{Account: account, ARN: user}, gate{a}
	put := func(role string) []string {
		return []string{"RoleName", role, "PolicyName", "p", "PolicyDocument", sendAny}
	}
	w.want("AccessDenied", "CreateRole", "RoleName", "ours-a", "AssumeRolePolicyDocument", ec2Trust)
	w.makeRole("ours-a", "Tags.member.1.Key", "team", "Tags.member.1.Value", "us")
	w.want("200", "PutRolePolicy", put("ours-a")...)
	w.want("AccessDenied", "PutRolePolicy", put("ours-b")...)
	w.want("iam:TagInstanceProfile", "CreateInstanceProfile", "InstanceProfileName", "ours-a",
		"Tags.member.1.Key", "team", "Tags.member.1.Value", "us")
	w.want("iam:PassRole", "AddRoleToInstanceProfile", "InstanceProfileName", "ours-a", "RoleName", "ours-a")
	if got := a.Refused(); len(got) != 4 || a.Err() != nil {
		t.Errorf("got refusals %v and error %v, want 4 refusals", got, a.Err())
	}
}
