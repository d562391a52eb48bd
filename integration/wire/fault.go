package wire

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

type kind int

const (
	none kind = iota
	throttle
	refuse
	hang
	delay
	loseAnswer
)

// Fault is what happens to a call that matches. The zero value is no fault.
type Fault struct {
	kind  kind
	delay time.Duration
}

// Throttle answers as the service does when it gets too many calls.
func Throttle() Fault { return Fault{kind: throttle} }

// Refuse cuts the connection instead of passing the call on.
func Refuse() Fault { return Fault{kind: refuse} }

// Hang accepts the call but neither passes it on nor answers. When the fault is lifted, the
// connection is cut.
func Hang() Fault { return Fault{kind: hang} }

// Delay passes the call on after that time, or earlier if the fault is lifted.
func Delay(d time.Duration) Fault { return Fault{kind: delay, delay: d} }

// LoseAnswer passes the call on, and cuts the connection instead of answering.
func LoseAnswer() Fault { return Fault{kind: loseAnswer} }

// Match selects calls. An empty field matches every call, and so does the zero value.
type Match struct {
	Service string
	Action  string
	Holding string // part of the path or the body, such as a queue's name
}

// rule is a fault for the calls that match.
type rule struct {
	match  Match
	fault  Fault
	times  int           // calls that are still to be disturbed; below zero means any number
	lifted chan struct{} // closed by lift
}

// Inject disturbs the next calls that match: so many, or with 0 all of them until the fault is
// lifted. If several faults match a call, the one that was injected first counts.
func (w *Wire) Inject(match Match, fault Fault, times int) (lift func()) {
	r := &rule{match: match, fault: fault, times: times, lifted: make(chan struct{})}
	if times == 0 {
		r.times = -1
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rules = append(w.rules, r)
	return sync.OnceFunc(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.rules = slices.DeleteFunc(w.rules, func(o *rule) bool { return o == r })
		close(r.lifted)
	})
}

// arrived counts a call and returns the fault that it meets, with the channel that is closed when
// that fault is lifted.
func (w *Wire) arrived(call Call, in *http.Request, body []byte) (Fault, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts[call]++
	for _, r := range w.rules {
		if r.times == 0 || !r.match.covers(call, in.URL.Path, body) {
			continue
		}
		if r.times > 0 {
			r.times--
		}
		return r.fault, r.lifted
	}
	return Fault{}, nil
}

func (m Match) covers(call Call, path string, body []byte) bool {
	return (m.Service == "" || m.Service == call.Service) &&
		(m.Action == "" || m.Action == call.Action) &&
		(m.Holding == "" || strings.Contains(path, m.Holding) || bytes.Contains(body, []byte(m.Holding)))
}

// throttled returns the answer to one call too many, in the form in which the service gives it.
func throttled(call Call) answer {
	const text = "Rate exceeded"
	switch call.Service {
	case "sqs":
		return answer{
			status: http.StatusForbidden,
			header: http.Header{
				"Content-Type": {"application/x-amz-json-1.0"}, "X-Amzn-Query-Error": {"RequestThrottled;Sender"},
			},
			body: fmt.Appendf(nil, `{"__type":"com.amazonaws.sqs#RequestThrottled","message":%q}`, text),
		}
	case "s3":
		return answer{
			status: http.StatusServiceUnavailable, header: http.Header{"Content-Type": {"application/xml"}},
			body: fmt.Appendf(nil,
				`<Error><Code>SlowDown</Code><Message>%s</Message><RequestId>wire</RequestId></Error>`, text),
		}
	case "ec2":
		return ec2Error(http.StatusServiceUnavailable, "RequestLimitExceeded", text)
	}
	return answer{
		status: http.StatusBadRequest, header: http.Header{"Content-Type": {"text/xml"}},
		body: fmt.Appendf(nil, `<ErrorResponse><Error><Type>Sender</Type><Code>Throttling</Code>`+
			`<Message>%s</Message></Error><RequestId>wire</RequestId></ErrorResponse>`, text),
	}
}

func ec2Error(status int, code, text string) answer {
	return answer{
		status: status, header: http.Header{"Content-Type": {"text/xml;charset=UTF-8"}},
		body: fmt.Appendf(nil, `<Response><Errors><Error><Code>%s</Code><Message>%s</Message></Error></Errors>`+
			`<RequestID>wire</RequestID></Response>`, code, text),
	}
}
