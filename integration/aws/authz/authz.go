// Package authz decides for the fake AWS whether a call may be made, by the IAM policies that CloudMaster ships and
// those that its setup has written into roles.
//
// Each action has the resources and the condition keys that AWS documents for it; Actions lists them, and what calls
// the fake must give exactly these keys. A policy with a condition on a key that nobody gives would be tested with the
// key missing, so such a policy is refused when it is loaded, as is one with an action that is not in the list.
//
// What is refused is kept, so that a test can fail on it although the program that was refused went on.
package authz

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"cloudmaster/integration/aws/call"
	"cloudmaster/integration/aws/iampolicy"
)

// Roles knows what roles may do. The fake IAM is one.
type Roles interface {
	// Role returns the policies of a role, and its permissions boundary or nil; false if the role does not exist.
	Role(account, name string) (identity []*iampolicy.Document, boundary *iampolicy.Document, ok bool)
}

// Refusal is a call that was not allowed.
type Refusal struct {
	Principal, Action, Resource, Why string
}

// String says who may not do what, and why.
func (r Refusal) String() string {
	return fmt.Sprintf("%s may not %s on %s %s", r.Principal, r.Action, r.Resource, r.Why)
}

// Authorizer decides by IAM policies. Make it with New.
type Authorizer struct {
	roles    Roles
	resource func(arn string) *iampolicy.Document

	mu      sync.Mutex
	users   map[string][]*iampolicy.Document // by ARN of a user
	refused []Refusal
	broken  []error
}

var _ call.Authorizer = (*Authorizer)(nil)

// New returns an authorizer. roles and resource may be nil: roles has what roles may do, and resource returns the
// policy of a queue or bucket, or nil.
func New(roles Roles, resource func(arn string) *iampolicy.Document) *Authorizer {
	return &Authorizer{roles: roles, resource: resource, users: make(map[string][]*iampolicy.Document)}
}

// Grant gives an IAM policy to a user, after it was checked.
func (a *Authorizer) Grant(userARN string, doc *iampolicy.Document) error {
	if err := Check(doc); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.users[userARN] = append(a.users[userARN], doc)
	return nil
}

// Refused are the calls that were not allowed, in their order.
func (a *Authorizer) Refused() []Refusal {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.refused)
}

// Err returns what makes the authorizer's decisions worthless: actions that are not in the list, and policies that do
// not pass Check. A test that uses the authorizer fails on it.
func (a *Authorizer) Err() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return errors.Join(a.broken...)
}

// Authorize implements call.Authorizer. A root user may do everything.
func (a *Authorizer) Authorize(p call.Principal, c call.Call) error {
	if p.IsRoot() {
		return nil
	}
	if err := known(&c); err != nil {
		return a.fail(err)
	}
	policies, err := a.policies(&p)
	if err != nil {
		return a.fail(err)
	}
	who := iampolicy.Principal{Account: p.Account, ARN: p.ARN}
	if p.Role != "" {
		who.Role = p.RoleARN()
	}
	for _, arn := range c.Resources {
		policies.Resource = nil
		if a.resource != nil {
			policies.Resource = a.resource(arn)
		}
		r := &iampolicy.Request{
			Action: c.Action, Resource: arn, Owner: owner(arn), Principal: who, Context: c.Context,
		}
		decision, err := iampolicy.Evaluate(policies, r)
		if err != nil {
			return a.fail(err)
		}
		if !decision.Allowed {
			return a.refuse(Refusal{Principal: p.ARN, Action: c.Action, Resource: arn, Why: decision.Why})
		}
	}
	return nil
}

// policies are those of a principal.
func (a *Authorizer) policies(p *call.Principal) (*iampolicy.Policies, error) {
	out := &iampolicy.Policies{}
	a.mu.Lock()
	out.Identity = slices.Clone(a.users[p.ARN])
	a.mu.Unlock()
	if p.Role == "" || a.roles == nil {
		return out, nil
	}
	identity, boundary, _ := a.roles.Role(p.Account, p.Role)
	out.Identity, out.Boundary = append(out.Identity, identity...), boundary
	for _, doc := range append(slices.Clone(identity), boundary) {
		if doc == nil {
			continue
		}
		if err := Check(doc); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (a *Authorizer) fail(err error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.broken = append(a.broken, err)
	return err
}

func (a *Authorizer) refuse(r Refusal) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.refused = append(a.refused, r)
	return errors.New(r.Why)
}

// known refuses a call that the list does not have, so that no service of the fake asks for something made up.
func known(c *call.Call) error {
	action := find(c.Action)
	if action == nil {
		return fmt.Errorf("action %s is not in the list of package authz: add its line", c.Action)
	}
	if len(c.Resources) == 0 {
		return fmt.Errorf("%s is asked for no resource", c.Action)
	}
	for _, arn := range c.Resources {
		if _, ok := action.types()[kindOf(arn)]; !ok {
			return fmt.Errorf("%s is asked for on %s, and its line in package authz has no such type", c.Action, arn)
		}
	}
	return nil
}

// owner is the account of a resource; empty if its ARN has none, as for objects, images and *.
func owner(arn string) string {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) < 6 {
		return ""
	}
	return parts[4]
}

// Check returns an error if a policy names an action that is not in the list, or has a condition on a key that the fake
// does not give for one of the statement's actions and types of resources. Of a pattern, one action that has the key
// is enough, because the others are not meant by that condition.
func Check(doc *iampolicy.Document) error {
	var errs []error
	for i := range doc.Statements {
		s := &doc.Statements[i]
		for _, pattern := range s.Actions {
			if err := checkAction(s, pattern); err != nil {
				errs = append(errs, fmt.Errorf("IAM policy %s, statement %q: %w", doc.Name, s.Sid, err))
			}
		}
	}
	return errors.Join(errs...)
}

func checkAction(s *iampolicy.Statement, pattern string) error {
	actions := matching(pattern)
	if len(actions) == 0 {
		return fmt.Errorf("no action %s is in the list of package authz: correct it, or add its line", pattern)
	}
	for _, c := range s.Conditions {
		if !slices.ContainsFunc(actions, func(a *Action) bool { return a.givesOn(s, c.Key) }) {
			return fmt.Errorf("the fake gives no key %s for %s on %s: correct the condition, or let the fake give "+
				"it and add it to the line of package authz", c.Key, pattern, strings.Join(s.Resources, ", "))
		}
	}
	return nil
}

// givesOn reports whether the key comes with the action on every type of resource in the statement that the action
// has. A statement for several actions names types that only some of them have.
func (a *Action) givesOn(s *iampolicy.Statement, key string) bool {
	kinds := []string{"*"}
	if !s.NotRes {
		kinds = kinds[:0]
		for _, arn := range s.Resources {
			kind := kindOf(arn)
			if _, has := a.types()[kind]; has || kind == "*" {
				kinds = append(kinds, kind)
			}
		}
	}
	return len(kinds) > 0 && !slices.ContainsFunc(kinds, func(kind string) bool { return !a.gives(kind, key) })
}
