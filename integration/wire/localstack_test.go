package wire_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"strings"
	"testing"

	"cloudmaster/integration/wire"
	"cloudmaster/internal/awsconf"
	"cloudmaster/internal/cloud"
	"cloudmaster/internal/cloud/ec2cloud"
	"cloudmaster/internal/pool"
)

// onLocalStack returns a wire to LocalStack, and through it the EC2 of a new deployment.
func onLocalStack(t *testing.T) (*wire.Wire, *ec2cloud.Cloud) {
	t.Helper()
	endpoint := os.Getenv("LOCALSTACK_ENDPOINT")
	if endpoint == "" {
		t.Skip("set LOCALSTACK_ENDPOINT to a running LocalStack; make integration does")
	}
	// LocalStack takes an access key of 12 digits for an account. This account has no other user.
	t.Setenv("AWS_ACCESS_KEY_ID", fmt.Sprintf("%012d", mathrand.Int64N(1e12)))
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	w, err := wire.Start(t.Context(), endpoint, wire.Options{})
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := awsconf.Load(t.Context(), awsconf.Options{Region: "eu-west-1", Endpoint: w.URL(), Client: "wire-test"})
	if err != nil {
		t.Fatal(err)
	}
	// One try meets the fault, and one may meet an error of the SDK itself (aws-sdk-go-v2 issue 2737).
	// More tries would only take longer.
	cfg.RetryMaxAttempts = 3
	c, err := ec2cloud.Open(t.Context(), cfg, "wire-"+strings.ToLower(rand.Text()[:10]), ec2cloud.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		all, err := c.List(ctx)
		if err := errors.Join(err, c.Terminate(ctx, ids(all)...), w.Close()); err != nil {
			t.Errorf("clean up: %v", err)
		}
		if closer, ok := cfg.HTTPClient.(interface{ CloseIdleConnections() }); ok {
			closer.CloseIdleConnections()
		}
	})
	return w, c
}

func ids(list []cloud.Instance) (out []pool.InstanceID) {
	for i := range list {
		out = append(out, list[i].ID)
	}
	return out
}

func spec() cloud.Spec {
	return cloud.Spec{
		Token: rand.Text(), Count: 3, Image: "ami-0123456789abcdef0",
		Tags:     map[string]string{cloud.TagPool: "main", cloud.TagLaunch: "l"},
		UserData: func(pool.InstanceID) ([]byte, error) { return []byte("pool: main\n"), nil },
	}
}

// want checks that a launch returned exactly the deployment's instances, and that these are three.
func want(t *testing.T, c *ec2cloud.Cloud, out []cloud.Instance, err error) {
	t.Helper()
	all, listErr := c.List(t.Context())
	if err != nil || listErr != nil || len(out) != 3 || len(all) != 3 {
		t.Fatalf("got %v and error %v, listed %v and error %v; want three instances, the same",
			ids(out), err, ids(all), listErr)
	}
	have := map[pool.InstanceID]bool{}
	for i := range all {
		have[all[i].ID] = all[i].Tags[cloud.TagPool] == "main" && all[i].Tags[cloud.TagLaunch] == "l"
	}
	for _, id := range ids(out) {
		if !have[id] {
			t.Errorf("launched %s, which is not listed, or without its tags: %v", id, all)
		}
	}
}

var launches = wire.Match{Service: "ec2", Action: "RunInstances"}

// TestLostAnswerOfLaunch: instances were started, but the answer is lost. Whoever asks again gets
// these instances.
func TestLostAnswerOfLaunch(t *testing.T) {
	w, c := onLocalStack(t)
	s := spec()
	lift := w.Inject(launches, wire.LoseAnswer(), 0)
	out, err := c.Launch(t.Context(), s)
	if err == nil || len(out) != 0 || errors.Is(err, cloud.ErrCapacity) {
		t.Fatalf("got %v and error %v, want a fault", ids(out), err)
	}
	if n := w.Counts()[wire.Call{Service: "ec2", Action: "RunInstances"}]; n < 2 {
		t.Errorf("got %d RunInstances, want tries of the SDK as well", n)
	}
	lift()
	out, err = c.Launch(t.Context(), s)
	want(t, c, out, err)
	out, err = c.Launch(t.Context(), s)
	want(t, c, out, err)
	s.Count = 2
	if out, err := c.Launch(t.Context(), s); !errors.Is(err, cloud.ErrConflict) || len(out) != 0 {
		t.Errorf("another count: got %v and error %v, want ErrConflict", ids(out), err)
	}
}

// TestLostAnswerOnce: if only one answer is lost, the SDK's own retry finds the instances.
func TestLostAnswerOnce(t *testing.T) {
	w, c := onLocalStack(t)
	w.Inject(launches, wire.LoseAnswer(), 1)
	out, err := c.Launch(t.Context(), spec())
	want(t, c, out, err)
}

func TestThrottledLaunch(t *testing.T) {
	w, c := onLocalStack(t)
	s := spec()
	lift := w.Inject(launches, wire.Throttle(), 0)
	if out, err := c.Launch(t.Context(), s); !errors.Is(err, cloud.ErrThrottled) || len(out) != 0 {
		t.Errorf("got %v and error %v, want ErrThrottled", ids(out), err)
	}
	lift()
	out, err := c.Launch(t.Context(), s)
	want(t, c, out, err)
}
