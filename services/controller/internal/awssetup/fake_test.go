package awssetup_test

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"cloudmaster/services/controller/internal/app"
	"cloudmaster/services/controller/internal/awssetup"
	"cloudmaster/services/controller/internal/config"
)

// fakeAWS stands for STS, IAM and EC2 of one account, as far as setup and teardown call them. IAM is one for all
// regions. Security groups belong to the region that a request is signed for.
type fakeAWS struct {
	t        *testing.T
	endpoint string

	mu       sync.Mutex
	roles    map[string]*fakeRole
	profiles map[string]*fakeProfile
	groups   []*fakeGroup
	faults   map[string][]string // the error codes with which the next calls of an action are answered, in order
	calls    []string            // all actions, in order
	images   map[string]string   // the architectures of images, by what they are found by
	params   map[string]string   // the values of SSM parameters
	managed  map[string]bool     // the ARNs of managed policies
	lost     map[string]int      // so many next calls of an action take effect, and are answered with an error of IAM
}

type fakeRole struct {
	Name, Path, Trust, Boundary, Policy string
	Tags                                map[string]string
}

type fakeProfile struct {
	Name string
	Role string // empty if it has none
	Tags map[string]string
}

func newFake(t *testing.T) *fakeAWS {
	t.Helper()
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	f := &fakeAWS{
		t: t, roles: make(map[string]*fakeRole), profiles: make(map[string]*fakeProfile),
		faults: make(map[string][]string), managed: make(map[string]bool), lost: make(map[string]int),
		images: make(map[string]string), params: make(map[string]string),
	}
	srv := httptest.NewServer(http.HandlerFunc(f.serve))
	t.Cleanup(srv.Close)
	f.endpoint = srv.URL
	return f
}

// config has two pools on EC2 in a region; more are further keys of pool fib.
func (f *fakeAWS) config(deployment, region, more string) *config.Config {
	f.t.Helper()
	image := ", image: f"
	if strings.Contains(more, "image:") {
		image = ""
	}
	text := fmt.Sprintf(`deployment: %s
backend: nats://127.0.0.1:4222
clouds: {aws: {type: ec2, region: %s, endpoint: %q}}
pools:
  primes: {policy: job, image: p, cloud: aws}
  fib: {policy: resource%s, cloud: aws, service_port: 20808, client_cidrs: [10.0.0.0/8]%s}
`, deployment, region, f.endpoint, image, more)
	cfg, err := config.Parse("c.yaml", []byte(text), app.Kinds())
	if err != nil {
		f.t.Fatal(err)
	}
	return cfg
}

func (f *fakeAWS) setup(cfg *config.Config) (string, error) {
	var out bytes.Buffer
	err := awssetup.Setup(f.t.Context(), cfg, awssetup.Options{Out: &out})
	return out.String(), err
}

func (f *fakeAWS) mustSetUp(cfg *config.Config) string {
	f.t.Helper()
	out, err := f.setup(cfg)
	try(f.t, err)
	return out
}

func (f *fakeAWS) mustTearDown(cfg *config.Config) string {
	f.t.Helper()
	var out bytes.Buffer
	try(f.t, awssetup.Teardown(f.t.Context(), cfg, awssetup.Options{Out: &out}))
	return out.String()
}

// names are all roles and instance profiles, sorted.
func (f *fakeAWS) names() (roles, profiles []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Sorted(maps.Keys(f.roles)), slices.Sorted(maps.Keys(f.profiles))
}

// called counts the calls of an action.
func (f *fakeAWS) called(action string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, c := range f.calls {
		if c == action {
			n++
		}
	}
	return n
}

// fakeError is an error of IAM or EC2.
type fakeError string

func (f *fakeAWS) serve(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.Header.Get("X-Amz-Target") == "AmazonSSM.GetParameter" {
		f.parameter(w, r)
		return
	}
	if err := r.ParseForm(); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	action := r.Form.Get("Action")
	f.calls = append(f.calls, action)
	var code fakeError
	var body string
	if next := f.faults[action]; len(next) > 0 {
		code, f.faults[action] = fakeError(next[0]), next[1:]
	} else if do, ok := iamActions[action]; ok {
		body, code = do(f, r.Form)
		body = "<" + action + "Result>" + body + "</" + action + "Result>"
	} else if do, ok := ec2Actions[action]; ok {
		body, code = do(f, signedFor(r), r.Form)
	} else {
		code = "InvalidAction"
		f.t.Errorf("got a call of %q, which the fake does not know", action)
	}
	if code == "" && f.lost[action] > 0 {
		f.lost[action]--
		code = "NoAnswer"
	}
	if code != "" {
		w.WriteHeader(http.StatusBadRequest)
		one := "<Error><Code>" + string(code) + "</Code><Message>no</Message></Error>"
		if _, ok := ec2Actions[action]; ok {
			one = "<Response><Errors>" + one + "</Errors></Response>"
		} else {
			one = "<ErrorResponse>" + one + "</ErrorResponse>"
		}
		fmt.Fprint(w, one)
		return
	}
	fmt.Fprintf(w, "<%sResponse>%s</%sResponse>", action, body, action)
}

// signedFor is the region in the request's signature.
func signedFor(r *http.Request) string {
	_, scope, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	return strings.Split(scope, "/")[2]
}

const noEntity fakeError = "NoSuchEntity"

var iamActions = map[string]func(*fakeAWS, url.Values) (string, fakeError){
	"GetCallerIdentity": func(*fakeAWS, url.Values) (string, fakeError) {
		return "<Account>" + account + "</Account>", ""
	},
	"CreateRole": func(f *fakeAWS, in url.Values) (string, fakeError) {
		name := in.Get("RoleName")
		if f.roles[name] != nil {
			return "", "EntityAlreadyExists"
		}
		f.roles[name] = &fakeRole{
			Name: name, Path: "/", Trust: in.Get("AssumeRolePolicyDocument"), Boundary: in.Get("PermissionsBoundary"),
			Tags: formTags(in, "Tags.member.%d."),
		}
		return f.roles[name].xml(), ""
	},
	"CreateServiceLinkedRole": func(f *fakeAWS, in url.Values) (string, fakeError) {
		const name = "AWSServiceRoleForEC2Spot"
		if in.Get("AWSServiceName") != "spot.amazonaws.com" {
			return "", "InvalidInput"
		}
		if f.roles[name] != nil {
			return "", "InvalidInput"
		}
		f.roles[name] = &fakeRole{Name: name, Path: "/aws-service-role/spot.amazonaws.com/"}
		return f.roles[name].xml(), ""
	},
	"GetRole": onRole(func(r *fakeRole, _ url.Values) (string, fakeError) { return r.xml(), "" }),
	"PutRolePolicy": onRole(func(r *fakeRole, in url.Values) (string, fakeError) {
		r.Policy = in.Get("PolicyDocument")
		return "", ""
	}),
	"GetRolePolicy": onRole(func(r *fakeRole, _ url.Values) (string, fakeError) {
		if r.Policy == "" {
			return "", noEntity
		}
		return "<PolicyDocument>" + url.PathEscape(r.Policy) + "</PolicyDocument>", ""
	}),
	"DeleteRolePolicy": onRole(func(r *fakeRole, _ url.Values) (string, fakeError) {
		if r.Policy == "" {
			return "", noEntity
		}
		r.Policy = ""
		return "", ""
	}),
	"UpdateAssumeRolePolicy": onRole(func(r *fakeRole, in url.Values) (string, fakeError) {
		r.Trust = in.Get("PolicyDocument")
		return "", ""
	}),
	"PutRolePermissionsBoundary": onRole(func(r *fakeRole, in url.Values) (string, fakeError) {
		r.Boundary = in.Get("PermissionsBoundary")
		return "", ""
	}),
	"GetPolicy": func(f *fakeAWS, in url.Values) (string, fakeError) {
		if !f.managed[in.Get("PolicyArn")] {
			return "", noEntity
		}
		return "<Policy>" + element("Arn", in.Get("PolicyArn")) + "</Policy>", ""
	},
	"ListRolePolicies": onRole(func(r *fakeRole, _ url.Values) (string, fakeError) {
		if r.Policy == "" {
			return "<PolicyNames/>", ""
		}
		return "<PolicyNames><member>cloudmaster</member></PolicyNames>", ""
	}),
	"ListAttachedRolePolicies": onRole(func(*fakeRole, url.Values) (string, fakeError) {
		return "<AttachedPolicies/>", ""
	}),
	"DeleteRole": func(f *fakeAWS, in url.Values) (string, fakeError) {
		name := in.Get("RoleName")
		if f.roles[name] == nil {
			return "", noEntity
		}
		if f.roles[name].Policy != "" {
			return "", "DeleteConflict"
		}
		delete(f.roles, name)
		return "", ""
	},
	"ListRoles": func(f *fakeAWS, _ url.Values) (string, fakeError) {
		var out strings.Builder
		for _, name := range slices.Sorted(maps.Keys(f.roles)) {
			out.WriteString("<member>" + f.roles[name].inner() + "</member>")
		}
		return "<Roles>" + out.String() + "</Roles>", ""
	},
	"CreateInstanceProfile": func(f *fakeAWS, in url.Values) (string, fakeError) {
		name := in.Get("InstanceProfileName")
		if f.profiles[name] != nil {
			return "", "EntityAlreadyExists"
		}
		f.profiles[name] = &fakeProfile{Name: name, Tags: formTags(in, "Tags.member.%d.")}
		return f.profiles[name].xml(), ""
	},
	"GetInstanceProfile": onProfile(func(_ *fakeAWS, p *fakeProfile, _ url.Values) (string, fakeError) {
		return p.xml(), ""
	}),
	"AddRoleToInstanceProfile": onProfile(func(f *fakeAWS, p *fakeProfile, in url.Values) (string, fakeError) {
		if f.roles[in.Get("RoleName")] == nil {
			return "", noEntity
		}
		if p.Role != "" {
			return "", "LimitExceeded"
		}
		p.Role = in.Get("RoleName")
		return "", ""
	}),
	"RemoveRoleFromInstanceProfile": onProfile(func(_ *fakeAWS, p *fakeProfile, in url.Values) (string, fakeError) {
		if p.Role != in.Get("RoleName") {
			return "", noEntity
		}
		p.Role = ""
		return "", ""
	}),
	"DeleteInstanceProfile": func(f *fakeAWS, in url.Values) (string, fakeError) {
		p := f.profiles[in.Get("InstanceProfileName")]
		if p == nil {
			return "", noEntity
		}
		if p.Role != "" {
			return "", "DeleteConflict"
		}
		delete(f.profiles, p.Name)
		return "", ""
	},
	"ListInstanceProfiles": func(f *fakeAWS, _ url.Values) (string, fakeError) {
		var out strings.Builder
		for _, name := range slices.Sorted(maps.Keys(f.profiles)) {
			out.WriteString("<member>" + f.profiles[name].inner() + "</member>")
		}
		return "<InstanceProfiles>" + out.String() + "</InstanceProfiles>", ""
	},
}

func onRole(do func(*fakeRole, url.Values) (string, fakeError)) func(*fakeAWS, url.Values) (string, fakeError) {
	return func(f *fakeAWS, in url.Values) (string, fakeError) {
		if r := f.roles[in.Get("RoleName")]; r != nil {
			return do(r, in)
		}
		return "", noEntity
	}
}

func onProfile(
	do func(*fakeAWS, *fakeProfile, url.Values) (string, fakeError),
) func(*fakeAWS, url.Values) (string, fakeError) {
	return func(f *fakeAWS, in url.Values) (string, fakeError) {
		if p := f.profiles[in.Get("InstanceProfileName")]; p != nil {
			return do(f, p, in)
		}
		return "", noEntity
	}
}

func (r *fakeRole) xml() string { return "<Role>" + r.inner() + "</Role>" }

func (r *fakeRole) inner() string {
	boundary := ""
	if r.Boundary != "" {
		boundary = "<PermissionsBoundary><PermissionsBoundaryArn>" + r.Boundary +
			"</PermissionsBoundaryArn></PermissionsBoundary>"
	}
	return element("RoleName", r.Name) + element("Path", r.Path) +
		element("AssumeRolePolicyDocument", url.PathEscape(r.Trust)) + boundary + tagsXML("Tags", "member", r.Tags)
}

func (p *fakeProfile) xml() string { return "<InstanceProfile>" + p.inner() + "</InstanceProfile>" }

func (p *fakeProfile) inner() string {
	roles := ""
	if p.Role != "" {
		roles = "<member>" + element("RoleName", p.Role) + "</member>"
	}
	return element("InstanceProfileName", p.Name) + "<Roles>" + roles + "</Roles>" + tagsXML("Tags", "member", p.Tags)
}

func element(name, text string) string {
	var out bytes.Buffer
	_ = xml.EscapeText(&out, []byte(text)) // a buffer takes everything
	return "<" + name + ">" + out.String() + "</" + name + ">"
}

func tagsXML(list, item string, tags map[string]string) string {
	var out strings.Builder
	for _, k := range slices.Sorted(maps.Keys(tags)) {
		key, value := "Key", "Value"
		if item == "item" { // EC2's form
			key, value = "key", "value"
		}
		out.WriteString("<" + item + ">" + element(key, k) + element(value, tags[k]) + "</" + item + ">")
	}
	return "<" + list + ">" + out.String() + "</" + list + ">"
}

// formTags reads the tags of a request; prefix has a place for their numbers.
func formTags(in url.Values, prefix string) map[string]string {
	out := make(map[string]string)
	for i := 1; in.Has(fmt.Sprintf(prefix, i) + "Key"); i++ {
		out[in.Get(fmt.Sprintf(prefix, i)+"Key")] = in.Get(fmt.Sprintf(prefix, i) + "Value")
	}
	return out
}
