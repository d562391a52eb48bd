package metal

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestMetadata(t *testing.T) {
	t.Parallel()
	m, err := serveMetadata(t.Context(), instance{id: "i-1", image: "ami-1", userData: "a: b\n"}, Options{Region: "eu-west-1", Role: "worker", Account: defaultAccount})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := m.close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}()
	for _, ttl := range []string{"", "0", "21601", "x"} {
		if _, status := ask(http.MethodPut, m.url+"/latest/api/token", ttlHeader, ttl); status != http.StatusBadRequest {
			t.Errorf("token for %q seconds: got %d, want 400", ttl, status)
		}
	}
	token, status := ask(http.MethodPut, m.url+"/latest/api/token", ttlHeader, "21600")
	if status != http.StatusOK || token == "" {
		t.Fatalf("token: got %d %q, want 200 and a token", status, token)
	}
	for _, bad := range []string{"", "wrong"} {
		if _, status := ask(http.MethodGet, m.url+"/latest/user-data", tokenHeader, bad); status != http.StatusUnauthorized {
			t.Errorf("token %q: got %d, want 401", bad, status)
		}
	}
	get := func(path string) (string, int) { return ask(http.MethodGet, m.url+"/latest/"+path, tokenHeader, token) }
	for path, want := range map[string]string{
		"meta-data/instance-id":                 "i-1",
		"meta-data/ami-id":                      "ami-1",
		"meta-data/public-hostname":             "127.0.0.1",
		"meta-data/placement/region":            "eu-west-1",
		"meta-data/placement/availability-zone": "eu-west-1a",
		"user-data":                             "a: b\n",
		"meta-data/iam/security-credentials/":   "worker",
	} {
		if got, status := get(path); got != want || status != http.StatusOK {
			t.Errorf("%s: got %d %q, want 200 %q", path, status, got, want)
		}
	}
	for path, want := range map[string]string{
		"meta-data/iam/security-credentials/worker": `"AccessKeyId":"test"`,
		"dynamic/instance-identity/document":        `"instanceId":"i-1"`,
	} {
		if got, _ := get(path); !strings.Contains(got, want) {
			t.Errorf("%s: got %q, want %s in it", path, got, want)
		}
	}
	if _, status := get("meta-data/spot/instance-action"); status != http.StatusNotFound {
		t.Errorf("instance-action before a reclaim: got %d, want 404", status)
	}
	m.reclaimAt(time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC))
	if got, _ := get("meta-data/spot/instance-action"); got != `{"action":"terminate","time":"2030-01-02T03:04:05Z"}` {
		t.Errorf("instance-action: got %s", got)
	}
	m.mu.Lock()
	m.tokens[token] = time.Now().Add(-time.Second)
	m.mu.Unlock()
	if _, status := get("user-data"); status != http.StatusUnauthorized {
		t.Errorf("a token that has run out: got %d, want 401", status)
	}
}

func TestNoUserDataIsNotFound(t *testing.T) {
	t.Parallel()
	m, err := serveMetadata(t.Context(), instance{id: "i-1"}, Options{Region: "eu-west-1", Role: "worker", Account: defaultAccount})
	if err != nil {
		t.Fatal(err)
	}
	token, _ := ask(http.MethodPut, m.url+"/latest/api/token", ttlHeader, "1")
	if _, status := ask(http.MethodGet, m.url+"/latest/user-data", tokenHeader, token); status != http.StatusNotFound {
		t.Errorf("got %d, want 404", status)
	}
	if err := m.close(); err != nil {
		t.Error(err)
	}
}
