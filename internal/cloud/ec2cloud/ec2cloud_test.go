package ec2cloud_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math"
	mathrand "math/rand/v2"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/cloud/cloudtest"
	"cloudmaster/internal/cloud/ec2cloud"
	"cloudmaster/internal/pool"
)

const (
	image   = "ami-0000000000000001"
	unknown = pool.InstanceID("i-0ffffffffffffffff")
)

// whole gives the transport a body of its own. The SDK closes its body as soon as an answer begins; on a busy
// machine the transport then still looks whether it is at its end, takes that for a failed write, and cuts
// the connection in a long answer (aws-sdk-go-v2 issue 2737). The SDK asks again, and LocalStack,
// which has no client tokens, launches twice.
type whole struct{ http.RoundTripper }

func (w whole) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body == nil {
		return w.RoundTripper.RoundTrip(req)
	}
	body, err := io.ReadAll(req.Body)
	if err = errors.Join(err, req.Body.Close()); err != nil {
		return nil, err
	}
	own := req.Clone(req.Context())
	own.Body = io.NopCloser(bytes.NewReader(body))
	return w.RoundTripper.RoundTrip(own)
}

// config reaches an endpoint as some account: LocalStack takes a key of 12 digits for its number.
func config(t *testing.T, endpoint, account string) aws.Config {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return aws.Config{
		Region: "eu-west-1", BaseEndpoint: aws.String(endpoint), HTTPClient: &http.Client{Transport: whole{transport}},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: account, SecretAccessKey: "test"}, nil
		}),
		Retryer: func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) {
				o.MaxAttempts, o.MaxBackoff = 3, time.Millisecond
			})
		},
	}
}

func open(t *testing.T, endpoint, deployment string, opts ec2cloud.Options) *ec2cloud.Cloud {
	t.Helper()
	return openAs(t, config(t, endpoint, "test"), deployment, opts)
}

func openAs(t *testing.T, cfg aws.Config, deployment string, opts ec2cloud.Options) *ec2cloud.Cloud {
	t.Helper()
	c, err := ec2cloud.Open(t.Context(), cfg, deployment, opts)
	if err != nil {
		t.Fatalf("Open: got error %v, want none", err)
	}
	c.SetRate(math.Inf(1))
	return c
}

func TestConformance(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.page, f.lag = 2, 1
	f.images = []fakeImage{{id: image}}
	cloudtest.Run(t, cloudtest.Harness{
		Open: func(t *testing.T, deployment string, capacity int) cloud.Cloud {
			if capacity > 0 {
				f.mu.Lock()
				f.capacity[deployment] = capacity
				f.mu.Unlock()
			}
			return open(t, f.url, deployment, ec2cloud.Options{})
		},
		Image: image, MissingImage: "no-such-image", UnknownID: unknown,
		UserData: func(t *testing.T, _ cloud.Cloud, inst cloud.Instance) ([]byte, bool) {
			f.mu.Lock()
			found, _ := f.find([]string{string(inst.ID)})
			f.mu.Unlock()
			if len(found) != 1 {
				return nil, false
			}
			return decode(t, found[0].userData), true
		},
		Capacity: true, Tokens: true, Conflicts: true, Stops: true,
	})
}

func decode(t *testing.T, text string) []byte {
	t.Helper()
	doc, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Errorf("user data %q: %v", text, err)
	}
	return doc
}

// TestLocalStack has no tokens, conflicts and capacity: its EC2 keeps records of instances and
// no more, and takes any image's id.
func TestLocalStack(t *testing.T) {
	t.Parallel()
	endpoint := os.Getenv("LOCALSTACK_ENDPOINT")
	if endpoint == "" {
		t.Skip("set LOCALSTACK_ENDPOINT to test against LocalStack; make integration does")
	}
	// An account of its own, that others on a shared LocalStack do not fill.
	cfg := config(t, endpoint, fmt.Sprintf("%012d", mathrand.Int64N(1e12)))
	client := ec2.NewFromConfig(cfg)
	registered := register(t, client)
	cloudtest.Run(t, cloudtest.Harness{
		Open: func(t *testing.T, deployment string, _ int) cloud.Cloud {
			c := openAs(t, cfg, deployment, ec2cloud.Options{})
			t.Cleanup(func() { endAll(t, c) })
			return c
		},
		Image: registered, MissingImage: "no-such-image-" + strings.ToLower(rand.Text()[:8]), UnknownID: unknown,
		UserData: func(t *testing.T, _ cloud.Cloud, inst cloud.Instance) ([]byte, bool) {
			out, err := client.DescribeInstanceAttribute(t.Context(), &ec2.DescribeInstanceAttributeInput{
				InstanceId: aws.String(string(inst.ID)), Attribute: types.InstanceAttributeNameUserData,
			})
			if err != nil || out.UserData == nil {
				return nil, false
			}
			return decode(t, aws.ToString(out.UserData.Value)), true
		},
		Eventually: func(t *testing.T, what string, cond func() bool) {
			t.Helper()
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			for range 600 {
				if cond() {
					return
				}
				<-tick.C
			}
			t.Fatalf("not within 60s: %s", what)
		},
	})
}

func register(t *testing.T, client *ec2.Client) string {
	t.Helper()
	name := "ec2cloud-test-" + strings.ToLower(rand.Text()[:10])
	out, err := client.RegisterImage(t.Context(), &ec2.RegisterImageInput{Name: aws.String(name)})
	if err != nil {
		t.Fatalf("register an image: %v", err)
	}
	t.Cleanup(func() {
		if _, err := client.DeregisterImage(context.WithoutCancel(t.Context()),
			&ec2.DeregisterImageInput{ImageId: out.ImageId}); err != nil {
			t.Errorf("deregister image %s: %v", *out.ImageId, err)
		}
	})
	return *out.ImageId
}

func endAll(t *testing.T, c cloud.Cloud) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	all, err := c.List(ctx)
	var ids []pool.InstanceID
	for _, inst := range all {
		ids = append(ids, inst.ID)
	}
	if err = cmp.Or(err, c.Terminate(ctx, ids...)); err != nil {
		t.Errorf("clean up: %v", err)
	}
}
