// Package ec2 is a fake of EC2 behind its query protocol. It keeps instances, images, security groups, subnets and
// VPCs of several regions in memory, and behaves as EC2's documentation tells of it where LocalStack does not: client
// tokens, capacity by instance type, zone and market, partial launches, request throttling, lists that lag behind, the
// reasons why instances ended, and the resources and condition keys with which IAM is asked.
//
// Instances run nothing. Whoever wants to run something for them watches them; see Fake.Watch.
//
// docs/assumptions.md says where each behaviour is documented.
package ec2

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"cloudmaster/integration/aws/call"
)

// mostBody bounds a request. EC2 takes 16 KiB of user data, and requests are a little larger.
const mostBody = 1 << 20

// Options are the settings of New; zero values work.
type Options struct {
	Account string           // owns everything that calls make; default 123456789012
	Now     func() time.Time // default time.Now
	// Profiles returns the role of an instance profile, by the profile's name. Nil: there is every profile, with a
	// role of its own name.
	Profiles func(name string) (role string, ok bool)
}

// Fake is EC2 in all regions. Its methods may be called concurrently.
type Fake struct {
	opts Options

	mu       sync.Mutex
	regions  map[string]*Region // by name; guarded by mu
	watchers []func(Event)      // guarded by mu
}

var _ call.Service = (*Fake)(nil)

// DefaultAccount owns what is made in the fake if nobody says otherwise.
const DefaultAccount = "123456789012"

// New returns an EC2 in which every region has a default VPC and no instances.
func New(opts Options) *Fake {
	if opts.Account == "" {
		opts.Account = DefaultAccount
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	return &Fake{opts: opts, regions: make(map[string]*Region)}
}

// Region returns a region, through which tests steer what happens there. It exists from the first time that it is
// asked for.
func (f *Fake) Region(name string) *Region {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.regions[name]
	if r == nil {
		r = newRegion(f, name)
		f.regions[name] = r
	}
	return r
}

// request is one call of EC2.
type request struct {
	call.Caller

	form url.Values
	now  time.Time
}

// handler answers an action. It is called with the region's lock held. What it returns is the content of the answer.
type handler func(r *Region, in *request) (any, error)

// actions are what the fake can do.
var actions = map[string]handler{
	"RunInstances":                               (*Region).runInstances,
	"DescribeInstances":                          (*Region).describeInstances,
	"DescribeInstanceStatus":                     (*Region).describeStatus,
	"DescribeInstanceAttribute":                  (*Region).describeAttribute,
	"TerminateInstances":                         (*Region).terminateInstances,
	"StopInstances":                              (*Region).stopInstances,
	"StartInstances":                             (*Region).startInstances,
	"CreateTags":                                 (*Region).createTags,
	"DescribeImages":                             (*Region).describeImages,
	"DescribeInstanceTypes":                      (*Region).describeTypes,
	"DescribeSubnets":                            (*Region).describeSubnets,
	"DescribeVpcs":                               (*Region).describeVpcs,
	"DescribeSecurityGroups":                     (*Region).describeGroups,
	"CreateSecurityGroup":                        (*Region).createGroup,
	"DeleteSecurityGroup":                        (*Region).deleteGroup,
	"AuthorizeSecurityGroupIngress":              (*Region).authorizeIngress,
	"RevokeSecurityGroupIngress":                 (*Region).revokeIngress,
	"UpdateSecurityGroupRuleDescriptionsIngress": (*Region).describeIngress,
}

// Serve implements call.Service.
func (f *Fake) Serve(w http.ResponseWriter, r *http.Request, caller call.Caller) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, mostBody))
	if err != nil {
		panic(http.ErrAbortHandler) // the caller is gone, or sends more than EC2 takes
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		caller.WriteEC2(w, call.Errorf("MalformedQueryString", "The query string contains a syntax error: %v", err))
		return
	}
	action := form.Get("Action")
	do := actions[action]
	if do == nil {
		caller.WriteEC2(w, call.Errorf("InvalidAction", "The action %s is not valid for this web service.", action))
		return
	}
	region := f.Region(caller.Region)
	answer, events, err := region.do(action, do, &request{Caller: caller, form: form, now: f.opts.Now()})
	f.tell(events)
	if err != nil {
		caller.WriteEC2(w, asError(err))
		return
	}
	writeXML(w, &caller, action, answer)
}

// do answers one call under the region's lock, and returns what happened to instances meanwhile.
func (r *Region) do(action string, do handler, in *request) (answer any, events []Event, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.advance(in.now)
	if err := r.throttle(action, in); err != nil {
		return nil, nil, err
	}
	if strings.HasPrefix(action, "Describe") {
		one := call.Call{Action: "ec2:" + action, Resources: []string{"*"}, Context: r.context()}
		if err := in.allowed(one); err != nil {
			return nil, nil, err
		}
	}
	answer, err = do(r, in)
	events, r.events = r.events, nil
	return answer, events, err
}

// allowed asks whether a call may be made.
func (in *request) allowed(one call.Call) error {
	if why := in.Ask(one); why != nil {
		denied := in.Denied("UnauthorizedOperation", one, why)
		denied.Message = "You are not authorized to perform this operation. " + denied.Message
		return denied
	}
	return nil
}

// asError returns an error as EC2 answers it.
func asError(err error) *call.Error {
	if e, ok := err.(*call.Error); ok { //nolint:errorlint // handlers do not wrap what they answer
		return e
	}
	return &call.Error{Status: http.StatusInternalServerError, Code: "InternalError", Message: err.Error()}
}
