package awsconf_test

import (
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"cloudmaster/internal/agent"
	"cloudmaster/internal/awsconf"
)

var _ agent.Metadata = (*awsconf.Metadata)(nil)

// instance is a metadata service of version 2: it answers no request without a token.
type instance struct {
	mu       sync.Mutex
	items    map[string]string // guarded by mu; by path below /latest/
	failures int               // guarded by mu; requests that are answered 503 before all goes well
	noTokens int               // guarded by mu; if not 0, the status instead of a token
	hang     chan struct{}     // nil unless items are answered only after it is closed
	tokens   int               // guarded by mu; given out
	refused  int               // guarded by mu; requests without a token
}

const token = "t0ken"

func (i *instance) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if i.hang != nil {
		select {
		case <-i.hang:
		case <-r.Context().Done():
		}
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	item, found := i.items[strings.TrimPrefix(r.URL.Path, "/latest/")]
	switch {
	case i.failures > 0:
		i.failures--
		w.WriteHeader(http.StatusServiceUnavailable)
	case r.Method == http.MethodPut && r.URL.Path == "/latest/api/token" && i.noTokens != 0:
		w.WriteHeader(i.noTokens)
	case r.Method == http.MethodPut && r.URL.Path == "/latest/api/token":
		i.tokens++
		w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", r.Header.Get("X-Aws-Ec2-Metadata-Token-Ttl-Seconds"))
		fmt.Fprint(w, token)
	case r.Header.Get("X-Aws-Ec2-Metadata-Token") != token:
		i.refused++
		w.WriteHeader(http.StatusUnauthorized)
	case !found:
		w.WriteHeader(http.StatusNotFound)
	default:
		fmt.Fprint(w, item)
	}
}

// metadata returns the client of an instance.
func metadata(t *testing.T, i *instance) *awsconf.Metadata {
	t.Helper()
	srv := httptest.NewServer(i)
	t.Cleanup(srv.Close)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "")
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", srv.URL)
	return awsconf.NewMetadata(awsconf.MetadataOptions{DMI: fstest.MapFS{}})
}

func TestMetadata(t *testing.T) {
	i := &instance{items: map[string]string{
		"user-data": " pool: fib\n", "meta-data/instance-id": "i-0abc", "meta-data/placement/region": "eu-west-1\n",
		"meta-data/public-hostname": "ec2-1.example.org",
	}}
	m := metadata(t, i)
	for name, c := range map[string]struct {
		ask  func(context.Context) (string, error)
		want string
	}{
		"id":           {m.InstanceID, "i-0abc"},
		"region":       {m.Region, "eu-west-1"},
		"host":         {func(ctx context.Context) (string, error) { return m.Host(ctx, false) }, "ec2-1.example.org"},
		"interruption": {m.Interruption, ""},
	} {
		if got, err := c.ask(t.Context()); err != nil || got != c.want {
			t.Errorf("%s: got %q, %v, want %q", name, got, err, c.want)
		}
	}
	if doc, err := m.UserData(t.Context()); err != nil || string(doc) != " pool: fib\n" {
		t.Errorf("user data: got %q, %v, want it as it is", doc, err)
	}
	if i.tokens != 1 || i.refused != 0 {
		t.Errorf("got %d tokens and %d requests without, want one token for all", i.tokens, i.refused)
	}
}

func TestMetadataHost(t *testing.T) {
	all := []string{"public-hostname", "public-ipv4", "local-hostname", "local-ipv4"}
	for name, c := range map[string]struct {
		items         map[string]string
		want, private string
	}{
		"all":             {map[string]string{all[0]: "a", all[1]: "b", all[2]: "c", all[3]: "d"}, "a", "d"},
		"no public name":  {map[string]string{all[1]: "b", all[2]: "c", all[3]: "d"}, "b", "d"},
		"empty name":      {map[string]string{all[0]: "", all[1]: "b"}, "b", ""},
		"private":         {map[string]string{all[2]: "c", all[3]: "d"}, "c", "d"},
		"private name":    {map[string]string{all[2]: "c"}, "c", "c"},
		"private address": {map[string]string{all[3]: "d"}, "d", "d"},
		"none":            {nil, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			i := &instance{items: map[string]string{}}
			for k, v := range c.items {
				i.items["meta-data/"+k] = v
			}
			for private, want := range map[bool]string{false: c.want, true: c.private} {
				if got, err := metadata(t, i).Host(t.Context(), private); err != nil || got != want {
					t.Errorf("private %t: got %q, %v, want %q", private, got, err, want)
				}
			}
		})
	}
}

func TestMetadataInterruption(t *testing.T) {
	for name, c := range map[string]struct{ doc, want, wantErr string }{
		"terminate": {
			`{"action": "terminate", "time": "2026-03-01T10:00:00Z"}`, "terminate at 2026-03-01T10:00:00Z", "",
		},
		"stop":      {`{"action": "stop", "time": "2026-03-01T10:00:00Z"}`, "stop at 2026-03-01T10:00:00Z", ""},
		"garbage":   {"<html>", "", "EC2 metadata spot/instance-action: invalid character"},
		"no action": {"{}", "", `no action in "{}"`},
	} {
		t.Run(name, func(t *testing.T) {
			m := metadata(t, &instance{items: map[string]string{"meta-data/spot/instance-action": c.doc}})
			got, err := m.Interruption(t.Context())
			if got != c.want || (err == nil) != (c.wantErr == "") ||
				err != nil && !strings.Contains(err.Error(), c.wantErr) {
				t.Errorf("got %q, %v, want %q and an error with %q", got, err, c.want, c.wantErr)
			}
		})
	}
}

func TestMetadataThatIsMissing(t *testing.T) {
	m := metadata(t, &instance{})
	if doc, err := m.UserData(t.Context()); err != nil || len(doc) != 0 {
		t.Errorf("user data: got %q, %v, want none and no error", doc, err)
	}
	if _, err := m.InstanceID(t.Context()); err == nil ||
		!strings.Contains(err.Error(), "EC2 metadata instance-id: the service does not know it") {
		t.Errorf("id: got %v, want an error: every instance has one", err)
	}
}

func TestMetadataIsAskedAgain(t *testing.T) {
	i := &instance{items: map[string]string{"meta-data/instance-id": "i-1"}}
	m := metadata(t, i)
	if _, err := m.InstanceID(t.Context()); err != nil {
		t.Fatal(err)
	}
	i.failures = 2
	if id, err := m.InstanceID(t.Context()); err != nil || id != "i-1" {
		t.Errorf("after two failures: got %q, %v, want i-1", id, err)
	}
	i.failures = 4
	if _, err := m.InstanceID(t.Context()); err == nil || i.failures != 1 {
		t.Errorf("after three: got %v with %d failures left, want an error with 1", err, i.failures)
	}
}

// Version 1, which anybody who can make the process send a request may use, is never used.
func TestMetadataWithoutTokensIsAnError(t *testing.T) {
	for _, status := range []int{http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed} {
		i := &instance{noTokens: status, items: map[string]string{"meta-data/instance-id": "i-1", "user-data": "x"}}
		m := metadata(t, i)
		if got, err := m.UserData(t.Context()); err == nil {
			t.Errorf("status %d: got user data %q, want an error", status, got)
		}
		if got, err := m.Interruption(t.Context()); err == nil {
			t.Errorf("status %d: got notice %q, want an error", status, got)
		}
		if i.refused != 0 {
			t.Errorf("status %d: got %d requests without a token, want none", status, i.refused)
		}
	}
}

func TestMetadataThatHangsIsGivenUp(t *testing.T) {
	i := &instance{hang: make(chan struct{})}
	m := metadata(t, i)
	defer close(i.hang)
	start := time.Now()
	_, err := m.InstanceID(t.Context())
	if took := time.Since(start); err == nil || took > 20*time.Second {
		t.Errorf("got %v after %s, want an error within seconds", err, took)
	}
}

func TestMetadataGoesThroughNoProxy(t *testing.T) {
	m := metadata(t, &instance{items: map[string]string{"meta-data/instance-id": "i-1"}})
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://metadata.invalid")
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	if id, err := m.InstanceID(t.Context()); err != nil || id != "i-1" {
		t.Errorf("got %q, %v, want i-1 from the endpoint there was", id, err)
	}
}

func TestOnEC2(t *testing.T) {
	vendor := func(file, name string) fs.FS { return fstest.MapFS{file: {Data: []byte(name + "\n")}} }
	for name, c := range map[string]struct {
		dmi                fs.FS
		endpoint, disabled string
		want               bool
	}{
		"nothing":              {dmi: fstest.MapFS{}},
		"system":               {dmi: vendor("sys_vendor", "Amazon EC2"), want: true},
		"board":                {dmi: vendor("board_vendor", "Amazon EC2"), want: true},
		"another":              {dmi: vendor("sys_vendor", "LENOVO")},
		"endpoint":             {dmi: fstest.MapFS{}, endpoint: "http://127.0.0.1:1", want: true},
		"disabled":             {dmi: vendor("sys_vendor", "Amazon EC2"), disabled: "TRUE"},
		"disabled by endpoint": {dmi: fstest.MapFS{}, endpoint: "http://127.0.0.1:1", disabled: "true"},
		"not disabled":         {dmi: vendor("sys_vendor", "Amazon EC2"), disabled: "false", want: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", c.endpoint)
			t.Setenv("AWS_EC2_METADATA_DISABLED", c.disabled)
			if got := awsconf.NewMetadata(awsconf.MetadataOptions{DMI: c.dmi}).OnEC2(); got != c.want {
				t.Errorf("got %t, want %t", got, c.want)
			}
		})
	}
}
