// Package events is a fake of EventBridge's default event bus: rules with patterns, and queues of SQS as their targets,
// in all regions. It has the calls that controller setup and teardown make. Tests put events onto the bus.
//
// Sources: EventBridge API Reference; EventBridge User Guide, "Amazon EventBridge event patterns" and "Events from AWS
// services". Every action asks for its permission on the rule's ARN, with aws:ResourceTag/… of its tags; PutRule with
// aws:RequestTag/… and aws:TagKeys, and again for events:TagResource if there are tags; PutTargets with
// events:TargetArn.
package events

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"

	"cloudmaster/integration/aws/call"
)

// Name is the name for which requests to EventBridge are signed.
const Name = "events"

// principal is EventBridge, as the policies of queues name it.
const principal = "events.amazonaws.com"

// mostBody bounds a request.
const mostBody = 1 << 20

// Service is EventBridge in all regions and accounts. Make it with New.
type Service struct {
	deliver func(service, source, queueARN, body string) error

	mu    sync.Mutex
	rules map[string]*rule // by ARN; guarded by mu
}

var _ call.Service = (*Service)(nil)

// rule is a rule of the default bus.
type rule struct {
	name, arn, state, text string
	pattern                pattern
	tags                   map[string]string
	targets                map[string]string // ARNs by id
}

// New returns an EventBridge without rules. deliver sends to a queue for a service of AWS, as sqs.Service.Deliver does.
func New(deliver func(service, source, queueARN, body string) error) *Service {
	return &Service{deliver: deliver, rules: make(map[string]*rule)}
}

// All returns the ARNs of all rules, in order.
func (s *Service) All() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.rules))
}

// request is one call.
type request struct {
	*call.Caller
	s  *Service
	in input
}

// input has the parameters of all calls.
type input struct {
	Name, Rule, ResourceARN, EventPattern, State string
	Tags                                         []tag
	Targets                                      []target
	Ids                                          []string
}

type tag struct{ Key, Value string }

type target struct {
	ID  string `json:"Id"`
	Arn string
}

// handlers are the calls that the fake knows. They are called with the service's lock held.
var handlers = map[string]func(*request) (any, *call.Error){
	"DescribeRule": describeRule, "ListTagsForResource": listTags, "ListTargetsByRule": listTargets,
	"PutRule": putRule, "PutTargets": putTargets, "RemoveTargets": removeTargets, "DeleteRule": deleteRule,
}

// Serve implements call.Service.
func (s *Service) Serve(w http.ResponseWriter, h *http.Request, caller call.Caller) {
	r := &request{Caller: &caller, s: s}
	out, bad := r.answer(w, h)
	if bad != nil {
		caller.WriteJSON(w, bad.Code, bad)
		return
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	_ = json.NewEncoder(w).Encode(out) // a client that has gone does not matter
}

func (r *request) answer(w http.ResponseWriter, h *http.Request) (any, *call.Error) {
	_, op, _ := strings.Cut(h.Header.Get("X-Amz-Target"), "AWSEvents.")
	do := handlers[op]
	if do == nil {
		return nil, call.Errorf("UnknownOperationException", "the fake of EventBridge has no operation %q", op)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, h.Body, mostBody))
	if err == nil {
		err = json.Unmarshal(body, &r.in)
	}
	if err != nil {
		return nil, call.Errorf("SerializationException", "%v", err)
	}
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	return do(r)
}

// arn is the ARN of the rule that a call names.
func (r *request) arn() string {
	if r.in.ResourceARN != "" {
		return r.in.ResourceARN
	}
	name := r.in.Name
	if name == "" {
		name = r.in.Rule
	}
	return "arn:" + call.Partition + ":events:" + r.Region + ":" + r.Principal.Account + ":rule/" + name
}

// may asks for the permission of an action on the call's rule, with further condition keys.
func (r *request) may(action string, more call.Context) *call.Error {
	context := call.Context{}
	maps.Copy(context, more)
	if have := r.s.rules[r.arn()]; have != nil {
		context.SetTags("aws:ResourceTag", have.tags)
	}
	one := call.Call{Action: "events:" + action, Resources: []string{r.arn()}, Context: context}
	if why := r.Ask(one); why != nil {
		return r.Denied("AccessDeniedException", one, why)
	}
	return nil
}

// rule returns the rule that a call names, if the caller may do that.
func (r *request) rule(action string, more call.Context) (*rule, *call.Error) {
	if bad := r.may(action, more); bad != nil {
		return nil, bad
	}
	have := r.s.rules[r.arn()]
	if have == nil {
		return nil, call.Errorf("ResourceNotFoundException", "Rule %s does not exist on EventBus default.", r.arn())
	}
	return have, nil
}
