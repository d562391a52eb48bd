package ec2_test

import (
	"context"
	"encoding/xml"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cloudmaster/integration/aws/call"
	"cloudmaster/integration/aws/ec2"
)

const (
	where    = "eu-west-1"
	image    = "ami-00000000000000001"
	armImage = "ami-00000000000000002"
	micro    = "t3.micro"
)

// world is a fake EC2 whose clock stands still until it is told to go on, and what its calls asked for.
type world struct {
	*ec2.Region

	t    *testing.T
	fake *ec2.Fake

	mu    sync.Mutex
	now   time.Time        // guarded by mu
	asked []call.Call      // guarded by mu
	deny  map[string]error // by action; guarded by mu
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), deny: map[string]error{}}
	w.fake = ec2.New(ec2.Options{Now: w.clock})
	w.Region = w.fake.Region(where)
	w.AddImage(ec2.Image{ID: image, Name: "worker"})
	w.AddImage(ec2.Image{ID: armImage, Name: "worker-arm", Arch: "arm64"})
	return w
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

// pass lets time pass.
func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

// Pass implements call.Gate.
func (w *world) Pass(_ *call.Caller, c call.Call) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = append(w.asked, c)
	return w.deny[c.Action]
}

// Note implements call.Gate.
func (*world) Note(*call.Caller, string) {}

// result is what the tests read of answers.
type result struct {
	Code      string   `xml:"Errors>Error>Code"`
	Message   string   `xml:"Errors>Error>Message"`
	Next      string   `xml:"nextToken"`
	Status    int      `xml:"-"`
	Instances []item   `xml:"instancesSet>item"`
	Listed    []item   `xml:"reservationSet>item>instancesSet>item"`
	Types     []string `xml:"instanceTypeSet>item>instanceType"`
	Health    []struct {
		Instance string `xml:"instanceStatus>status"`
	} `xml:"instanceStatusSet>item"`
}

type item struct {
	ID      string `xml:"instanceId"`
	State   string `xml:"instanceState>name"`
	Current string `xml:"currentState>name"`
	Zone    string `xml:"placement>availabilityZone"`
	Reason  string `xml:"stateReason>code"`
	Public  string `xml:"ipAddress"`
	Private string `xml:"privateIpAddress"`
}

func (r *result) ids() []string {
	var out []string
	for _, i := range slices.Concat(r.Instances, r.Listed) {
		out = append(out, i.ID)
	}
	return out
}

// do makes a call: an action, and parameters as "Name=value".
func (w *world) do(action string, params ...string) *result {
	w.t.Helper()
	body := "Action=" + action + "&" + strings.Join(params, "&")
	req := httptest.NewRequestWithContext(context.Background(), http.MethodPost, "/", strings.NewReader(body))
	rec := httptest.NewRecorder()
	w.fake.Serve(rec, req, call.Caller{
		Principal: call.Root(ec2.DefaultAccount), Region: where, RequestID: "r-1", Now: w.clock(), Gate: w,
	})
	out := &result{Status: rec.Code}
	if err := xml.Unmarshal(rec.Body.Bytes(), out); err != nil {
		w.t.Fatalf("%s: %v in %s", action, err, rec.Body)
	}
	return out
}

// run launches one instance, unless the parameters say otherwise.
func (w *world) run(params ...string) *result {
	w.t.Helper()
	for _, d := range []string{"MinCount=1", "MaxCount=1", "ImageId=" + image, "InstanceType=" + micro} {
		name, _, _ := strings.Cut(d, "=")
		if !slices.ContainsFunc(params, func(p string) bool { return strings.HasPrefix(p, name+"=") }) {
			params = append(params, d)
		}
	}
	return w.do("RunInstances", params...)
}

// mustRun launches and returns the ids.
func (w *world) mustRun(params ...string) []string {
	w.t.Helper()
	got := w.run(params...)
	if got.Code != "" || len(got.Instances) == 0 {
		w.t.Fatalf("got error %s (%s) and %d instances", got.Code, got.Message, len(got.Instances))
	}
	return got.ids()
}

func (w *world) want(got *result, code string, instances int) {
	w.t.Helper()
	if got.Code != code || len(got.ids()) != instances {
		w.t.Errorf("got error %q (%s) and %d instances, want %q and %d", got.Code, got.Message, len(got.ids()), code,
			instances)
	}
}

// state returns the only instance of a list by its id.
func (w *world) state(id string) item {
	w.t.Helper()
	got := w.do("DescribeInstances", "InstanceId.1="+id)
	if len(got.Listed) != 1 {
		w.t.Fatalf("got %d instances and error %q for %s, want one", len(got.Listed), got.Code, id)
	}
	return got.Listed[0]
}

func TestClientTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.mustRun("ClientToken=a", "MaxCount=2")
	again := w.mustRun("ClientToken=a", "MaxCount=2")
	if !slices.Equal(first, again) || len(w.Instances()) != 2 {
		t.Errorf("got %v and then %v of %d instances, want the same two", first, again, len(w.Instances()))
	}
	w.want(w.run("ClientToken=a", "MaxCount=3"), "IdempotentParameterMismatch", 0)
	w.want(w.run("ClientToken="+strings.Repeat("x", 65)), "InvalidClientToken", 0)
	w.do("TerminateInstances", "InstanceId.1="+first[0])
	if got := w.mustRun("ClientToken=a", "MaxCount=2"); !slices.Equal(got, first) {
		t.Errorf("one of two has ended: got %v, want %v", got, first)
	}
	w.do("TerminateInstances", "InstanceId.1="+first[1])
	w.do("DescribeInstances")
	w.want(w.run("ClientToken=a", "MaxCount=2"), "IdempotentInstanceTerminated", 0)
	w.pass(2 * time.Hour) // EC2 has forgotten the instances, and not the token
	w.want(w.run("ClientToken=a", "MaxCount=2"), "IdempotentInstanceTerminated", 0)
	inA, inB := w.mustRun("ClientToken=z", "SubnetId=subnet-a"), w.mustRun("ClientToken=z", "SubnetId=subnet-b")
	if slices.Equal(inA, inB) {
		t.Errorf("got %v in two zones, want an instance in each: a token counts in the zone that is named", inA)
	}
}

func TestTokenAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { w.run("ClientToken=once", "MaxCount=2") })
	}
	wg.Wait()
	if got := len(w.Instances()); got != 2 {
		t.Errorf("got %d instances, want 2", got)
	}
}

func TestCapacity(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.SetCapacity(micro, "eu-west-1a", 3)
	inA := "SubnetId=subnet-a"
	w.want(w.run(inA, "MinCount=4", "MaxCount=4"), "InsufficientInstanceCapacity", 0)
	if got := w.run(inA, "MaxCount=4", "MinCount=4").Status; got != http.StatusInternalServerError {
		t.Errorf("got status %d, want 500", got)
	}
	w.want(w.run(inA, "MaxCount=5"), "", 3)
	w.want(w.run(inA), "InsufficientInstanceCapacity", 0)
	w.want(w.run(inA, "InstanceMarketOptions.MarketType=spot"), "", 1) // the markets have capacity of their own
	w.want(w.run(inA, "InstanceType=t3.small"), "", 1)
	if got := w.run(); len(got.Instances) != 1 || got.Instances[0].Zone == "eu-west-1a" {
		t.Errorf("got %+v, want one in a zone with room", got.Instances)
	}
	gone := w.Instances()[0].ID
	w.do("TerminateInstances", "InstanceId.1="+gone)
	w.want(w.run(inA), "", 1)
}

func TestZoneDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.mustRun("SubnetId=subnet-a")[0]
	w.ZoneDown("eu-west-1a")
	w.want(w.run("SubnetId=subnet-a"), "InsufficientInstanceCapacity", 0)
	got := w.do("DescribeInstanceStatus", "InstanceId.1="+id).Health
	if len(got) != 1 || got[0].Instance != "impaired" {
		t.Errorf("got %+v, want impaired", got)
	}
	if got := w.state(id).State; got != "running" {
		t.Errorf("got %s, want running: EC2 goes on to say so", got)
	}
	w.ZoneUp("eu-west-1a")
	w.want(w.run("SubnetId=subnet-a"), "", 1)
}

func TestRefusedLaunches(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Withhold(micro, "eu-west-1b")
	w.SetSpotQuota(0)
	for name, c := range map[string]struct{ param, code string }{
		"type":         {"InstanceType=t9.micro", "InvalidParameterValue"},
		"architecture": {"InstanceType=t4g.micro", "InvalidParameterValue"},
		"zone":         {"SubnetId=subnet-b", "Unsupported"},
		"subnet":       {"SubnetId=subnet-x", "InvalidSubnetID.NotFound"},
		"image":        {"ImageId=ami-0ffffffff", "InvalidAMIID.NotFound"},
		"image's form": {"ImageId=worker", "InvalidAMIID.Malformed"},
		"group":        {"SecurityGroupId.1=sg-x", "InvalidGroup.NotFound"},
		"key":          {"KeyName=nobody", "InvalidKeyPair.NotFound"},
		"placement":    {"Placement.GroupName=nowhere", "InvalidPlacementGroup.Unknown"},
		"credits": {
			"InstanceType=c7a.large&CreditSpecification.CpuCredits=standard", "InvalidParameterCombination",
		},
		"counts":     {"MinCount=2", "InvalidParameterValue"},
		"spot quota": {"InstanceMarketOptions.MarketType=spot", "MaxSpotInstanceCountExceeded"},
		"user data":  {"UserData=%25", "InvalidUserData.Malformed"},
	} {
		if got := w.run(c.param); got.Code != c.code || len(w.Instances()) != 0 {
			t.Errorf("%s: got %q (%s) and %d instances, want %s and none", name, got.Code, got.Message,
				len(w.Instances()), c.code)
		}
	}
	w.RemoveDefaultVPC()
	w.want(w.run(), "VPCIdNotSpecified", 0)
}

func TestStates(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.SetTimes(ec2.Times{Boot: 10 * time.Second, End: 20 * time.Second})
	var states []string
	w.fake.Watch(func(e ec2.Event) { states = append(states, e.Instance.State) })
	id := w.mustRun()[0]
	w.want(w.do("StopInstances", "InstanceId.1="+id), "IncorrectInstanceState", 0)
	w.pass(10 * time.Second)
	first := w.state(id)
	w.do("StopInstances", "InstanceId.1="+id)
	w.want(w.do("StartInstances", "InstanceId.1="+id), "IncorrectInstanceState", 0)
	w.pass(20 * time.Second)
	off := w.state(id)
	if off.State != "stopped" || off.Public != "" || off.Private != first.Private ||
		off.Reason != "Client.UserInitiatedShutdown" {
		t.Errorf("got %+v, want it stopped, with its private address only", off)
	}
	w.SetCapacity(micro, "eu-west-1a", 0)
	w.want(w.do("StartInstances", "InstanceId.1="+id), "InsufficientInstanceCapacity", 0)
	w.Unlimit()
	w.do("StartInstances", "InstanceId.1="+id)
	w.pass(10 * time.Second)
	if on := w.state(id); on.State != "running" || on.Public == "" || on.Public == first.Public {
		t.Errorf("got %+v, want it running under a new public address", on)
	}
	w.do("TerminateInstances", "InstanceId.1="+id)
	w.pass(20 * time.Second)
	w.do("TerminateInstances", "InstanceId.1="+id) // changes nothing more
	if end := w.state(id); end.State != "terminated" || end.Private != "" {
		t.Errorf("got %+v, want it terminated, without addresses", end)
	}
	want := "pending running stopping stopped pending running shutting-down terminated"
	if got := strings.Join(states, " "); got != want {
		t.Errorf("got states %s, want %s", got, want)
	}
	w.pass(61 * time.Minute)
	w.want(w.do("DescribeInstances", "InstanceId.1="+id), "InvalidInstanceID.NotFound", 0)
}

func TestReasons(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Doom(ec2.KeyDenied)
	doomed := w.mustRun()[0]
	spot := w.mustRun("InstanceMarketOptions.MarketType=spot", "SubnetId=subnet-a")[0]
	off := w.mustRun("InstanceInitiatedShutdownBehavior=terminate")[0]
	w.Tick()
	if err := errors.Join(w.Reclaim(spot, time.Minute), w.Shutdown(off)); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]string{
		doomed: "Client.InternalError", spot: "Server.SpotInstanceTermination", off: "Client.InstanceInitiatedShutdown",
	} {
		if got := w.state(id); got.Reason != want || got.State != "terminated" {
			t.Errorf("got %+v, want it terminated for %s", got, want)
		}
	}
	again := []string{"InstanceMarketOptions.MarketType=spot", "SubnetId=subnet-a"}
	w.want(w.run(again...), "InsufficientInstanceCapacity", 0)
	w.pass(time.Minute)
	w.want(w.run(again...), "", 1)
	if err := w.Reclaim(doomed, 0); err == nil {
		t.Error("an instance on demand was reclaimed")
	}
}

func TestLag(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.SetTimes(ec2.Times{ListLag: 5 * time.Second, IDLag: time.Second})
	id := w.mustRun()[0]
	w.want(w.do("DescribeInstances"), "", 0)
	w.want(w.do("DescribeInstances", "InstanceId.1="+id), "InvalidInstanceID.NotFound", 0)
	w.want(w.do("CreateTags", "ResourceId.1="+id, "Tag.1.Key=a", "Tag.1.Value=b"), "InvalidInstanceID.NotFound", 0)
	w.want(w.do("TerminateInstances", "InstanceId.1="+id), "InvalidInstanceID.NotFound", 0)
	w.pass(time.Second)
	w.want(w.do("CreateTags", "ResourceId.1="+id, "Tag.1.Key=a", "Tag.1.Value=b"), "", 0)
	w.pass(4 * time.Second)
	w.want(w.do("DescribeInstances", "Filter.1.Name=tag:a", "Filter.1.Value.1=b"), "", 1)
	if err := w.Hide(id, time.Second); err != nil {
		t.Fatal(err)
	}
	w.want(w.do("DescribeInstances"), "", 0)
	w.pass(time.Second)
	w.want(w.do("DescribeInstances"), "", 1)
}

func TestBadIDChangesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.mustRun()[0]
	for _, action := range []string{"TerminateInstances", "StopInstances"} {
		w.want(w.do(action, "InstanceId.1="+id, "InstanceId.2=i-0ffffffffffffffff"), "InvalidInstanceID.NotFound", 0)
		w.want(w.do(action, "InstanceId.1="+id, "InstanceId.2=nonsense"), "InvalidInstanceID.Malformed", 0)
	}
	if got := w.state(id).State; got != "running" {
		t.Errorf("got %s, want running", got)
	}
}

func TestPagesAndFilters(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ids := w.mustRun("MinCount=5", "MaxCount=5", "TagSpecification.1.ResourceType=instance",
		"TagSpecification.1.Tag.1.Key=pool", "TagSpecification.1.Tag.1.Value=main")
	w.mustRun()
	var got []string
	next := ""
	for range 10 {
		page := w.do("DescribeInstances", "MaxResults=2", "NextToken="+next, "Filter.1.Name=tag:pool",
			"Filter.1.Value.1=m*n", "Filter.2.Name=instance-state-name", "Filter.2.Value.1=running")
		got = append(got, page.ids()...)
		if next = page.Next; next == "" {
			break
		}
	}
	if !slices.Equal(got, ids) {
		t.Errorf("got %v, want %v", got, ids)
	}
	w.want(w.do("DescribeInstances", "Filter.1.Name=no-such", "Filter.1.Value.1=x"), "InvalidParameterValue", 0)
	w.want(w.do("DescribeInstances", "InstanceId.1="+ids[0], "MaxResults=5"), "InvalidParameterCombination", 0)
}

func TestThrottling(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Throttle(true)
	for range 5 {
		w.mustRun()
	}
	got := w.run()
	if w.want(got, "RequestLimitExceeded", 0); got.Status != http.StatusServiceUnavailable {
		t.Errorf("got status %d, want 503", got.Status)
	}
	w.pass(500 * time.Millisecond) // one token comes back
	w.mustRun()
	w.want(w.run(), "RequestLimitExceeded", 0)
	w.want(w.do("DescribeInstances"), "", 6) // each action has a bucket of its own
	w.pass(time.Hour)
	w.want(w.run("MinCount=1001", "MaxCount=1001"), "RequestLimitExceeded", 0)
}
