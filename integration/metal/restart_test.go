package metal

import (
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"cloudmaster/integration/aws/awsfake"
	fake "cloudmaster/integration/aws/ec2"
)

// TestStoppedAndStarted: a stopped instance has no process, and gets a new one when it is started again, also if it was
// stopped between two looks.
func TestStoppedAndStarted(t *testing.T) {
	t.Parallel()
	for name, look := range map[string]time.Duration{
		"seen stopped":     10 * time.Millisecond,
		"not seen stopped": 1500 * time.Millisecond,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stopAndStart(t, look, name == "seen stopped")
		})
	}
}

// stopAndStart stops and starts an instance on the fake, which takes no time for either.
func stopAndStart(t *testing.T, look time.Duration, seen bool) {
	t.Helper()
	f, err := awsfake.Start(t.Context(), awsfake.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	f.EC2("eu-west-1").AddImage(fake.Image{ID: theImage})
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b := bench{dir: t.TempDir(), t: t}
	b.Metal, err = Start(t.Context(), f.URL(), b.dir, map[string]string{theImage: self},
		Options{Account: f.Account(), Interval: look, Env: []string{modeVar + "=good"}})
	b.must(err)
	defer b.close()
	var run struct {
		IDs []string `xml:"instancesSet>item>instanceId"`
	}
	b.must(b.ec2.call(t.Context(), "RunInstances", url.Values{
		"ImageId": {theImage}, "MinCount": {"1"}, "MaxCount": {"1"}, "InstanceType": {"t3.nano"},
		"TagSpecification.1.ResourceType": {"instance"},
		"TagSpecification.1.Tag.1.Key":    {deploymentTag}, "TagSpecification.1.Tag.1.Value": {"metal-test"},
	}, &run))
	id := run.IDs[0]
	change := func(action string) {
		t.Helper()
		var none struct{}
		b.must(b.ec2.call(t.Context(), action, url.Values{"InstanceId.1": {id}}, &none))
	}
	b.ready(id)
	first := b.pid(id, "pid")
	b.eventually("another second, because EC2 tells in whole seconds when an instance was started", func() bool {
		return time.Now().Unix() > f.EC2("eu-west-1").Instances()[0].Launched.Unix()
	})
	change("StopInstances")
	if seen {
		b.gone(id)
	}
	change("StartInstances")
	b.eventually("a second process", func() bool { return strings.Count(b.log(id), "ready\n") == 2 })
	if alive(first) {
		t.Errorf("the first process, %d, still runs", first)
	}
	if got := b.Running(); len(got) != 1 || got[0] != id {
		t.Errorf("got %v running, want %s", got, id)
	}
	change("TerminateInstances")
	b.gone(id)
}
