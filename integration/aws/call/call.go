// Package call has the words that the services of the fake AWS share: who makes a call, what the call does to which
// resources, who decides whether it may, and how each service says no.
package call

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Partition is the partition of all accounts of the fake.
const Partition = "aws"

// Principal is who makes a call. The zero value is nobody.
type Principal struct {
	Account string // 12 digits
	ARN     string // arn:aws:iam::ACCOUNT:user/NAME, or arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION
	UserID  string // the unique id: AIDA… of a user, AROA…:SESSION of a session of a role
	// Role is the name of the role of a session; empty for users and the account's root.
	Role string
	// Context are condition keys that come with the session, such as ec2:SourceInstanceARN.
	Context Context
}

// Root is the root user of an account, who may do everything.
func Root(account string) Principal {
	return Principal{Account: account, ARN: "arn:" + Partition + ":iam::" + account + ":root", UserID: account}
}

// Session is a session of a role. On an instance, EC2 names the session after the instance.
func Session(account, role, roleID, session string) Principal {
	return Principal{
		Account: account, Role: role, UserID: roleID + ":" + session,
		ARN: "arn:" + Partition + ":sts::" + account + ":assumed-role/" + role + "/" + session,
	}
}

// IsRoot reports whether the principal is its account's root user.
func (p *Principal) IsRoot() bool { return strings.HasSuffix(p.ARN, ":root") }

// RoleARN is the ARN of the role of a session, which aws:PrincipalArn holds; for others, their own ARN.
func (p *Principal) RoleARN() string {
	if p.Role == "" {
		return p.ARN
	}
	return "arn:" + Partition + ":iam::" + p.Account + ":role/" + p.Role
}

// Context are the values of condition keys. Keys are written as in AWS's documentation (aws:RequestTag/team,
// ec2:InstanceType), and compared without regard to case. A key that is absent is not in the request.
type Context map[string][]string

// Set gives a key one value.
func (c Context) Set(key, value string) { c[key] = []string{value} }

// SetTags gives aws:RequestTag/KEY or aws:ResourceTag/KEY a value for each tag; prefix is one of these without the key.
func (c Context) SetTags(prefix string, tags map[string]string) {
	for key, value := range tags {
		c.Set(prefix+"/"+key, value)
	}
}

// SetRequestTags sets aws:RequestTag/KEY for each tag, and aws:TagKeys to all keys. Without tags it sets nothing.
func (c Context) SetRequestTags(tags map[string]string) {
	if len(tags) == 0 {
		return
	}
	c.SetTags("aws:RequestTag", tags)
	c["aws:TagKeys"] = slices.Sorted(maps.Keys(tags))
}

// Call is an action on resources. A service whose action touches resources of several kinds, as RunInstances does,
// makes one Call for each, because each has condition keys of its own. All of them must be allowed.
type Call struct {
	Action    string   // ec2:RunInstances
	Resources []string // ARNs, each of which must be allowed; {"*"} for actions on no resource
	Context   Context  // what holds for these resources; Caller.Ask adds the global keys
}

// Authorizer decides whether calls may be made. It may be called concurrently.
type Authorizer interface {
	// Authorize returns nil if the call is allowed, or else why not, such as "because no identity-based policy
	// allows the sqs:SendMessage action". The call's context holds the global keys too.
	Authorize(p Principal, c Call) error
}

// Service is one service of the fake. The request's body is unread.
type Service interface {
	Serve(w http.ResponseWriter, r *http.Request, caller Caller)
}

// Caller is who has made the request that a service serves, and the request's own circumstances.
type Caller struct {
	Principal Principal
	Region    string // for which the request is signed
	RequestID string
	Now       time.Time // when it came
	// Gate decides and keeps the log; nil allows everything and keeps none.
	Gate Gate
}

// Gate notes the actions of each request, and asks the authorizer.
type Gate interface {
	// Pass notes the call, and returns why it is denied, or nil.
	Pass(caller *Caller, c Call) error
	// Note notes an action that needs no permission.
	Note(caller *Caller, action string)
}

// Ask notes a call and returns nil if it is allowed, or else why not. A service asks before it does anything, for
// every action that a request needs. The context that is given is completed with the global keys.
func (c *Caller) Ask(one Call) error {
	if c.Gate == nil {
		return nil
	}
	one.Context = c.complete(one.Context)
	return c.Gate.Pass(c, one)
}

// Note notes an action that needs no permission.
func (c *Caller) Note(action string) {
	if c.Gate != nil {
		c.Gate.Note(c, action)
	}
}

// complete returns the context with the keys that every request has. Source: IAM User Guide, "AWS global condition
// context keys".
func (c *Caller) complete(given Context) Context {
	out := Context{}
	maps.Copy(out, c.Principal.Context)
	out.Set("aws:PrincipalAccount", c.Principal.Account)
	out.Set("aws:PrincipalArn", c.Principal.RoleARN())
	out.Set("aws:userid", c.Principal.UserID)
	out.Set("aws:RequestedRegion", c.Region)
	out.Set("aws:CurrentTime", c.Now.UTC().Format(time.RFC3339))
	out.Set("aws:EpochTime", strconv.FormatInt(c.Now.Unix(), 10))
	out.Set("aws:SecureTransport", "false") // the fake speaks plain HTTP
	maps.Copy(out, given)
	return out
}
