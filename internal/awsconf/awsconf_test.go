package awsconf_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"cloudmaster/internal/awsconf"
)

func TestParseAddress(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]awsconf.Address{
		"aws://eu-west-1": {Region: "eu-west-1"},
		"aws://":          {},
		"aws://us-gov-west-1?bucket=my.bucket&endpoint=http://localhost:4566": {
			Region: "us-gov-west-1", Bucket: "my.bucket", Endpoint: "http://localhost:4566",
		},
	} {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := awsconf.ParseAddress(u); err != nil || got != want {
			t.Errorf("%s: got %+v, %v, want %+v", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"nats://h":                      "is not an address as aws://eu-west-1",
		"aws://eu_west":                 "is not an AWS region",
		"aws://key:secret@eu-west-1":    "credentials come from the environment",
		"aws://eu-west-1:80":            "more than a region",
		"aws://eu-west-1/x":             "more than a region",
		"aws://eu-west-1?endpoint=x":    "as http://localhost:4566",
		"aws://eu-west-1?bucket=A":      "not a bucket name",
		"aws://eu-west-1?profile=admin": `unknown option "profile"`,
	} {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := awsconf.ParseAddress(u); err == nil || !strings.Contains(err.Error(), want) ||
			strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %v, want %q in it and no secret", text, err, want)
		}
	}
}

// bare makes an environment in which the SDK's chain finds nothing.
func bare(t *testing.T) {
	t.Helper()
	none := filepath.Join(t.TempDir(), "none")
	for key, value := range map[string]string{
		"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": none, "AWS_SHARED_CREDENTIALS_FILE": none,
		"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_PROFILE": "", "AWS_WEB_IDENTITY_TOKEN_FILE": "",
		"AWS_REGION": "", "AWS_DEFAULT_REGION": "", "AWS_ENDPOINT_URL": "",
		"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "", "AWS_CONTAINER_CREDENTIALS_FULL_URI": "",
	} {
		t.Setenv(key, value)
	}
}

func TestLoadSaysWhatIsMissing(t *testing.T) {
	bare(t)
	if _, err := awsconf.Load(t.Context(), awsconf.Options{}); !errors.Is(err, awsconf.ErrNoRegion) {
		t.Errorf("without a region: got %v, want %v", err, awsconf.ErrNoRegion)
	}
	_, err := awsconf.Load(t.Context(), awsconf.Options{Region: "eu-west-1"})
	if !errors.Is(err, awsconf.ErrNoCredentials) {
		t.Errorf("without credentials: got %v, want %v", err, awsconf.ErrNoCredentials)
	}
}

// service answers with the given statuses and error codes, then with success.
func service(t *testing.T, answers ...string) (endpoint string) {
	t.Helper()
	var mu sync.Mutex
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if len(answers) == 0 {
			fmt.Fprint(w, `<GetCallerIdentityResponse><GetCallerIdentityResult><Account>123456789012</Account>`+
				`</GetCallerIdentityResult></GetCallerIdentityResponse>`)
			return
		}
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, `<ErrorResponse><Error><Code>%s</Code><Message>no</Message></Error></ErrorResponse>`, answers[0])
		answers = answers[1:]
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

func load(t *testing.T, endpoint string, count func(service, operation string, err error)) awsconf.Config {
	t.Helper()
	bare(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	cfg, err := awsconf.Load(t.Context(), awsconf.Options{
		Region: "eu-west-1", Endpoint: endpoint, Client: "worker i-1", PolicyFile: "deploy/worker.json", Count: count,
	})
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func TestEveryTryIsCounted(t *testing.T) {
	var calls []string
	cfg := load(t, service(t, "Throttling", "Throttling"), func(service, operation string, err error) {
		calls = append(calls, fmt.Sprint(service, " ", operation, " ", err == nil))
	})
	account, err := awsconf.Account(t.Context(), cfg, "")
	if err != nil || account != "123456789012" {
		t.Fatalf("got account %q, %v, want 123456789012 after two retries", account, err)
	}
	want := []string{"sts GetCallerIdentity false", "sts GetCallerIdentity false", "sts GetCallerIdentity true"}
	if !slices.Equal(calls, want) {
		t.Errorf("got calls %q, want %q", calls, want)
	}
}

// TestKnownAccountIsNotAskedFor: some networks have no way to STS.
func TestKnownAccountIsNotAskedFor(t *testing.T) {
	calls := 0
	count := func(string, string, error) { calls++ }
	cfg := load(t, service(t), count)
	const given = "210987654321"
	if got, err := awsconf.Account(t.Context(), cfg, given); err != nil || got != given || calls != 0 {
		t.Errorf("given: got %s, %v after %d calls, want it believed", got, err, calls)
	}
	for set, want := range map[string]struct {
		account string
		calls   int
	}{"111122223333": {"111122223333", 0}, "not a number": {"123456789012", 1}} {
		t.Setenv("AWS_ACCOUNT_ID", set)
		calls = 0
		got, err := awsconf.Account(t.Context(), load(t, service(t), count), "")
		if err != nil || got != want.account || calls != want.calls {
			t.Errorf("AWS_ACCOUNT_ID=%s: got %s, %v after %d calls, want %s after %d", set, got, err, calls,
				want.account, want.calls)
		}
	}
}

func TestRetriesAreBounded(t *testing.T) {
	calls := 0
	cfg := load(t, service(t, slices.Repeat([]string{"Throttling"}, 50)...), func(string, string, error) { calls++ })
	_, err := sts.NewFromConfig(cfg).GetCallerIdentity(t.Context(), nil)
	if !awsconf.Is(err, awsconf.Throttled) || awsconf.Is(err, awsconf.Denied) || calls != 4 {
		t.Errorf("got %v after %d calls, want throttled after 4", err, calls)
	}
}

func TestDeniedNamesActionProgramAndPolicy(t *testing.T) {
	cfg := load(t, service(t, "AccessDenied"), nil)
	_, err := awsconf.Account(t.Context(), cfg, "")
	want := "sts:GetCallerIdentity is denied to worker; deploy/worker.json grants it:"
	if !awsconf.Is(err, awsconf.Denied) || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want it denied with %q", err, want)
	}
	_, err = awsconf.Account(t.Context(), load(t, service(t, "ExpiredToken"), nil), "")
	want = "its AWS credentials are wrong or have run out"
	if !awsconf.Is(err, awsconf.Denied) || !strings.Contains(err.Error(), want) ||
		strings.Contains(err.Error(), "worker.json") {
		t.Errorf("got %v, want it denied with %q and no IAM policy", err, want)
	}
}

func TestClasses(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]awsconf.Class{
		"AccessDenied": awsconf.Denied, "UnauthorizedOperation": awsconf.Denied, "ExpiredToken": awsconf.Denied,
		"Throttling": awsconf.Throttled, "RequestLimitExceeded": awsconf.Throttled,
		"SlowDown": awsconf.Throttled, "RequestThrottled": awsconf.Throttled,
		"NoSuchKey": awsconf.Other, "": awsconf.Other,
	} {
		err := fmt.Errorf("call: %w", &smithy.GenericAPIError{Code: code})
		for _, class := range []awsconf.Class{awsconf.Other, awsconf.Throttled, awsconf.Denied} {
			if got := awsconf.Is(err, class); got != (class == want) {
				t.Errorf("%q is of class %d: got %t, want %t", code, class, got, class == want)
			}
		}
	}
}

// lookout is an HTTP client that shows requests before they are sent.
type lookout func(*http.Request)

// Do sends the request.
func (l lookout) Do(req *http.Request) (*http.Response, error) {
	l(req)
	return http.DefaultClient.Do(req)
}

// TestBodiesAreRead: a body with a WriteTo method would be closed while it is writing (see plainBody).
func TestBodiesAreRead(t *testing.T) {
	cfg := load(t, service(t, "Throttling"), nil)
	tries := 0
	cfg.HTTPClient = lookout(func(req *http.Request) {
		tries++
		if _, writes := req.Body.(io.WriterTo); writes || req.ContentLength <= 0 {
			t.Errorf("got a body of type %T and length %d, want one that is only read", req.Body, req.ContentLength)
		}
	})
	if _, err := awsconf.Account(t.Context(), cfg, ""); err != nil || tries != 2 {
		t.Errorf("got %v after %d tries, want success at the second", err, tries)
	}
}
