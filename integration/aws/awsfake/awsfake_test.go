package awsfake_test

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"go.uber.org/goleak"

	"cloudmaster/integration/aws/awsfake"
	"cloudmaster/integration/aws/call"
	"cloudmaster/integration/aws/ec2"
	"cloudmaster/internal/awsconf"
	"cloudmaster/internal/cloud"
	"cloudmaster/internal/cloud/cloudtest"
	"cloudmaster/internal/cloud/ec2cloud"
)

const (
	region = "eu-west-1"
	image  = "ami-00000000000000001"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start serves a fake with one image.
func start(t *testing.T, opts awsfake.Options) *awsfake.Server {
	t.Helper()
	f, err := awsfake.Start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	f.EC2(region).AddImage(ec2.Image{ID: image, Name: "worker"})
	return f
}

// config reaches the fake as the programs do, with an access key.
func config(t *testing.T, f *awsfake.Server, in, key string) aws.Config {
	t.Helper()
	t.Setenv("AWS_ACCESS_KEY_ID", key)
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	cfg, err := awsconf.Load(t.Context(), awsconf.Options{Region: in, Endpoint: f.URL(), Client: "awsfake-test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if c, ok := cfg.HTTPClient.(interface{ CloseIdleConnections() }); ok {
			c.CloseIdleConnections()
		}
	})
	return cfg
}

const lag = 20 * time.Millisecond

// slow is a region where nothing is at once.
var slow = ec2.Times{Boot: lag, End: lag, ListLag: lag / 2}

// limit leaves room for so many instances of the default type in a region, all of them in one zone.
func limit(r *ec2.Region, capacity int) {
	r.SetTimes(slow)
	r.AddImage(ec2.Image{ID: image, Name: "worker"})
	for i, zone := range r.Zones() {
		r.SetCapacity(ec2cloud.DefaultInstanceType, zone, capacity*max(0, 1-i))
	}
}

// TestCloudConformance: EC2's adapter keeps the contract of clouds on the fake, while lists lag and boots take time.
func TestCloudConformance(t *testing.T) {
	f := start(t, awsfake.Options{})
	cfg := config(t, f, region, "admin")
	f.EC2(region).SetTimes(slow)
	cloudtest.Run(t, cloudtest.Harness{
		Open: func(t *testing.T, deployment string, capacity int) cloud.Cloud {
			at := cfg.Copy()
			if capacity > 0 { // in a region of its own, because capacity is not by deployment
				at.Region = deployment
				limit(f.EC2(deployment), capacity)
			}
			c, err := ec2cloud.Open(t.Context(), at, deployment, ec2cloud.Options{})
			if err != nil {
				t.Fatal(err)
			}
			return c
		},
		Image: image, MissingImage: "no-such-image", UnknownID: "i-0ffffffffffffffff",
		UserData: func(t *testing.T, _ cloud.Cloud, inst cloud.Instance) ([]byte, bool) {
			for _, i := range f.EC2(region).Instances() {
				if i.ID == string(inst.ID) {
					doc, err := base64.StdEncoding.DecodeString(i.UserData)
					if err != nil {
						t.Error(err)
					}
					return doc, true
				}
			}
			return nil, false
		},
		Capacity: true, Tokens: true, Conflicts: true,
	})
}

func TestAccount(t *testing.T) {
	f := start(t, awsfake.Options{Account: "210987654321"})
	f.AddKey("worker", call.Session("210987654321", "worker", "AROAEXAMPLE", "i-1"))
	for _, key := range []string{"admin", "worker"} {
		got, err := awsconf.Account(t.Context(), config(t, f, region, key), "")
		if err != nil || got != "210987654321" {
			t.Errorf("%s: got account %q and error %v", key, got, err)
		}
	}
	const action = "sts:GetCallerIdentity"
	got := f.Counts()
	worker := awsfake.Count{Principal: "arn:aws:sts::210987654321:assumed-role/worker/i-1", Action: action}
	root := awsfake.Count{Principal: "arn:aws:iam::210987654321:root", Action: action}
	if len(got) != 2 || got[worker] != 1 || got[root] != 1 {
		t.Errorf("got %v, want one call of each", got)
	}
}

func TestMalformedAuthorization(t *testing.T) {
	t.Parallel()
	f := start(t, awsfake.Options{})
	for name, c := range map[string]struct{ header, code string }{
		"none":         {"", "MissingAuthenticationToken"},
		"another kind": {"Bearer abc", "IncompleteSignature"},
		"short scope": {
			"AWS4-HMAC-SHA256 Credential=K/20260101/ec2/aws4_request, SignedHeaders=host, Signature=0",
			"IncompleteSignature",
		},
		"no signature": {
			"AWS4-HMAC-SHA256 Credential=K/20260101/r/ec2/aws4_request, SignedHeaders=host", "IncompleteSignature",
		},
		"no service": {
			"AWS4-HMAC-SHA256 Credential=K/20260101/r/x/aws4_request, SignedHeaders=host, Signature=0",
			"NotImplemented",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.URL(), http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			if c.header != "" {
				req.Header.Set("Authorization", c.header)
			}
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close() //nolint:errcheck // was read
			var body strings.Builder
			if err := resp.Write(&body); err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode < 400 || !strings.Contains(body.String(), "<Code>"+c.code+"</Code>") {
				t.Errorf("got %s, want %s", body.String(), c.code)
			}
		})
	}
}
