package iam

import (
	"crypto/rand"
	"encoding/xml"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"cloudmaster/integration/aws/call"
	"cloudmaster/integration/aws/iampolicy"
)

// IAM's limits, in characters without white space for policies. Source: IAM User Guide, "IAM and AWS STS quotas".
const (
	mostInline  = 10_240 // all of a role together
	mostManaged = 6_144
	mostTrust   = 2_048
	mostTags    = 50
	mostTagKey  = 128
	mostTagText = 256
	pageSize    = 100
)

var (
	roleForm    = regexp.MustCompile(`^[\w+=,.@-]{1,64}$`)
	profileForm = regexp.MustCompile(`^[\w+=,.@-]{1,128}$`)
)

// linked are the service-linked roles that can be made here, by service.
var linked = map[string]string{"spot.amazonaws.com": "AWSServiceRoleForEC2Spot"}

func linkedName(service string) string { return linked[service] }

func linkedService(name string) (string, bool) {
	for service, of := range linked {
		if of == name {
			return service, true
		}
	}
	return "", false
}

func conflict(code, format string, args ...any) *call.Error {
	e := call.Errorf(code, format, args...)
	e.Status = http.StatusConflict
	return e
}

func noEntity(kind, name string) *call.Error {
	e := call.Errorf("NoSuchEntity", "The %s with name %s cannot be found.", kind, name)
	e.Status = http.StatusNotFound
	return e
}

func newID(prefix string) string { return prefix + rand.Text()[:17] }

// length counts as IAM does: without white space.
func length(text string) int {
	n := 0
	for _, r := range text {
		if !unicode.IsSpace(r) {
			n++
		}
	}
	return n
}

// xmlRole is a role as IAM answers it. Documents are in URL encoding.
type xmlRole struct {
	XMLName     xml.Name
	Path        string
	RoleName    string
	RoleID      string `xml:"RoleId"`
	Arn         string
	CreateDate  string
	Document    string       `xml:"AssumeRolePolicyDocument"`
	Description string       `xml:",omitempty"`
	Boundary    *xmlBoundary `xml:"PermissionsBoundary"`
	Tags        []xmlTag     `xml:"Tags>member"`
}

type xmlBoundary struct {
	Type string `xml:"PermissionsBoundaryType"`
	Arn  string `xml:"PermissionsBoundaryArn"`
}

type xmlTag struct{ Key, Value string }

func xmlTags(tags map[string]string) []xmlTag {
	var out []xmlTag
	for _, name := range slices.Sorted(maps.Keys(tags)) {
		out = append(out, xmlTag{name, tags[name]})
	}
	return out
}

func (r *role) xml(element string) xmlRole {
	out := xmlRole{
		XMLName: xml.Name{Local: element}, Path: r.path, RoleName: r.name, RoleID: r.id, Arn: r.arn(),
		CreateDate: r.made.UTC().Format(time.RFC3339), Document: url.PathEscape(r.trust), Description: r.description,
		Tags: xmlTags(r.tags),
	}
	if r.boundary != "" {
		out.Boundary = &xmlBoundary{Type: "Policy", Arn: r.boundary}
	}
	return out
}

// role finds a role that is known by now.
func (r *request) role() (*role, *call.Error) {
	k := r.key("RoleName")
	have := r.s.roles[k]
	if have == nil || !r.s.known(have.made) {
		return nil, noEntity("role", k.name)
	}
	return have, nil
}

func createRole(r *request) (any, *call.Error) {
	k := r.key("RoleName")
	trust, path := r.form.Get("AssumeRolePolicyDocument"), r.form.Get("Path")
	if path == "" {
		path = "/"
	}
	switch {
	case !roleForm.MatchString(k.name):
		return nil, call.Errorf("ValidationError", "%q is no name for a role: 1 to 64 of A-Z a-z 0-9 _+=,.@-", k.name)
	case r.s.roles[k] != nil:
		return nil, conflict("EntityAlreadyExists", "Role with name %s already exists.", k.name)
	}
	if bad := checkTrust(trust); bad != nil {
		return nil, bad
	}
	tags := r.tags()
	if bad := checkTags(tags); bad != nil {
		return nil, bad
	}
	boundary := r.form.Get("PermissionsBoundary")
	if boundary != "" && r.s.policies[boundary] == nil {
		return nil, noBoundary(boundary)
	}
	made := &role{
		name: k.name, path: path, id: newID("AROA"), account: k.account, trust: trust, boundary: boundary,
		description: r.form.Get("Description"), made: r.s.opts.Now(), tags: tags, inline: make(map[string]*inline),
	}
	r.s.roles[k] = made
	return made.xml("Role"), nil
}

func noBoundary(arn string) *call.Error {
	e := call.Errorf("NoSuchEntity", "Scope ARN: %s does not exist or is not attachable.", arn)
	e.Status = http.StatusNotFound
	return e
}

func checkTrust(text string) *call.Error {
	if _, err := iampolicy.Parse("trust policy", iampolicy.Trust, []byte(text)); err != nil {
		return call.Errorf("MalformedPolicyDocument", "%v", err)
	}
	if length(text) > mostTrust {
		return conflict("LimitExceeded", "Cannot exceed quota for ACLSizePerRole: %d", mostTrust)
	}
	return nil
}

func checkTags(tags map[string]string) *call.Error {
	if len(tags) > mostTags {
		return conflict("LimitExceeded", "The number of tags has reached the maximum limit: %d", mostTags)
	}
	seen := make(map[string]bool)
	for name, value := range tags {
		switch {
		case len([]rune(name)) > mostTagKey || len([]rune(value)) > mostTagText:
			return call.Errorf("ValidationError", "tag %q: at most %d characters, and %d of its value", name,
				mostTagKey, mostTagText)
		case strings.HasPrefix(strings.ToLower(name), "aws:"):
			return call.Errorf("InvalidInput", "tag %q: aws: is reserved", name)
		case seen[strings.ToLower(name)]:
			return call.Errorf("InvalidInput", "Duplicate tag keys found. Please note that "+
				"Tag keys are case insensitive.")
		}
		seen[strings.ToLower(name)] = true
	}
	return nil
}

func getRole(r *request) (any, *call.Error) {
	have, bad := r.role()
	if bad != nil {
		return nil, bad
	}
	return have.xml("Role"), nil
}

func deleteRole(r *request) (any, *call.Error) {
	have, bad := r.role()
	if bad != nil {
		return nil, bad
	}
	for _, p := range have.inline {
		if !p.gone {
			return nil, conflict("DeleteConflict", "Cannot delete entity, must delete policies first.")
		}
	}
	if len(have.attached) > 0 {
		return nil, conflict("DeleteConflict", "Cannot delete entity, must detach all policies first.")
	}
	for _, p := range r.s.profiles {
		if p.account == have.account && p.role == have.name {
			return nil, conflict("DeleteConflict", "Cannot delete entity, must remove roles from "+
				"instance profile first.")
		}
	}
	delete(r.s.roles, key{have.account, have.name})
	return nil, nil
}

func updateTrust(r *request) (any, *call.Error) {
	have, bad := r.role()
	if bad == nil {
		bad = checkTrust(r.form.Get("PolicyDocument"))
	}
	if bad != nil {
		return nil, bad
	}
	have.trust = r.form.Get("PolicyDocument")
	return nil, nil
}

func tagRole(r *request) (any, *call.Error) {
	have, bad := r.role()
	if bad != nil {
		return nil, bad
	}
	return nil, addTags(have.tags, r.tags())
}

// addTags adds all or none.
func addTags(to, more map[string]string) *call.Error {
	all := maps.Clone(to)
	maps.Copy(all, more)
	if bad := checkTags(all); bad != nil {
		return bad
	}
	maps.Copy(to, more)
	return nil
}

func createLinked(r *request) (any, *call.Error) {
	service := r.form.Get("AWSServiceName")
	name, ok := linked[service]
	if !ok {
		return nil, call.Errorf("InvalidInput", "%s has no service-linked role in this fake", service)
	}
	k := key{r.Principal.Account, name}
	if r.s.roles[k] != nil {
		return nil, call.Errorf("InvalidInput", "Service role name %s has been taken in this account, please try a "+
			"different suffix.", name)
	}
	r.s.roles[k] = &role{
		name: name, path: "/aws-service-role/" + service + "/", id: newID("AROA"), account: k.account,
		trust: `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["sts:AssumeRole"],"Principal":` +
			`{"Service":["` + service + `"]}}]}`,
		made: r.s.opts.Now(), tags: map[string]string{}, inline: map[string]*inline{},
	}
	return r.s.roles[k].xml("Role"), nil
}

// page is a part of a list.
type page struct {
	XMLName xml.Name
	Members []any `xml:"member"`
}

// paged cuts a list as the request asks. The marker is the number of the next element.
func (r *request) paged(name string, all []any) (any, *call.Error) {
	size := pageSize
	if n, err := strconv.Atoi(r.form.Get("MaxItems")); err == nil && n > 0 {
		size = n
	}
	from, _ := strconv.Atoi(r.form.Get("Marker")) // none: from the beginning
	if from < 0 || from > len(all) {
		return nil, call.Errorf("ValidationError", "Invalid Marker.")
	}
	rest := all[from:]
	list := page{XMLName: xml.Name{Local: name}, Members: rest[:min(size, len(rest))]}
	if len(rest) <= size {
		return []any{list, element("IsTruncated", "false")}, nil
	}
	return []any{list, element("IsTruncated", "true"), element("Marker", strconv.Itoa(from+size))}, nil
}

func listRoles(r *request) (any, *call.Error) {
	var all []any
	for _, have := range sorted(r.s.roles) {
		if have.account == r.Principal.Account && strings.HasPrefix(have.path, r.form.Get("PathPrefix")) &&
			r.s.known(have.made) {
			all = append(all, have.xml("member"))
		}
	}
	return r.paged("Roles", all)
}

func sorted[T any](all map[key]T) []T {
	keys := slices.SortedFunc(maps.Keys(all), func(a, b key) int { return strings.Compare(a.name, b.name) })
	var out []T
	for _, k := range keys {
		out = append(out, all[k])
	}
	return out
}
