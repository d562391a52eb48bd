// Package awsfake is a fake of AWS: one address for EC2, STS, S3 and whatever else is added, as LocalStack has, for
// one account and any number of regions. It behaves as AWS's documentation says where LocalStack does not, needs no
// Docker, and does what tests tell it.
//
// A request belongs to the service and the region for which it is signed. The signature itself is not verified. Its
// access key says who makes the request: keys that are not known belong to the account's root user.
package awsfake

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"cloudmaster/integration/aws/call"
	"cloudmaster/integration/aws/ec2"
	"cloudmaster/integration/aws/s3"
)

// Options are the settings of New; zero values work.
type Options struct {
	Account    string           // a number of 12 digits; default ec2.DefaultAccount
	Authorizer call.Authorizer  // nil allows everything
	Now        func() time.Time // default time.Now
	// Services are further services, by the names for which requests are signed: sqs, iam. They may replace those
	// that are built in.
	Services map[string]call.Service
	// Profiles returns the role of an instance profile. Nil: see ec2.Options.
	Profiles func(name string) (role string, ok bool)
	// RoleID returns the unique id of a role (AROA…), which is in the ids of its sessions. Nil: it is made from the
	// name.
	RoleID func(role string) string
}

// Fake is AWS. It is a handler; Start also serves it. Its methods may be called concurrently.
type Fake struct {
	opts     Options
	ec2      *ec2.Fake
	s3       *s3.Fake
	services map[string]call.Service

	mu    sync.Mutex
	keys  map[string]call.Principal // by access key id; guarded by mu
	calls int                       // guarded by mu
	log   []Entry                   // guarded by mu
	// entries are the places of entries in the log, by request and action; guarded by mu.
	entries map[[2]string]int
}

// New returns an AWS that is not served yet.
func New(opts Options) *Fake {
	opts.Account = cmp.Or(opts.Account, ec2.DefaultAccount)
	if opts.Now == nil {
		opts.Now = time.Now
	}
	f := &Fake{
		opts: opts, keys: make(map[string]call.Principal), services: make(map[string]call.Service),
		entries: make(map[[2]string]int),
	}
	f.ec2 = ec2.New(ec2.Options{Account: opts.Account, Now: opts.Now, Profiles: opts.Profiles})
	f.services["ec2"] = f.ec2
	f.s3 = s3.New(opts.Account, opts.Now)
	f.services["s3"] = f.s3
	f.services["sts"] = sts{}
	maps.Copy(f.services, opts.Services)
	return f
}

// Account is the number of the account.
func (f *Fake) Account() string { return f.opts.Account }

// EC2 returns EC2 in a region, through which tests steer it.
func (f *Fake) EC2(region string) *ec2.Region { return f.ec2.Region(region) }

// S3 returns S3, which is one for all regions.
func (f *Fake) S3() *s3.Fake { return f.s3 }

// WatchInstances calls do for each state that an instance enters; see ec2.Fake.Watch.
func (f *Fake) WatchInstances(do func(ec2.Event)) { f.ec2.Watch(do) }

// AddKey makes an access key belong to a principal.
func (f *Fake) AddKey(id string, p call.Principal) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.keys[id] = p
}

// RemoveKey makes an access key unknown, so that it is root's again.
func (f *Fake) RemoveKey(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.keys, id)
}

// ServeHTTP answers a request to any service.
func (f *Fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	caller := call.Caller{RequestID: f.requestID(), Now: f.opts.Now(), Gate: gate{f}}
	scope, err := readScope(r.Header.Get("Authorization"))
	if err != nil {
		caller.WriteQuery(w, err)
		return
	}
	caller.Region, caller.Principal = scope.region, f.principal(scope.key)
	service := f.services[scope.service]
	if service == nil {
		caller.WriteQuery(w, &call.Error{
			Status: http.StatusNotImplemented, Code: "NotImplemented",
			Message: fmt.Sprintf("this fake of AWS has no service %q; it has %s", scope.service,
				strings.Join(slices.Sorted(maps.Keys(f.services)), ", ")),
		})
		return
	}
	service.Serve(w, r, caller)
}

func (f *Fake) requestID() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	return fmt.Sprintf("00000000-0000-4000-8000-%012d", f.calls)
}

func (f *Fake) principal(key string) call.Principal {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p, known := f.keys[key]; known {
		return p
	}
	return call.Root(f.opts.Account)
}

// scope is for what a request is signed, and with which key.
type scope struct{ key, region, service string }

// readScope reads the header of signature version 4: "AWS4-HMAC-SHA256 Credential=KEY/DAY/REGION/SERVICE/aws4_request,
// SignedHeaders=…, Signature=…". Source: IAM User Guide, "Elements of an AWS API request signature".
func readScope(header string) (scope, *call.Error) {
	if header == "" {
		return scope{}, &call.Error{
			Status: http.StatusForbidden, Code: "MissingAuthenticationToken",
			Message: "Request is missing Authentication Token",
		}
	}
	fields, ok := strings.CutPrefix(header, "AWS4-HMAC-SHA256 ")
	have := make(map[string]string)
	for field := range strings.SplitSeq(fields, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		have[name] = value
	}
	parts := strings.Split(have["Credential"], "/")
	if !ok || len(parts) != 5 || slices.Contains(parts, "") || parts[4] != "aws4_request" ||
		have["SignedHeaders"] == "" || have["Signature"] == "" {
		return scope{}, call.Errorf("IncompleteSignature",
			"The request signature does not conform to AWS standards: %q", header)
	}
	return scope{key: parts[0], region: parts[2], service: parts[3]}, nil
}

// Server is a fake that is served.
type Server struct {
	*Fake

	url    string
	server *http.Server
	served chan error
}

// Start serves a fake at an address of this machine, until Close is called.
func Start(ctx context.Context, opts Options) (*Server, error) {
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start the fake AWS: %w", err)
	}
	fake := New(opts)
	s := &Server{
		Fake: fake, url: "http://" + listener.Addr().String(), served: make(chan error, 1),
		server: &http.Server{Handler: fake, ReadHeaderTimeout: 10 * time.Second},
	}
	go func() { s.served <- s.server.Serve(listener) }()
	return s, nil
}

// URL is the endpoint of all services.
func (s *Server) URL() string { return s.url }

// Close cuts every connection. It must be called only once.
func (s *Server) Close() error {
	err := s.server.Close()
	if served := <-s.served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}
