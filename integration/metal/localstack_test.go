package metal

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"cloudmaster/integration/aws/awsfake"
	fake "cloudmaster/integration/aws/ec2"
	"cloudmaster/integration/wire"
)

// TestOnLocalStack checks on LocalStack what the records of metal_test.go assume: one instance,
// launched through the wire with a token that is used twice, gets one process, and loses it when it
// is terminated.
func TestOnLocalStack(t *testing.T) {
	t.Parallel()
	endpoint := os.Getenv("LOCALSTACK_ENDPOINT")
	if endpoint == "" {
		t.Skip("set LOCALSTACK_ENDPOINT to a running LocalStack; make integration does")
	}
	account := fmt.Sprintf("%012d", rand.Int64N(1e12)) // an account that no other user of a shared LocalStack uses
	lifeOfOne(t, endpoint, account)
}

// TestOnFake checks the same on the fake of AWS.
func TestOnFake(t *testing.T) {
	t.Parallel()
	f, err := awsfake.Start(t.Context(), awsfake.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := f.Close(); err != nil {
			t.Errorf("close the fake: %v", err)
		}
	}()
	f.EC2("eu-west-1").AddImage(fake.Image{ID: theImage})
	lifeOfOne(t, f.URL(), f.Account())
}

// theImage is the image of the instance that these tests launch.
const theImage = "ami-0123456789abcdef0"

// lifeOfOne launches and ends one instance at an endpoint.
func lifeOfOne(t *testing.T, endpoint, account string) {
	t.Helper()
	w, err := wire.Start(t.Context(), endpoint, wire.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := w.Close(); err != nil {
			t.Errorf("close wire: %v", err)
		}
	}()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	m, err := Start(t.Context(), endpoint, dir, map[string]string{theImage: self},
		Options{Wire: w.URL(), Account: account, Interval: 50 * time.Millisecond, Env: []string{modeVar + "=good"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := m.Close(); err != nil {
			t.Errorf("close metal: %v", err)
		}
	}()

	caller := ec2{
		endpoint: w.URL(), region: "eu-west-1", account: account,
		client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
	}
	launch := func() []string {
		var run struct {
			IDs []string `xml:"instancesSet>item>instanceId"`
		}
		err := caller.call(t.Context(), "RunInstances", url.Values{
			"ImageId": {theImage}, "MinCount": {"1"}, "MaxCount": {"1"}, "ClientToken": {account},
			"InstanceType":                    {"t3.nano"},
			"UserData":                        {base64.StdEncoding.EncodeToString([]byte("pool: p\n"))},
			"TagSpecification.1.ResourceType": {"instance"},
			"TagSpecification.1.Tag.1.Key":    {deploymentTag},
			"TagSpecification.1.Tag.1.Value":  {"metal-test"},
		}, &run)
		if err != nil {
			t.Fatal(err)
		}
		return run.IDs
	}
	first, again := launch(), launch()
	if len(first) != 1 || !slices.Equal(first, again) {
		t.Fatalf("launched %v, and with the same token %v; want one instance, the same", first, again)
	}
	id := first[0]
	terminate := func() {
		var none struct{}
		if err := caller.call(t.Context(), "TerminateInstances", url.Values{"InstanceId.1": {id}}, &none); err != nil {
			t.Errorf("terminate: %v", err)
		}
	}
	defer terminate()
	b := bench{Metal: m, dir: dir, t: t}
	b.ready(id)
	for _, want := range []string{"instance-id=" + id, "user-data=pool: p\n", "url=" + w.URL()} {
		if !strings.Contains(b.log(id), want) {
			t.Errorf("log: got %q, want %q in it", b.log(id), want)
		}
	}
	terminate()
	b.gone(id)
	if !strings.HasSuffix(b.log(id), "stopped\n") {
		t.Errorf("log: got %q, want it to end with stopped", b.log(id))
	}
}
