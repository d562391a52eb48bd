// Package sqs is a fake of SQS's standard queues, as its documentation describes them, for what CloudMaster calls. It
// speaks the AWS JSON 1.0 protocol, and has a clock that tests advance and faults that they ask for.
//
// Sources: SQS API Reference; SQS Developer Guide, "Amazon SQS visibility timeout", "Using dead-letter queues in Amazon
// SQS", "Amazon SQS short and long polling", "Amazon SQS message quotas", "Amazon SQS message metadata".
//
// Every action asks for its permission on the queue's ARN, with aws:ResourceTag/… of the queue's tags; CreateQueue and
// TagQueue with aws:RequestTag/… and aws:TagKeys. Calls for a batch need the permission of the single call.
package sqs

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"cloudmaster/integration/aws/call"
	"cloudmaster/integration/aws/iampolicy"
)

// Service is all SQS of the fake, in all regions and accounts. Make it with New.
type Service struct {
	mu      sync.Mutex
	offset  time.Duration // how far the clock is ahead
	queues  map[id]*queue
	deleted map[id]time.Time // when queues were deleted
	changed chan struct{}    // closed at each change, for receivers that wait
	faults  faults
}

// id is where a queue is.
type id struct{ region, account, name string }

func (i id) arn() string {
	return "arn:" + call.Partition + ":sqs:" + i.region + ":" + i.account + ":" + i.name
}

func idOf(arn string) (id, bool) {
	parts := strings.Split(arn, ":")
	if len(parts) != 6 || parts[2] != "sqs" {
		return id{}, false
	}
	return id{parts[3], parts[4], parts[5]}, true
}

// New returns a service without queues.
func New() *Service {
	return &Service{queues: make(map[id]*queue), deleted: make(map[id]time.Time), changed: make(chan struct{})}
}

// Advance moves the clock of all queues.
func (s *Service) Advance(by time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.offset += by
	s.wakeLocked()
}

func (s *Service) nowLocked() time.Time { return time.Now().Add(s.offset) }

func (s *Service) wakeLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Policy returns the policy of a queue, or nil.
func (s *Service) Policy(arn string) *iampolicy.Document {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q := s.atLocked(arn); q != nil {
		return q.policy
	}
	return nil
}

// All returns the ARNs of all queues, in order.
func (s *Service) All() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for where := range s.queues {
		out = append(out, where.arn())
	}
	slices.Sort(out)
	return out
}

func (s *Service) atLocked(arn string) *queue {
	where, ok := idOf(arn)
	if !ok {
		return nil
	}
	return s.queues[where]
}

// request is one call.
type request struct {
	*call.Caller
	s    *Service
	op   string
	body []byte
	done <-chan struct{} // closed when the client has gone
	host string
}

// fault is an error of SQS: code is the one of the older protocol, which the SDK reports.
type fault struct {
	shape string
	*call.Error
}

func faultf(shape, code, format string, args ...any) *fault {
	return &fault{shape: "com.amazonaws.sqs#" + shape, Error: call.Errorf(code, format, args...)}
}

func invalid(format string, args ...any) *fault {
	return faultf("InvalidParameterValue", "InvalidParameterValue", format, args...)
}

// operations are the calls that the fake knows.
func operations() map[string]func(*request) (any, *fault) {
	return map[string]func(*request) (any, *fault){
		"CreateQueue": createQueue, "GetQueueUrl": getQueueURL, "DeleteQueue": deleteQueue, "PurgeQueue": purgeQueue,
		"GetQueueAttributes": getAttributes, "SetQueueAttributes": setAttributes,
		"ListQueueTags": listTags, "TagQueue": tagQueue,
		"SendMessage": sendMessage, "SendMessageBatch": sendBatch, "ReceiveMessage": receiveMessage,
		"DeleteMessage": deleteMessage, "DeleteMessageBatch": deleteBatch,
		"ChangeMessageVisibility": changeVisibility, "ChangeMessageVisibilityBatch": changeBatch,
	}
}

// mostBytes bounds the body of a request: ten messages as JSON.
const mostBytes = 16 << 20

// Serve implements call.Service.
func (s *Service) Serve(w http.ResponseWriter, r *http.Request, caller call.Caller) {
	_, op, _ := strings.Cut(r.Header.Get("X-Amz-Target"), "AmazonSQS.")
	req := &request{Caller: &caller, s: s, op: op, done: r.Context().Done(), host: r.Host}
	answer, bad := req.answer(w, r)
	if bad != nil {
		caller.WriteJSON(w, bad.shape, bad.Error)
		return
	}
	if s.losesAnswer(op) {
		panic(http.ErrAbortHandler) // closes the connection without an answer
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	w.Header().Set("X-Amzn-Requestid", caller.RequestID)
	_ = json.NewEncoder(w).Encode(answer) // a client that has gone does not matter
}

func (r *request) answer(w http.ResponseWriter, h *http.Request) (any, *fault) {
	do, ok := operations()[r.op]
	if !ok {
		return nil, faultf("UnsupportedOperation", "AWS.SimpleQueueService.UnsupportedOperation",
			"the fake SQS has no operation %q", r.op)
	}
	if bad := r.s.failing(r.op); bad != nil {
		return nil, bad
	}
	var raw json.RawMessage
	if err := json.NewDecoder(http.MaxBytesReader(w, h.Body, mostBytes)).Decode(&raw); err != nil {
		return nil, invalid("the body is no JSON: %v", err)
	}
	r.body = raw
	return do(r)
}

// read decodes the body of a request.
func read[T any](r *request) (T, *fault) {
	var in T
	if err := json.Unmarshal(r.body, &in); err != nil {
		return in, invalid("the body of %s: %v", r.op, err)
	}
	return in, nil
}

// ask asks for the permission of an action on a queue.
func (r *request) ask(action string, where id, context call.Context) *fault {
	if context == nil {
		context = call.Context{}
	}
	r.s.mu.Lock()
	if q := r.s.queues[where]; q != nil {
		context.SetTags("aws:ResourceTag", q.tags)
	}
	r.s.mu.Unlock()
	one := call.Call{Action: "sqs:" + action, Resources: []string{where.arn()}, Context: context}
	if err := r.Ask(one); err != nil {
		return &fault{
			shape: "com.amazon.coral.service#AccessDeniedException", Error: r.Denied("AccessDenied", one, err),
		}
	}
	return nil
}

// with asks for permission, and then works on a queue under the service's lock.
func (r *request) with(action, url string, work func(*queue) (any, *fault)) (any, *fault) {
	where, bad := r.named(url)
	if bad != nil {
		return nil, bad
	}
	if bad := r.ask(action, where, nil); bad != nil {
		return nil, bad
	}
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	q := r.s.queues[where]
	if q == nil {
		return nil, missing()
	}
	q.settleLocked()
	return work(q)
}

func missing() *fault {
	return faultf("QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue", "The specified queue does not exist.")
}

// named finds a queue by its URL, https://HOST/ACCOUNT/NAME, in the region that the request is signed for.
func (r *request) named(url string) (id, *fault) {
	parts := strings.Split(strings.TrimSuffix(url, "/"), "/")
	if len(parts) < 3 || !nameForm.MatchString(parts[len(parts)-1]) {
		return id{}, faultf("InvalidAddress", "InvalidAddress", "The address %s is not valid for this endpoint.", url)
	}
	return id{r.Region, parts[len(parts)-2], parts[len(parts)-1]}, nil
}

func (r *request) url(where id) string {
	return "http://" + r.host + "/" + where.account + "/" + where.name
}
