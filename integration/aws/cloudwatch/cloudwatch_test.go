package cloudwatch_test

import (
	"errors"
	"testing"

	"cloudmaster/integration/aws/awsfake"
	"cloudmaster/integration/aws/call"
	"cloudmaster/integration/aws/cloudwatch"
	"cloudmaster/internal/awsconf"
	"cloudmaster/internal/queue"
	"cloudmaster/internal/queue/sqsages"
)

type nobody struct{}

func (nobody) Authorize(call.Principal, call.Call) error { return errors.New("because a test says so") }

// TestForTheProduct: the reader of ages understands the fake, knows no age, and hears that it may not ask.
func TestForTheProduct(t *testing.T) {
	f, err := awsfake.Start(t.Context(), awsfake.Options{
		Authorizer: nobody{}, Services: map[string]call.Service{cloudwatch.Name: cloudwatch.Service{}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}()
	f.AddKey("stranger", call.Principal{Account: f.Account(), ARN: "arn:aws:iam::" + f.Account() + ":user/stranger"})
	for key, want := range map[string]error{"admin": nil, "stranger": queue.ErrDenied} {
		t.Setenv("AWS_ACCESS_KEY_ID", key)
		t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
		cfg, err := awsconf.Load(t.Context(), awsconf.Options{Region: "eu-west-1", Endpoint: f.URL(), Client: "test"})
		if err != nil {
			t.Fatal(err)
		}
		ages, err := sqsages.New(cfg).Ages(t.Context(), "jobs", "jobs-dead")
		if !errors.Is(err, want) || len(ages) > 0 {
			t.Errorf("%s: got %v and %v, want no age and %v", key, ages, err, want)
		}
	}
	if n := len(f.Log()); n != 2 {
		t.Errorf("got %d calls in the log, want 2", n)
	}
}
