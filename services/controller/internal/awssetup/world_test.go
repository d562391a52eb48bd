package awssetup_test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"cloudmaster/internal/awsconf"
	"cloudmaster/services/controller/internal/app"
	"cloudmaster/services/controller/internal/awssetup"
	"cloudmaster/services/controller/internal/config"
)

// onAWS is a configuration like the sample, with more keys of pool fib.
func onAWS(t *testing.T, endpoint, deployment, fib string) *config.Config {
	t.Helper()
	text := fmt.Sprintf(`deployment: %s
backend: aws://eu-west-1?endpoint=%s
clouds: {aws: {type: ec2}}
pools:
  primes: {policy: job, image: p, cloud: aws, visibility_timeout: 2m}
  fib: {policy: resource, image: f, cloud: aws, service_port: 20808, client_cidrs: [10.0.0.0/8, "fd00::/8"]%s}
`, deployment, endpoint, fib)
	cfg, err := config.Parse("c.yaml", []byte(text), app.Kinds())
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// world is an account of its own on LocalStack.
type world struct {
	t        *testing.T
	endpoint string
	account  string
	aws      awsconf.Config
	ec2      *ec2.Client
	iam      *iam.Client
	sqs      *sqs.Client
	s3       *s3.Client
	rec      recorder
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, endpoint: os.Getenv("LOCALSTACK_ENDPOINT")}
	if w.endpoint == "" {
		t.Skip("LOCALSTACK_ENDPOINT names no LocalStack to test against")
	}
	digits := []byte("500000000000")
	for i, b := range []byte(rand.Text()[:11]) {
		digits[i+1] = '0' + b%10
	}
	w.account = string(digits)
	t.Setenv("AWS_ACCESS_KEY_ID", w.account)
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	var err error
	w.aws, err = awsconf.Load(t.Context(), awsconf.Options{Region: region, Endpoint: w.endpoint})
	try(t, err)
	w.ec2, w.iam, w.sqs = ec2.NewFromConfig(w.aws), iam.NewFromConfig(w.aws), sqs.NewFromConfig(w.aws)
	w.s3 = s3.NewFromConfig(w.aws, func(o *s3.Options) { o.UsePathStyle = true })
	return w
}

// config is the sample's kind of configuration in this world.
func (w *world) config(deployment, fib string) *config.Config {
	return onAWS(w.t, w.endpoint, deployment, fib)
}

func (w *world) setup(cfg *config.Config, dry bool) (string, error) {
	var out bytes.Buffer
	err := awssetup.Setup(w.t.Context(), cfg, awssetup.Options{Out: &out, DryRun: dry, Count: w.rec.count})
	return out.String(), err
}

func (w *world) mustSetUp(cfg *config.Config) string {
	w.t.Helper()
	out, err := w.setup(cfg, false)
	try(w.t, err)
	return out
}

func (w *world) teardown(cfg *config.Config, dry bool) (string, error) {
	var out bytes.Buffer
	err := awssetup.Teardown(w.t.Context(), cfg, awssetup.Options{Out: &out, DryRun: dry, Count: w.rec.count})
	return out.String(), err
}

func (w *world) mustTearDown(cfg *config.Config) string {
	w.t.Helper()
	out, err := w.teardown(cfg, false)
	try(w.t, err)
	return out
}

// wants checks that the text has all of the lines, in their order.
func wants(t *testing.T, text string, lines ...string) {
	t.Helper()
	rest := text
	for _, l := range lines {
		_, after, found := strings.Cut("\n"+rest, "\n"+l+"\n")
		if !found {
			t.Errorf("got:\n%s\nwant the line %q in it, here in the order", text, l)
			return
		}
		rest = after
	}
}

const (
	nothingToDo     = "Nothing is to be done: all of it is there.\n"
	nothingToRemove = "There is nothing to remove.\n"
)

// all are the things of a deployment, in setup's order.
func (w *world) all(deployment string) []string {
	var out []string
	for _, q := range []string{"fib-work", "fib-status", "primes-work", "primes-status"} {
		out = append(out, "queue "+q+"-"+deployment+"-dead", "queue "+q+"-"+deployment)
	}
	for _, use := range []string{"hints", "events"} {
		name := "queue cloudmaster-" + deployment + "-" + use
		out = append(out, name+"-dead", name)
	}
	out = append(out, "queue policy cloudmaster-"+deployment+"-events")
	for _, rule := range []string{"interruptions", "changes", "health"} {
		out = append(out, "event rule cloudmaster-"+deployment+"-events-"+rule)
	}
	out = append(out, "bucket cloudmaster-"+deployment+"-"+w.account+"-eu-west-1")
	for _, p := range []string{"fib", "primes"} {
		out = append(out, "security group cloudmaster-"+deployment+"-"+p)
		for _, kind := range []string{"role", "instance profile"} {
			out = append(out, kind+" cloudmaster-"+deployment+"-eu-west-1-"+p)
		}
	}
	return out
}

func each(verb string, things []string) string {
	var out strings.Builder
	for _, t := range things {
		fmt.Fprintln(&out, verb, t)
	}
	return out.String()
}

// denying passes all requests on but those with an action of EC2 or IAM, which it denies while on.
func (w *world) denying(action string, on *atomic.Bool) (endpoint string) {
	w.t.Helper()
	target, err := url.Parse(w.endpoint)
	try(w.t, err)
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }}
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		form, _ := url.ParseQuery(string(body))
		if err != nil || on.Load() && form.Get("Action") == action {
			rw.WriteHeader(http.StatusForbidden)
			fmt.Fprint(rw, denials[form.Get("Version")])
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		proxy.ServeHTTP(rw, r)
	}))
	w.t.Cleanup(srv.Close)
	return srv.URL
}

// denials are how services of these versions deny.
var denials = map[string]string{
	// IAM.
	"2010-05-08": `<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>`,
	// EC2.
	"2016-11-15": `<Response><Errors>` +
		`<Error><Code>UnauthorizedOperation</Code><Message>no</Message></Error></Errors></Response>`,
}
