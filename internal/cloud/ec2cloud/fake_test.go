package ec2cloud_test

import (
	"encoding/xml"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"cloudmaster/internal/cloud"
)

// fake is EC2 as its documentation tells of it, in memory, behind its query protocol:
// idempotent client tokens, capacity by deployment and subnet, lists that lag and
// come in pages, and faults on demand.
type fake struct {
	url  string
	page int // instances in a page

	mu        sync.Mutex
	instances []*machine
	byToken   map[string]*started
	capacity  map[string]int // by deployment; absent: no limit
	places    map[string]int // by subnet; absent: no limit
	offers    map[string]int // by type, subnet and market, as "t3.micro subnet-a spot"; absent: no limit
	images    []fakeImage
	groups    map[string][]string // ids by name
	lag       int                 // how many lists a new instance is missing from
	statuses  map[string]string   // XML of instances, by the filter that shows them and its first value
	next      int
	calls     []url.Values

	fail func(action string, form url.Values) (code, message string) // before a call takes effect
	lose func(action string) bool                                    // after it took effect
}

type machine struct {
	id, image, state, userData     string
	dns, ip, privateDNS, privateIP string
	launched                       time.Time
	tags                           map[string]string
	lag                            int
	form                           url.Values
}

type started struct {
	request  string
	machines []*machine
}

type fakeImage struct{ id, name, owner, state, created string }

func newFake(t *testing.T) *fake {
	t.Helper()
	f := &fake{
		page: 1000, byToken: map[string]*started{}, capacity: map[string]int{}, places: map[string]int{},
		offers: map[string]int{}, groups: map[string][]string{},
		fail: func(string, url.Values) (string, string) { return "", "" }, lose: func(string) bool { return false },
	}
	srv := httptest.NewServer(f)
	t.Cleanup(srv.Close)
	f.url = srv.URL
	return f
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if target := r.Header.Get("X-Amz-Target"); target != "" {
		f.parameter(w)
		return
	}
	if err := r.ParseForm(); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	action := r.PostForm.Get("Action")
	f.calls = append(f.calls, r.PostForm)
	code, answer := f.fail(action, r.PostForm)
	if code == "" {
		code, answer = f.answer(action, r.PostForm)
	}
	switch {
	case f.lose(action):
		panic(http.ErrAbortHandler)
	case code != "":
		w.WriteHeader(status(code))
		fmt.Fprintf(w, "<Response><Errors><Error><Code>%s</Code><Message>%s</Message></Error></Errors><RequestID>"+
			"r</RequestID></Response>", code, answer)
	default:
		fmt.Fprintf(w, "<%sResponse>%s</%[1]sResponse>", action, answer)
	}
}

func (f *fake) parameter(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	fmt.Fprint(w, `{"Parameter":{"Name":"/images/primes","Value":"ami-0000000000000005"}}`)
}

func status(code string) int {
	switch {
	case code == "RequestLimitExceeded":
		return http.StatusServiceUnavailable
	case strings.HasPrefix(code, "Insufficient"), code == "InternalError", strings.HasSuffix(code, "Unavailable"):
		return http.StatusInternalServerError
	}
	return http.StatusBadRequest
}

func (f *fake) answer(action string, form url.Values) (code, answer string) {
	switch action {
	case "RunInstances":
		return f.run(form)
	case "DescribeInstances":
		return f.describe(form)
	case "CreateTags":
		return f.tag(form)
	case "TerminateInstances":
		return f.terminate(form)
	case "StopInstances":
		return f.halt(form)
	case "StartInstances":
		return f.wake(form)
	case "DescribeImages":
		return f.describeImages(form)
	case "DescribeInstanceTypes":
		arch := "x86_64"
		if strings.Contains(form.Get("InstanceType.1"), "g.") {
			arch = "arm64"
		}
		return "", "<instanceTypeSet><item><processorInfo><supportedArchitectures><item>" + arch +
			"</item></supportedArchitectures></processorInfo></item></instanceTypeSet>"
	case "DescribeInstanceStatus":
		return f.describeStatus(form)
	case "DescribeSecurityGroups":
		return f.describeGroups(form)
	}
	return "InvalidAction", action
}

func (f *fake) run(form url.Values) (code, answer string) {
	request := form.Encode()
	if s := f.byToken[form.Get("ClientToken")]; s != nil {
		if s.request != request {
			return "IdempotentParameterMismatch", "the token was used with other parameters"
		}
		return "", f.started(s.machines)
	}
	if !slices.ContainsFunc(f.images, func(i fakeImage) bool { return i.id == form.Get("ImageId") }) {
		return "InvalidAMIID.NotFound", "no image " + form.Get("ImageId")
	}
	tags := tagsOf(form, "TagSpecification.1.Tag")
	least, _ := strconv.Atoi(form.Get("MinCount"))
	count, _ := strconv.Atoi(form.Get("MaxCount"))
	count = min(count, f.room(tags[cloud.TagDeployment]))
	if places, limited := f.places[form.Get("SubnetId")]; limited {
		count = min(count, places)
	}
	offer := strings.TrimSpace(form.Get("InstanceType") + " " + form.Get("SubnetId") + " " +
		form.Get("InstanceMarketOptions.MarketType"))
	if offers, limited := f.offers[offer]; limited {
		count = min(count, offers)
	}
	if count < least {
		return "InsufficientInstanceCapacity", "we have none of these now"
	}
	s := &started{request: request}
	for range count {
		f.next++
		s.machines = append(s.machines, &machine{
			id: fmt.Sprintf("i-%017x", f.next), image: form.Get("ImageId"), state: "pending", lag: f.lag, form: form,
			userData: form.Get("UserData"), launched: time.Now().UTC().Truncate(time.Second), tags: maps.Clone(tags),
		})
	}
	f.byToken[form.Get("ClientToken")] = s
	f.instances = append(f.instances, s.machines...)
	return "", f.started(s.machines)
}

// room is how many more instances a deployment may have.
func (f *fake) room(deployment string) int {
	most, limited := f.capacity[deployment]
	if !limited {
		return 1 << 20
	}
	for _, m := range f.instances {
		if m.tags[cloud.TagDeployment] == deployment && slices.Contains([]string{"pending", "running"}, m.state) {
			most--
		}
	}
	return max(0, most)
}

func (f *fake) started(list []*machine) string {
	return "<reservationId>r-1</reservationId><instancesSet>" + items(list) + "</instancesSet>"
}

// describe shows what passes the filters, then moves those instances on in their lives.
func (f *fake) describe(form url.Values) (code, answer string) {
	var match []*machine
	for _, m := range f.instances {
		if passes(m, form) {
			match = append(match, m)
		}
	}
	from, _ := strconv.Atoi(form.Get("NextToken"))
	to := min(len(match), from+f.page)
	var shown []*machine
	for _, m := range match[from:to] {
		if m.lag--; m.lag < 0 {
			shown = append(shown, m)
		}
	}
	answer = "<reservationSet><item>" + f.started(shown) + "</item></reservationSet>"
	if to < len(match) {
		return "", answer + "<nextToken>" + strconv.Itoa(to) + "</nextToken>"
	}
	for _, m := range match {
		if next := later[m.state]; next != "" && m.lag < 0 {
			m.state = next
			m.dns = "ec2-" + m.id + ".example"
		}
	}
	return "", answer
}

// later are the states that follow by themselves.
var later = map[string]string{"pending": "running", "shutting-down": "terminated", "stopping": "stopped"}

func passes(m *machine, form url.Values) bool {
	for i := 1; form.Has(fmt.Sprintf("Filter.%d.Name", i)); i++ {
		name := form.Get(fmt.Sprintf("Filter.%d.Name", i))
		got := map[string]string{"instance-state-name": m.state, "instance-id": m.id}[name]
		if key, ok := strings.CutPrefix(name, "tag:"); ok {
			got = m.tags[key]
		}
		if !slices.Contains(listOf(form, fmt.Sprintf("Filter.%d.Value", i)), got) {
			return false
		}
	}
	return true
}

func (f *fake) find(ids []string) (found []*machine, missing []string) {
	for _, id := range ids {
		i := slices.IndexFunc(f.instances, func(m *machine) bool { return m.id == id && m.state != "terminated" })
		if i < 0 {
			missing = append(missing, id)
			continue
		}
		found = append(found, f.instances[i])
	}
	return found, missing
}

func (f *fake) tag(form url.Values) (code, answer string) {
	found, missing := f.find(listOf(form, "ResourceId"))
	if len(missing) > 0 {
		return "InvalidInstanceID.NotFound", "The instance IDs '" + strings.Join(missing, ", ") + "' do not exist"
	}
	for _, m := range found {
		maps.Copy(m.tags, tagsOf(form, "Tag"))
	}
	return "", "<return>true</return>"
}

func (f *fake) terminate(form url.Values) (code, answer string) {
	found, missing := f.find(listOf(form, "InstanceId"))
	if len(missing) > 0 {
		return "InvalidInstanceID.NotFound", "The instance IDs '" + strings.Join(missing, ", ") + "' do not exist"
	}
	for _, m := range found {
		m.state = "shutting-down"
	}
	return "", "<instancesSet/>"
}

func (f *fake) describeImages(form url.Values) (code, answer string) {
	for _, img := range f.images {
		if img.id == form.Get("ImageId.1") {
			return "", "<imagesSet><item><imageId>" + img.id + "</imageId><rootDeviceName>/dev/xvda</rootDeviceName>" +
				"</item></imagesSet>"
		}
		if img.name == form.Get("Filter.1.Value.1") && img.state == form.Get("Filter.2.Value.1") &&
			slices.Contains(listOf(form, "Owner"), img.owner) {
			answer += fmt.Sprintf("<item><imageId>%s</imageId><creationDate>%s</creationDate></item>", img.id,
				img.created)
		}
	}
	return "", "<imagesSet>" + answer + "</imagesSet>"
}

func (f *fake) describeGroups(form url.Values) (code, answer string) {
	for _, id := range f.groups[form.Get("Filter.1.Value.1")] {
		answer += "<item><groupId>" + id + "</groupId></item>"
	}
	return "", "<securityGroupInfo>" + answer + "</securityGroupInfo>"
}

// requests are the forms of all calls of an action.
func (f *fake) requests(action string) []url.Values {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []url.Values
	for _, form := range f.calls {
		if form.Get("Action") == action {
			out = append(out, form)
		}
	}
	return out
}

// living counts the instances that were started and not ended.
func (f *fake) living() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, m := range f.instances {
		if m.state == "pending" || m.state == "running" {
			n++
		}
	}
	return n
}

func items(list []*machine) string {
	var b strings.Builder
	for _, m := range list {
		fmt.Fprintf(&b, "<item><instanceId>%s</instanceId><imageId>%s</imageId><instanceState><name>%s</name>"+
			"</instanceState><instanceType>%s</instanceType><subnetId>%s</subnetId>"+
			"<instanceLifecycle>%s</instanceLifecycle><stateReason><message>because of %[3]s</message></stateReason>"+
			"<dnsName>%[7]s</dnsName>"+
			"<ipAddress>%s</ipAddress><privateDnsName>%s</privateDnsName><privateIpAddress>%s</privateIpAddress>"+
			"<launchTime>%s</launchTime><tagSet>",
			m.id, m.image, m.state, m.form.Get("InstanceType"), m.form.Get("SubnetId"),
			m.form.Get("InstanceMarketOptions.MarketType"), m.dns, m.ip, m.privateDNS, m.privateIP,
			m.launched.Format(time.RFC3339))
		for k, v := range m.tags {
			b.WriteString("<item><key>")
			_ = xml.EscapeText(&b, []byte(k))
			b.WriteString("</key><value>")
			_ = xml.EscapeText(&b, []byte(v))
			b.WriteString("</value></item>")
		}
		b.WriteString("</tagSet></item>")
	}
	return b.String()
}

func listOf(form url.Values, name string) (out []string) {
	for i := 1; form.Has(fmt.Sprintf("%s.%d", name, i)); i++ {
		out = append(out, form.Get(fmt.Sprintf("%s.%d", name, i)))
	}
	return out
}

func tagsOf(form url.Values, name string) map[string]string {
	out := map[string]string{}
	for i := 1; form.Has(fmt.Sprintf("%s.%d.Key", name, i)); i++ {
		out[form.Get(fmt.Sprintf("%s.%d.Key", name, i))] = form.Get(fmt.Sprintf("%s.%d.Value", name, i))
	}
	return out
}
