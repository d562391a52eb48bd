// Package s3 is a fake of S3 behind its REST protocol, with the bucket in the path. It has what the store of blobs and
// controller setup use: buckets with tags, encryption and their block of public access, and objects with conditional
// reads and writes. Buckets have no versions: an object has the version null, as in a bucket whose versioning was never
// turned on.
//
// docs/assumptions.md says where each behaviour is documented.
package s3

import (
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"cloudmaster/integration/aws/call"
)

// mostBody bounds a request; the store's objects are far smaller.
const mostBody = 16 << 20

// Fake is S3 in all regions, as names of buckets are global. Its methods may be called concurrently.
type Fake struct {
	account string
	now     func() time.Time

	mu      sync.Mutex
	buckets map[string]*bucket // by name; guarded by mu
	faults  []*fault           // guarded by mu
}

var _ call.Service = (*Fake)(nil)

type bucket struct {
	owner   string
	region  string
	made    time.Time
	config  map[string]string // documents, by the sub-resource: tagging, encryption, publicAccessBlock
	objects map[string]object // by key
}

type object struct {
	data    []byte
	tag     string // with its quotes
	changed time.Time
}

// New returns an S3 without buckets.
func New(account string, now func() time.Time) *Fake {
	return &Fake{account: account, now: now, buckets: make(map[string]*bucket)}
}

// request is one call of S3.
type request struct {
	call.Caller

	http   *http.Request
	body   []byte
	bucket string
	key    string
}

// answer is what a call returns. A nil body is none.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// operation is one of S3's actions.
type operation struct {
	name string
	// rights are the actions of IAM that it needs, on the bucket, or on the object if onObject. DeleteObjects asks by
	// itself for each object.
	rights   []string
	onObject bool
	do       func(*Fake, *request) (*answer, error)
}

// Serve implements call.Service.
func (f *Fake) Serve(w http.ResponseWriter, r *http.Request, caller call.Caller) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, mostBody))
	if err != nil {
		panic(http.ErrAbortHandler) // the caller is gone, or sends more than the fake takes
	}
	in := &request{Caller: caller, http: r, body: body}
	in.bucket, in.key, _ = strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	out, err := f.serve(in)
	if err != nil {
		caller.WriteS3(w, r, asError(err))
		return
	}
	for name, values := range out.header {
		w.Header()[name] = values
	}
	w.Header().Set("X-Amz-Request-Id", caller.RequestID)
	w.WriteHeader(out.status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(out.body) // the client notices a failure
	}
}

func (f *Fake) serve(in *request) (*answer, error) {
	op := in.operation()
	if op == nil || strings.Contains(in.http.Header.Get("Content-Encoding"), "aws-chunked") {
		return nil, &call.Error{
			Status: http.StatusNotImplemented, Code: "NotImplemented",
			Message: "the fake of S3 cannot do this: " + in.http.Method + " " + in.http.URL.String(),
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.fault(op.name); err != nil {
		return nil, err
	}
	for _, action := range op.rights {
		if err := in.may(action, in.resource(op.onObject)); err != nil {
			return nil, err
		}
	}
	return op.do(f, in)
}

func (in *request) resource(object bool) string {
	arn := "arn:" + call.Partition + ":s3:::" + in.bucket
	if object {
		arn += "/" + in.key
	}
	return arn
}

// may asks for one action.
func (in *request) may(action, resource string) error {
	one := call.Call{Action: action, Resources: []string{resource}}
	if why := in.Ask(one); why != nil {
		return in.Denied("AccessDenied", one, why)
	}
	return nil
}

// find returns the request's bucket. One of another account, or of another than the expected one, is denied; one of
// another region is elsewhere.
func (f *Fake) find(in *request) (*bucket, error) {
	b := f.buckets[in.bucket]
	expected := in.http.Header.Get("X-Amz-Expected-Bucket-Owner")
	switch {
	case b == nil:
		return nil, &call.Error{
			Status: http.StatusNotFound, Code: "NoSuchBucket", Message: "The specified bucket does not exist",
		}
	case b.owner != in.Principal.Account, expected != "" && expected != b.owner:
		return nil, &call.Error{Status: http.StatusForbidden, Code: "AccessDenied", Message: "Access Denied"}
	case b.region != in.Region:
		return nil, &call.Error{
			Status: http.StatusMovedPermanently, Code: "PermanentRedirect",
			Message: "The bucket you are attempting to access must be addressed using the specified endpoint: " +
				"it is in " + b.region,
		}
	}
	return b, nil
}

func asError(err error) *call.Error {
	if e, ok := err.(*call.Error); ok { //nolint:errorlint // operations do not wrap what they answer
		return e
	}
	return &call.Error{Status: http.StatusInternalServerError, Code: "InternalError", Message: err.Error()}
}

// fault is an error that calls of an operation get.
type fault struct {
	name  string
	times int
	err   call.Error
}

// Fail makes the next calls of an operation, such as PutObject, fail before they have any effect.
func (f *Fake) Fail(operation string, times int, err call.Error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = append(f.faults, &fault{name: operation, times: times, err: err})
}

func (f *Fake) fault(name string) error {
	for _, one := range f.faults {
		if one.name == name && one.times > 0 {
			one.times--
			err := one.err
			return &err
		}
	}
	return nil
}

// AddForeign makes a bucket that belongs to another account.
func (f *Fake) AddForeign(name, region, owner string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.buckets[name] = newBucket(owner, region, f.now())
}

// Buckets returns the names of all buckets, in order.
func (f *Fake) Buckets() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Sorted(maps.Keys(f.buckets))
}

// Objects returns the contents of a bucket by key; nil if there is no bucket.
func (f *Fake) Objects(name string) map[string]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	b := f.buckets[name]
	if b == nil {
		return nil
	}
	out := make(map[string]string, len(b.objects))
	for key, o := range b.objects {
		out[key] = string(o.data)
	}
	return out
}
