package call_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"cloudmaster/integration/aws/call"
)

// gate keeps the last call that it was asked.
type gate struct{ last call.Call }

func (g *gate) Pass(_ *call.Caller, c call.Call) error {
	g.last = c
	return errors.New("because no identity-based policy allows the sqs:SendMessage action")
}

func (*gate) Note(*call.Caller, string) {}

func TestAskCompletesContext(t *testing.T) {
	t.Parallel()
	g := &gate{}
	p := call.Session("123456789012", "worker", "AROAEXAMPLE", "i-1")
	p.Context = call.Context{"ec2:SourceInstanceARN": {"arn:aws:ec2:eu-west-1:123456789012:instance/i-1"}}
	caller := call.Caller{Principal: p, Region: "eu-west-1", Now: time.Unix(60, 0), Gate: g}
	given := call.Context{}
	given.SetRequestTags(map[string]string{"b": "2", "a": "1"})
	if err := caller.Ask(call.Call{Action: "sqs:SendMessage", Resources: []string{"*"}, Context: given}); err == nil {
		t.Fatal("got no error, want the gate's")
	}
	for key, want := range map[string]string{
		"aws:PrincipalArn": "arn:aws:iam::123456789012:role/worker", "aws:userid": "AROAEXAMPLE:i-1",
		"aws:PrincipalAccount": "123456789012", "aws:RequestedRegion": "eu-west-1", "aws:EpochTime": "60",
		"aws:CurrentTime": "1970-01-01T00:01:00Z", "aws:RequestTag/a": "1", "aws:TagKeys": "a b",
		"ec2:SourceInstanceARN": "arn:aws:ec2:eu-west-1:123456789012:instance/i-1",
	} {
		if got := strings.Join(g.last.Context[key], " "); got != want {
			t.Errorf("%s: got %q, want %q", key, got, want)
		}
	}
	if _, changed := given["aws:userid"]; changed {
		t.Error("the caller's context was changed")
	}
}

func TestDenied(t *testing.T) {
	t.Parallel()
	caller := call.Caller{Principal: call.Root("123456789012"), RequestID: "r-1"}
	put := call.Call{Action: "s3:PutObject", Resources: []string{"arn:aws:s3:::b/<k>"}}
	denied := caller.Denied("AccessDenied", put, errors.New("because of X"))
	w := httptest.NewRecorder()
	caller.WriteS3(w, httptest.NewRequest(http.MethodPut, "/b/k", nil), denied)
	const want = "User: arn:aws:iam::123456789012:root is not authorized to perform: s3:PutObject on resource: " +
		"arn:aws:s3:::b/&lt;k&gt; because of X"
	if w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), want) {
		t.Errorf("got %d %s, want 403 with %q", w.Code, w.Body, want)
	}
}
