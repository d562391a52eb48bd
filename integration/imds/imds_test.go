package imds_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"cloudmaster/integration/imds"
	"cloudmaster/internal/awsconf"
)

func sample() imds.Instance {
	return imds.Instance{
		ID: "i-0abc", Image: "ami-0abc", Type: "t3.micro", Region: "eu-west-1", PublicHost: "h.example.com",
		LocalHost: "ip-10-0-0-7", LocalIPv4: "10.0.0.7", MAC: "02:00:00:00:00:01", Subnet: "10.0.0.0/24",
		UserData: "pool: fib\n", Role: "worker",
		Credentials: imds.Credentials{AccessKeyID: "a", SecretAccessKey: "b", Token: "c"},
	}
}

// TestTree reads items, directories, which list the directories in them with a / at the end, and
// paths that do not exist.
func TestTree(t *testing.T) {
	t.Parallel()
	s := listen(t, sample())
	token := get(t, s, http.MethodPut, "/latest/api/token", header{"X-aws-ec2-metadata-token-ttl-seconds", "60"}).body
	for path, want := range map[string]answer{
		"/":                                 {200, "2009-04-04\n2018-09-24\n2021-03-23\n2021-07-15\nlatest"},
		"/latest":                           {200, "dynamic/\nmeta-data/\nuser-data"},
		"/latest/":                          {200, "dynamic/\nmeta-data/\nuser-data"},
		"/2021-03-23/meta-data/instance-id": {200, "i-0abc"},
		"/latest/meta-data/placement/":      {200, "availability-zone\nregion"},
		"/latest/meta-data/placement/availability-zone":        {200, "eu-west-1a"},
		"/latest/meta-data/network/interfaces/macs/":           {200, "02:00:00:00:00:01/"},
		"/latest/meta-data/iam/security-credentials/":          {200, "worker"},
		"/latest/user-data":                                    {200, "pool: fib\n"},
		"/latest/meta-data/spot/instance-action":               {404, "Not Found\n"},
		"/latest/meta-data/instance":                           {404, "Not Found\n"},
		"/2001-01-01/meta-data/instance-id":                    {404, "Not Found\n"},
		"/latest/meta-data/iam/security-credentials/other-one": {404, "Not Found\n"},
	} {
		if got := get(t, s, http.MethodGet, path, header{"X-aws-ec2-metadata-token", token}); got != want {
			t.Errorf("%s: got %+v, want %+v", path, got, want)
		}
	}
	if n := s.Asked("meta-data/instance-id"); n != 1 {
		t.Errorf("asked for the id: got %d times, want 1", n)
	}
}

// TestVersion2Only: nobody learns anything without a valid token, and a proxy gets no token.
func TestVersion2Only(t *testing.T) {
	t.Parallel()
	s := listen(t, sample())
	const ttl = "X-aws-ec2-metadata-token-ttl-seconds"
	for name, c := range map[string]struct {
		method, path string
		headers      []header
		want         int
	}{
		"no token":        {http.MethodGet, "/latest/meta-data/", nil, 401},
		"a wrong token":   {http.MethodGet, "/latest/meta-data/", []header{{"X-aws-ec2-metadata-token", "x"}}, 401},
		"no lifetime":     {http.MethodPut, "/latest/api/token", nil, 400},
		"too long a life": {http.MethodPut, "/latest/api/token", []header{{ttl, "21601"}}, 400},
		"by a proxy": {
			http.MethodPut, "/latest/api/token", []header{{ttl, "60"}, {"X-Forwarded-For", "10.0.0.1"}}, 403,
		},
	} {
		if got := get(t, s, c.method, c.path, c.headers...); got.status != c.want {
			t.Errorf("%s: got %+v, want status %d", name, got, c.want)
		}
	}
	if n := s.Asked("meta-data/"); n != 0 {
		t.Errorf("asked without a token: got %d, want it not to count", n)
	}
}

// TestForTheProduct: the metadata client of our services works with this service.
func TestForTheProduct(t *testing.T) {
	s := listen(t, sample())
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", s.URL())
	m := awsconf.NewMetadata(awsconf.MetadataOptions{})
	want(t, m.InstanceID, "i-0abc")
	want(t, m.Region, "eu-west-1")
	want(t, func(ctx context.Context) (string, error) { return m.Host(ctx, false) }, "h.example.com")
	want(t, func(ctx context.Context) (string, error) { return m.Host(ctx, true) }, "10.0.0.7")
	userData := func(ctx context.Context) (string, error) { doc, err := m.UserData(ctx); return string(doc), err }
	want(t, userData, "pool: fib\n")
	want(t, m.Interruption, "")
	s.SetUserData("")
	s.ReclaimAt(time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC))
	want(t, func(ctx context.Context) (string, error) { doc, err := m.UserData(ctx); return string(doc), err }, "")
	want(t, m.Interruption, "terminate at 2026-03-01T10:00:00Z")
}

func want(t *testing.T, ask func(context.Context) (string, error), want string) {
	t.Helper()
	if got, err := ask(t.Context()); err != nil || got != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}

type (
	header struct{ name, value string }
	answer struct {
		status int
		body   string
	}
)

func listen(t *testing.T, inst imds.Instance) *imds.Service {
	t.Helper()
	s, err := imds.Listen(t.Context(), "127.0.0.1:0", inst)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func get(t *testing.T, s *imds.Service, method, path string, headers ...header) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL()+path, strings.NewReader(""))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers {
		req.Header.Set(h.name, h.value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, string(body)}
}
