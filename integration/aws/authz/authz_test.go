package authz

import (
	"fmt"
	"strings"
	"testing"

	"cloudmaster/integration/aws/call"
	"cloudmaster/integration/aws/iampolicy"
)

const account = "123456789012"

func document(t *testing.T, elements string) *iampolicy.Document {
	t.Helper()
	text := `{"Version":"2012-10-17","Statement":[{"Sid":"S","Effect":"Allow",` + elements + `}]}`
	doc, err := iampolicy.Parse("doc.json", iampolicy.Identity, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// TestCheck wants conditions refused that would be tested with their key missing.
func TestCheck(t *testing.T) {
	t.Parallel()
	condition := func(actions, resource, key string) string {
		return `"Action":` + actions + `,"Resource":"` + resource + `","Condition":{"StringEquals":{"` + key + `":"x"}}`
	}
	const end, instances = `"ec2:TerminateInstances"`, "arn:aws:ec2:*:*:instance/*"
	for name, c := range map[string]struct{ elements, want string }{
		"unknown action":  {`"Action":"sqs:SendMassage","Resource":"*"`, "sqs:SendMassage"},
		"unknown pattern": {`"Action":"rds:*","Resource":"*"`, "rds:*"},
		"known key":       {condition(`"ec2:RunInstances"`, "arn:aws:ec2:*:*:image/*", "ec2:Owner"), ""},
		"key of another resource": {
			condition(`"ec2:RunInstances"`, "arn:aws:ec2:*:*:instance/*", "ec2:Owner"), "ec2:Owner",
		},
		"mistyped key": {condition(end, instances, "ec2:ResourcesTag/a"), "ec2:ResourcesTag/a"},
		"tag":          {condition(end, instances, "ec2:ResourceTag/a"), ""},
		"global key":   {condition(`"sqs:SendMessage"`, "arn:aws:sqs:*:*:*", "aws:PrincipalAccount"), ""},
		"one of two has": {
			condition(`["iam:GetRole","iam:ListRoles"]`, "arn:aws:iam::*:role/*", "aws:ResourceTag/a"), "iam:ListRoles",
		},
		"a pattern": {condition(`"iam:*"`, "arn:aws:iam::*:role/*", "aws:ResourceTag/a"), ""},
	} {
		err := Check(document(t, c.elements))
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

func TestAuthorize(t *testing.T) {
	t.Parallel()
	const user, queue = "arn:aws:iam::" + account + ":user/feeder", "arn:aws:sqs:eu-west-1:" + account + ":"
	a := New(nil, nil)
	if err := a.Grant(user, document(t, `"Action":"sqs:SendMessage","Resource":"`+queue+`jobs"`)); err != nil {
		t.Fatal(err)
	}
	p := call.Principal{Account: account, ARN: user}
	ask := func(p call.Principal, action string, resources ...string) error {
		return a.Authorize(p, call.Call{Action: action, Resources: resources})
	}
	if err := ask(p, "sqs:SendMessage", queue+"jobs"); err != nil {
		t.Errorf("got %v, want it allowed", err)
	}
	if err := ask(call.Root(account), "sqs:DeleteQueue", queue+"jobs"); err != nil {
		t.Errorf("root: got %v, want it allowed", err)
	}
	if len(a.Refused()) > 0 || a.Err() != nil {
		t.Fatalf("got refusals %v and error %v, want none yet", a.Refused(), a.Err())
	}
	if err := ask(p, "sqs:SendMessage", queue+"jobs", queue+"other"); err == nil {
		t.Error("one of two queues is not allowed: got no error")
	}
	got := a.Refused()
	if len(got) != 1 || got[0].Resource != queue+"other" || !strings.Contains(got[0].String(), user) {
		t.Errorf("got refusals %v, want one for %sother", got, queue)
	}
	for name, c := range map[string]struct{ action, resource string }{
		"action not in the list": {"sqs:SendMassage", queue + "jobs"},
		"type not in its line":   {"sqs:SendMessage", "arn:aws:iam::" + account + ":role/x"},
	} {
		was := fmt.Sprint(a.Err())
		if err := ask(p, c.action, c.resource); err == nil || a.Err() == nil || a.Err().Error() == was {
			t.Errorf("%s: got %v and %v, want an error in both", name, err, a.Err())
		}
	}
}
