// Package imds is an instance metadata service like that of EC2, for machines that are not EC2
// instances. It speaks only version 2: whoever brings no token gets 401. It has the dated versions
// and the directory listings that cloud-init reads.
package imds

import (
	"context"
	"crypto/rand"
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
	tokenHeader = "X-aws-ec2-metadata-token"
	ttlHeader   = "X-aws-ec2-metadata-token-ttl-seconds"
	longestTTL  = 21600
)

// versions are the versions of the tree. All of them have the same items here.
var versions = []string{"2009-04-04", "2018-09-24", "2021-03-23", "2021-07-15", "latest"}

// Instance is what the service says about an instance. If a field is empty, the instance does not
// have that item.
type Instance struct {
	ID, Image, Type      string
	Region, Zone         string // Zone: the default is the region's first
	PublicHost           string // public-hostname
	LocalHost, LocalIPv4 string
	MAC, Subnet          string // of the only network interface; Subnet is its address block (10.0.0.0/24)
	UserData             string
	Role                 string // name of the role in the instance profile
	Credentials          Credentials
}

// Credentials are the credentials of the role.
type Credentials struct{ AccessKeyID, SecretAccessKey, Token string }

// Service gives one instance its metadata. It is a handler; Listen also serves it.
type Service struct {
	mux *http.ServeMux

	server   *http.Server // nil without Listen
	listener net.Listener // nil without Listen
	served   chan error   // nil without Listen

	mu       sync.Mutex
	instance Instance             // guarded by mu
	reclaim  time.Time            // when the spot instance is taken back; zero means never; guarded by mu
	tokens   map[string]time.Time // when each token expires; guarded by mu
	asked    map[string]int       // number of answered requests, by path below the version; guarded by mu
}

// New returns a service that is not served yet.
func New(inst Instance) *Service {
	if inst.Zone == "" && inst.Region != "" {
		inst.Zone = inst.Region + "a"
	}
	s := &Service{
		instance: inst, mux: http.NewServeMux(), tokens: make(map[string]time.Time), asked: make(map[string]int),
	}
	s.mux.HandleFunc("PUT /latest/api/token", s.token)
	s.mux.HandleFunc("GET /", s.answer)
	return s
}

// Listen serves a new service at addr; port 0 means any free port. The caller must Close it.
func Listen(ctx context.Context, addr string, inst Instance) (*Service, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("metadata of %s: %w", inst.ID, err)
	}
	s := New(inst)
	s.listener, s.served = l, make(chan error, 1)
	s.server = &http.Server{Handler: s, ReadHeaderTimeout: 5 * time.Second}
	go func() { s.served <- s.server.Serve(l) }()
	return s, nil
}

// Addr returns the address at which Listen serves, as host:port.
func (s *Service) Addr() string { return s.listener.Addr().String() }

// URL returns the address for the variable AWS_EC2_METADATA_SERVICE_ENDPOINT.
func (s *Service) URL() string { return "http://" + s.Addr() }

// Close stops what Listen has started.
func (s *Service) Close() error {
	err := s.server.Close()
	if served := <-s.served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// SetUserData changes the user data, which EC2 allows while an instance is stopped.
func (s *Service) SetUserData(doc string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.instance.UserData = doc
}

// SetCredentials changes the role's credentials. All three parts become the same text, because
// LocalStack takes the access key for the account.
func (s *Service) SetCredentials(account string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.instance.Credentials = Credentials{AccessKeyID: account, SecretAccessKey: account, Token: account}
}

// ReclaimAt announces that the spot instance is terminated at the given time.
func (s *Service) ReclaimAt(at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reclaim = at
}

// Asked returns how often an item, such as "meta-data/instance-id", was read with a valid token.
func (s *Service) Asked(item string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[item]
}

// ServeHTTP implements http.Handler.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// token gives out a session token for as long as the caller asks. As on EC2, it refuses requests
// that came through a proxy.
func (s *Service) token(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("X-Forwarded-For") != "" {
		http.Error(w, "Forbidden", http.StatusForbidden)
		return
	}
	ttl, err := strconv.Atoi(r.Header.Get(ttlHeader))
	if err != nil || ttl < 1 || ttl > longestTTL {
		http.Error(w, "Bad Request", http.StatusBadRequest)
		return
	}
	token := rand.Text()
	s.mu.Lock()
	s.tokens[token] = time.Now().Add(time.Duration(ttl) * time.Second)
	s.mu.Unlock()
	w.Header().Set(ttlHeader, strconv.Itoa(ttl))
	_, _ = w.Write([]byte(token)) // fails only if the caller is gone
}

func (s *Service) answer(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	text, status := s.lookup(r.URL.Path, r.Header.Get(tokenHeader))
	s.mu.Unlock()
	if status != http.StatusOK {
		http.Error(w, http.StatusText(status), status)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	_, _ = w.Write([]byte(text)) // fails only if the caller is gone
}

// lookup returns an item and its status. The caller must have locked mu.
func (s *Service) lookup(path, token string) (string, int) {
	end, ok := s.tokens[token]
	if !ok || time.Now().After(end) {
		return "", http.StatusUnauthorized
	}
	version, item, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if version == "" {
		return strings.Join(versions, "\n"), http.StatusOK
	}
	if !known(version) {
		return "", http.StatusNotFound
	}
	s.asked[item]++
	text, ok := tree(s.instance, s.reclaim).get(item)
	if !ok {
		return "", http.StatusNotFound
	}
	return text, http.StatusOK
}

func known(version string) bool {
	for _, v := range versions {
		if v == version {
			return true
		}
	}
	return false
}
