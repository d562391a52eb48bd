// Package iam is a fake of IAM, as its documentation describes it, for what CloudMaster's setup and teardown call:
// roles, instance profiles, IAM policies in roles and of their own, permissions boundaries, tags, service-linked roles.
// It speaks the query protocol, and is one for all regions.
//
// What was made or changed takes effect only after Options.Lag: until then a new role or instance profile does not
// exist for other calls, and a role does what its earlier policies say. IAM promises no time for this.
//
// Sources: IAM API Reference; IAM User Guide, "IAM and AWS STS quotas", "IAM identifiers", and "Troubleshooting IAM",
// "Changes that I make are not always immediately visible".
//
// Every action asks for its permission on the ARN of its role or instance profile, with aws:ResourceTag/… of its tags
// and iam:PermissionsBoundary of a role that has one. Actions that make things ask with aws:RequestTag/…, aws:TagKeys
// and iam:PermissionsBoundary of the request, and for iam:TagRole or iam:TagInstanceProfile if there are tags.
// AddRoleToInstanceProfile also asks for iam:PassRole with iam:PassedToService.
package iam

import (
	"encoding/xml"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"cloudmaster/integration/aws/call"
	"cloudmaster/integration/aws/iampolicy"
)

// Options are the settings of New; zero values work.
type Options struct {
	Now func() time.Time // default time.Now
	Lag time.Duration    // until changes take effect
}

// Service is IAM of all accounts. Make it with New.
type Service struct {
	opts Options

	mu       sync.Mutex
	roles    map[key]*role    // guarded by mu
	profiles map[key]*profile // guarded by mu
	policies map[string]*managed
	fails    map[string][]string // error codes by action, in order; guarded by mu
}

// key is a name in an account.
type key struct{ account, name string }

type role struct {
	name, path, id, description string
	account, boundary           string
	trust                       string
	made                        time.Time
	tags                        map[string]string
	inline                      map[string]*inline
	attached                    []string // ARNs
}

// inline is an IAM policy in a role.
type inline struct {
	text     string
	now, was *iampolicy.Document // was is in force until the change is known
	changed  time.Time
	gone     bool // it was deleted, and that is not known yet
}

type profile struct {
	name, id, account, role string
	made, changed           time.Time
	tags                    map[string]string
}

// managed is an IAM policy of its own.
type managed struct {
	arn, name, id, text string
	doc                 *iampolicy.Document
}

// New returns an IAM without roles.
func New(opts Options) *Service {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	return &Service{
		opts: opts, roles: make(map[key]*role), profiles: make(map[key]*profile),
		policies: make(map[string]*managed), fails: make(map[string][]string),
	}
}

// Fail makes the next calls of an action fail with these error codes.
func (s *Service) Fail(action string, codes ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fails[action] = append(s.fails[action], codes...)
}

// known reports whether what was done at a time has taken effect.
func (s *Service) known(at time.Time) bool { return !s.opts.Now().Before(at.Add(s.opts.Lag)) }

// Role implements authz.Roles: what a role may do at this moment.
func (s *Service) Role(account, name string) (identity []*iampolicy.Document, boundary *iampolicy.Document, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.roles[key{account, name}]
	if r == nil || !s.known(r.made) {
		return nil, nil, false
	}
	for _, policy := range slices.Sorted(maps.Keys(r.inline)) {
		p := r.inline[policy]
		doc := p.now
		if !s.known(p.changed) {
			doc = p.was
		}
		if doc != nil {
			identity = append(identity, doc)
		}
	}
	for _, arn := range r.attached {
		identity = append(identity, s.policies[arn].doc)
	}
	if m := s.policies[r.boundary]; m != nil {
		boundary = m.doc
	}
	return identity, boundary, true
}

// Profiles returns what EC2 asks for the role of an instance profile in an account.
func (s *Service) Profiles(account string) func(name string) (role string, ok bool) {
	return func(name string) (string, bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		p := s.profiles[key{account, name}]
		if p == nil || p.role == "" || !s.known(p.changed) {
			return "", false
		}
		return p.role, true
	}
}

// Session is what an instance with a role calls AWS as; false if the role does not exist, or EC2 may not assume it.
func (s *Service) Session(account, name, instance string) (call.Principal, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.roles[key{account, name}]
	if r == nil || !s.known(r.made) {
		return call.Principal{}, false
	}
	doc, err := iampolicy.Parse("trust policy of "+name, iampolicy.Trust, []byte(r.trust))
	if err != nil {
		return call.Principal{}, false
	}
	decision, err := iampolicy.Evaluate(&iampolicy.Policies{Resource: doc}, &iampolicy.Request{
		Action: "sts:AssumeRole", Resource: r.arn(), Principal: iampolicy.Principal{Service: "ec2.amazonaws.com"},
	})
	if err != nil || !decision.Allowed {
		return call.Principal{}, false
	}
	return call.Session(account, name, r.id, instance), true
}

func (r *role) arn() string { return arn(r.account, "role"+r.path+r.name) }

func arn(account, resource string) string {
	return "arn:" + call.Partition + ":iam::" + account + ":" + resource
}

// request is one call.
type request struct {
	*call.Caller
	s      *Service
	action string
	form   url.Values
}

func (r *request) key(param string) key { return key{r.Principal.Account, r.form.Get(param)} }

// Serve implements call.Service.
func (s *Service) Serve(w http.ResponseWriter, h *http.Request, caller call.Caller) {
	const most = 1 << 20
	h.Body = http.MaxBytesReader(w, h.Body, most)
	if err := h.ParseForm(); err != nil {
		caller.WriteQuery(w, call.Errorf("MalformedInput", "%v", err))
		return
	}
	r := &request{Caller: &caller, s: s, action: h.Form.Get("Action"), form: h.Form}
	result, bad := r.answer()
	if bad != nil {
		caller.WriteQuery(w, bad)
		return
	}
	out, err := xml.Marshal(response{
		XMLName: xml.Name{Local: r.action + "Response"}, Space: "https://iam.amazonaws.com/doc/2010-05-08/",
		Result:    outcome{XMLName: xml.Name{Local: r.action + "Result"}, Parts: parts(result)},
		RequestID: caller.RequestID,
	})
	if err != nil {
		caller.WriteQuery(w, &call.Error{Status: 500, Code: "ServiceFailure", Message: err.Error()})
		return
	}
	w.Header().Set("Content-Type", "text/xml")
	_, _ = w.Write(out) // a client that has gone does not matter
}

type response struct {
	XMLName   xml.Name
	Space     string `xml:"xmlns,attr"`
	Result    outcome
	RequestID string `xml:"ResponseMetadata>RequestId"`
}

type outcome struct {
	XMLName xml.Name
	Parts   []any
}

// text is an element with text in it.
type text struct {
	XMLName xml.Name
	Text    string `xml:",chardata"`
}

func element(name, content string) text { return text{xml.Name{Local: name}, content} }

// parts are the elements of a result: none, one, or several.
func parts(result any) []any {
	switch result := result.(type) {
	case nil:
		return nil
	case []any:
		return result
	}
	return []any{result}
}

// operation is an action: what it is done to, and how. The service is locked meanwhile.
type operation struct {
	on string // role, instance-profile, policy, or one with a slash for all: role/
	do func(*request) (any, *call.Error)
}

func operations() map[string]operation {
	const onRole, onProfile, onPolicy = "role", "instance-profile", "policy"
	return map[string]operation{
		"CreateRole":                    {onRole, createRole},
		"GetRole":                       {onRole, getRole},
		"DeleteRole":                    {onRole, deleteRole},
		"UpdateAssumeRolePolicy":        {onRole, updateTrust},
		"TagRole":                       {onRole, tagRole},
		"ListRoles":                     {"role/", listRoles},
		"PutRolePolicy":                 {onRole, putRolePolicy},
		"GetRolePolicy":                 {onRole, getRolePolicy},
		"DeleteRolePolicy":              {onRole, deleteRolePolicy},
		"ListRolePolicies":              {onRole, listRolePolicies},
		"AttachRolePolicy":              {onRole, attachRolePolicy},
		"DetachRolePolicy":              {onRole, detachRolePolicy},
		"ListAttachedRolePolicies":      {onRole, listAttached},
		"PutRolePermissionsBoundary":    {onRole, putBoundary},
		"DeleteRolePermissionsBoundary": {onRole, deleteBoundary},
		"CreateServiceLinkedRole":       {onRole, createLinked},
		"CreatePolicy":                  {onPolicy, createPolicy},
		"GetPolicy":                     {onPolicy, getPolicy},
		"CreateInstanceProfile":         {onProfile, createProfile},
		"GetInstanceProfile":            {onProfile, getProfile},
		"DeleteInstanceProfile":         {onProfile, deleteProfile},
		"ListInstanceProfiles":          {"instance-profile/", listProfiles},
		"TagInstanceProfile":            {onProfile, tagProfile},
		"AddRoleToInstanceProfile":      {onProfile, addRole},
		"RemoveRoleFromInstanceProfile": {onProfile, removeRole},
	}
}

func (r *request) answer() (any, *call.Error) {
	op, ok := operations()[r.action]
	if !ok {
		return nil, call.Errorf("InvalidAction", "the fake IAM has no action %q", r.action)
	}
	if bad := r.permitted(&op); bad != nil {
		return nil, bad
	}
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	if next := r.s.fails[r.action]; len(next) > 0 {
		r.s.fails[r.action] = next[1:]
		return nil, call.Errorf(next[0], "a fault that a test asked for")
	}
	return op.do(r)
}

// permitted asks for every permission that the action needs.
func (r *request) permitted(op *operation) *call.Error {
	if r.Gate == nil {
		return nil
	}
	asks := []call.Call{r.target(op)}
	if tags := r.tags(); len(tags) > 0 && strings.HasPrefix(r.action, "Create") {
		tag := map[string]string{"role": "iam:TagRole", "instance-profile": "iam:TagInstanceProfile"}[op.on]
		context := call.Context{}
		context.SetRequestTags(tags)
		asks = append(asks, call.Call{Action: tag, Resources: asks[0].Resources, Context: context})
	}
	if r.action == "AddRoleToInstanceProfile" {
		pass := operation{on: "role"}
		one := r.target(&pass)
		one.Action = "iam:PassRole"
		one.Context.Set("iam:PassedToService", "ec2.amazonaws.com")
		asks = append(asks, one)
	}
	for _, one := range asks {
		if err := r.Ask(one); err != nil {
			return r.Denied("AccessDenied", one, err)
		}
	}
	return nil
}

// target is what the action is asked for: its resource, with what holds for that.
func (r *request) target(op *operation) call.Call {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	context := call.Context{}
	resource := arn(r.Principal.Account, op.on)
	switch op.on {
	case "role":
		resource = r.roleTarget(context)
	case "instance-profile":
		k := r.key("InstanceProfileName")
		resource = arn(k.account, "instance-profile/"+k.name)
		if p := r.s.profiles[k]; p != nil {
			context.SetTags("aws:ResourceTag", p.tags)
		}
	case "policy":
		resource = r.form.Get("PolicyArn")
		if resource == "" {
			resource = arn(r.Principal.Account, "policy/"+r.form.Get("PolicyName"))
		}
	}
	context.SetRequestTags(r.tags())
	if boundary := r.form.Get("PermissionsBoundary"); boundary != "" {
		context.Set("iam:PermissionsBoundary", boundary)
	}
	return call.Call{Action: "iam:" + r.action, Resources: []string{resource}, Context: context}
}

func (r *request) roleTarget(context call.Context) string {
	k := r.key("RoleName")
	if service := r.form.Get("AWSServiceName"); service != "" {
		context.Set("iam:AWSServiceName", service)
		return arn(k.account, "role/aws-service-role/"+service+"/"+linkedName(service))
	}
	if policy := r.form.Get("PolicyArn"); policy != "" {
		context.Set("iam:PolicyARN", policy)
	}
	have := r.s.roles[k]
	if have == nil {
		if service, ok := linkedService(k.name); ok {
			return arn(k.account, "role/aws-service-role/"+service+"/"+k.name)
		}
		return arn(k.account, "role/"+k.name)
	}
	context.SetTags("aws:ResourceTag", have.tags)
	if have.boundary != "" {
		context.Set("iam:PermissionsBoundary", have.boundary)
	}
	return have.arn()
}

// tags are those of the request.
func (r *request) tags() map[string]string {
	out := make(map[string]string)
	for i := 1; ; i++ {
		prefix := "Tags.member." + strconv.Itoa(i) + "."
		name := r.form.Get(prefix + "Key")
		if name == "" {
			return out
		}
		out[name] = r.form.Get(prefix + "Value")
	}
}
