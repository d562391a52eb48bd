package metal

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	tokenHeader    = "X-aws-ec2-metadata-token"
	ttlHeader      = "X-aws-ec2-metadata-token-ttl-seconds"
	longestTTL     = 21600
	credentialLife = 6 * time.Hour
)

// metadata is the instance metadata service of one instance, version 2 only: who
// brings no token gets 401.
type metadata struct {
	instance instance
	region   string
	role     string
	account  string
	server   *http.Server
	url      string
	served   chan error

	mu      sync.Mutex
	tokens  map[string]time.Time // when each ends; guarded by mu
	reclaim time.Time            // when a spot instance is taken back; zero: not; guarded by mu
}

// serveMetadata starts a service on a port of its own.
func serveMetadata(ctx context.Context, inst instance, opts Options) (*metadata, error) {
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("metadata of %s: %w", inst.id, err)
	}
	m := &metadata{
		instance: inst, region: opts.Region, role: opts.Role, account: opts.Account, tokens: make(map[string]time.Time),
		url: "http://" + listener.Addr().String(), served: make(chan error, 1),
	}
	m.server = &http.Server{Handler: m.handler(), ReadHeaderTimeout: 5 * time.Second}
	go func() { m.served <- m.server.Serve(listener) }()
	return m, nil
}

func (m *metadata) close() error {
	err := m.server.Close()
	if served := <-m.served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// reclaimAt announces that the spot instance is terminated at the given time.
func (m *metadata) reclaimAt(at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reclaim = at
}

func (m *metadata) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /latest/api/token", m.token)
	get := func(path string, f func() (string, bool)) {
		mux.HandleFunc("GET /latest/"+path, func(w http.ResponseWriter, r *http.Request) { m.answer(w, r, f) })
	}
	text := func(s string) func() (string, bool) { return func() (string, bool) { return s, s != "" } }
	get("meta-data/instance-id", text(m.instance.id))
	get("meta-data/ami-id", text(m.instance.image))
	get("meta-data/public-hostname", text("127.0.0.1"))
	get("meta-data/placement/region", text(m.region))
	get("meta-data/placement/availability-zone", text(m.region+"a"))
	get("user-data", text(m.instance.userData))
	get("meta-data/iam/security-credentials/{$}", text(m.role))
	get("meta-data/iam/security-credentials/"+m.role, m.credentials)
	get("meta-data/spot/instance-action", m.spotAction)
	get("dynamic/instance-identity/document", m.identity)
	return mux
}

// token gives a session token for as long as the caller asks.
func (m *metadata) token(w http.ResponseWriter, r *http.Request) {
	ttl, err := strconv.Atoi(r.Header.Get(ttlHeader))
	if err != nil || ttl < 1 || ttl > longestTTL {
		http.Error(w, "Bad Request", http.StatusBadRequest)
		return
	}
	token := rand.Text()
	m.mu.Lock()
	m.tokens[token] = time.Now().Add(time.Duration(ttl) * time.Second)
	m.mu.Unlock()
	w.Header().Set(ttlHeader, strconv.Itoa(ttl))
	_, _ = w.Write([]byte(token)) // a caller that is gone needs no token
}

func (m *metadata) answer(w http.ResponseWriter, r *http.Request, f func() (string, bool)) {
	m.mu.Lock()
	end, ok := m.tokens[r.Header.Get(tokenHeader)]
	m.mu.Unlock()
	if !ok || time.Now().After(end) {
		http.Error(w, "Unauthorized", http.StatusUnauthorized)
		return
	}
	text, ok := f()
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	_, _ = w.Write([]byte(text)) // as above
}

func (m *metadata) spotAction() (string, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.reclaim.IsZero() {
		return "", false
	}
	return document(map[string]string{"action": "terminate", "time": m.reclaim.UTC().Format(time.RFC3339)})
}

// credentials are those that LocalStack takes.
func (m *metadata) credentials() (string, bool) {
	now := time.Now().UTC()
	return document(map[string]string{
		"Code": "Success", "Type": "AWS-HMAC", "LastUpdated": now.Format(time.RFC3339),
		"AccessKeyId": m.account, "SecretAccessKey": m.account, "Token": m.account,
		"Expiration": now.Add(credentialLife).Format(time.RFC3339),
	})
}

func (m *metadata) identity() (string, bool) {
	return document(map[string]string{"instanceId": m.instance.id, "imageId": m.instance.image, "region": m.region, "availabilityZone": m.region + "a"})
}

func document(fields map[string]string) (string, bool) {
	text, err := json.Marshal(fields)
	return strings.TrimSpace(string(text)), err == nil
}
