package ec2

import (
	"net/http"
	"strings"
	"time"

	"cloudmaster/integration/aws/call"
)

// size is that of a token bucket: how much it holds, and how much comes back each second.
type size struct{ most, rate float64 }

// Sizes of the buckets of requests. Source: EC2 Developer Guide, "Request throttling for the Amazon EC2 API", "Request
// token bucket sizes and refill rates"; docs/assumptions.md says which of them were read there.
var requestSizes = map[string]size{
	"RunInstances":       {5, 2},
	"StartInstances":     {5, 2},
	"TerminateInstances": {100, 5},
	"CreateTags":         {100, 10},
}

// The sizes of other actions: those that change nothing, those among them that name nothing and ask for no pages, and
// those that change something.
var (
	readSize   = size{100, 20}
	wholeSize  = size{50, 10}
	changeSize = size{50, 5}
)

// Sizes of the buckets of resources, from which an action takes as much as it starts or ends instances. Source: as
// above, "Resource token bucket sizes and refill rates".
var resourceSizes = map[string]size{
	"RunInstances":       {1000, 2},
	"TerminateInstances": {1000, 20},
	"StartInstances":     {1000, 2},
	"StopInstances":      {1000, 20},
}

// bucket is a token bucket.
type bucket struct {
	left float64
	last time.Time
}

// buckets are the token buckets of a region, by their names.
type buckets map[string]*bucket

// take takes tokens out of a bucket, or returns false and leaves it.
func (b buckets) take(name string, s size, n int, now time.Time) bool {
	at := b[name]
	if at == nil {
		at = &bucket{left: s.most, last: now}
		b[name] = at
	}
	if passed := now.Sub(at.last); passed > 0 {
		at.left = min(s.most, at.left+passed.Seconds()*s.rate)
		at.last = now
	}
	if at.left < float64(n) {
		return false
	}
	at.left -= float64(n)
	return true
}

// throttle takes a request's token, and returns an error if there is none, or if a test wants one.
func (r *Region) throttle(action string, in *request) error {
	if err := r.fault(action); err != nil {
		return err
	}
	if r.limits == nil || r.limits.take(action, sizeOf(action, in), 1, in.now) {
		return nil
	}
	return limitExceeded()
}

func sizeOf(action string, in *request) size {
	s, own := requestSizes[action]
	switch {
	case own:
		return s
	case !strings.HasPrefix(action, "Describe"):
		return changeSize
	case in.form.Has("Filter.1.Name"), in.form.Has("MaxResults"), in.form.Has("InstanceId.1"):
		return readSize
	}
	return wholeSize
}

// throttleResources takes a token for each of so many instances.
func (r *Region) throttleResources(action string, now time.Time, n int) error {
	if r.limits == nil || r.limits.take("resources of "+action, resourceSizes[action], n, now) {
		return nil
	}
	return limitExceeded()
}

func limitExceeded() error {
	return &call.Error{
		Status: http.StatusServiceUnavailable, Code: "RequestLimitExceeded", Message: "Request limit exceeded.",
	}
}

// fault is an error that calls of an action get.
type fault struct {
	action string
	times  int
	err    call.Error
}

// fault returns the error that a test wants for this call.
func (r *Region) fault(action string) error {
	for _, f := range r.faults {
		if f.action == action && f.times > 0 {
			f.times--
			err := f.err
			return &err
		}
	}
	return nil
}
