package backend_test

import (
	"strings"
	"testing"
	"time"

	"cloudmaster/internal/backend"
	"cloudmaster/internal/backend/awsbackend"
	"cloudmaster/internal/backend/natsbackend"
	"cloudmaster/internal/queue"
)

func TestKindsTakeTheirAddresses(t *testing.T) {
	t.Parallel()
	nats, aws := natsbackend.Kind(), awsbackend.Kind()
	own := backend.Kind{Name: "own"}
	for address, want := range map[string][3]bool{
		"nats://h:1": {true, false, false}, "aws://": {false, true, false}, "own": {false, false, true},
		"own://x": {}, "nats": {}, "aws:eu-west-1": {}, "": {},
	} {
		if got := [3]bool{nats.Takes(address), aws.Takes(address), own.Takes(address)}; got != want {
			t.Errorf("%q: got %v, want %v", address, got, want)
		}
	}
}

func TestKindsCheck(t *testing.T) {
	t.Parallel()
	nats, aws := natsbackend.Kind(), awsbackend.Kind()
	for address, c := range map[string]struct {
		kind backend.Kind
		want string
	}{
		"nats://h:4222,h2":             {nats, ""},
		"nats://u:geheim@h?replicas=3": {nats, ""},
		"nats://":                      {nats, "a host name is empty"},
		"nats://u:geheim@h:99999":      {nats, `port "99999" is not a number`},
		"nats://u:ge/heim@h:1":         {nats, "characters such as / and % in a password"},
		"nats://h?x=1":                 {nats, `unknown option "x"`},
		"aws://":                       {aws, ""},
		"aws://eu-west-1?bucket=abc":   {aws, ""},
		"aws://moon":                   {aws, `"moon" is not an AWS region`},
		"aws://k:geheim@eu-west-1":     {aws, "credentials come from the environment"},
	} {
		err := c.kind.Check(address)
		switch {
		case err == nil && c.want == "":
		case err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "heim"):
			t.Errorf("%s: got %v, want %q, and no password", address, err, c.want)
		}
	}
}

func TestAWSMinds(t *testing.T) {
	t.Parallel()
	k := awsbackend.Kind()
	if err := k.CheckQueue(queue.Limits{Visibility: 13 * time.Hour}); err == nil {
		t.Error("visibility of 13 hours: got no error")
	}
	if err := k.CheckQueue(queue.Limits{}); err != nil {
		t.Errorf("defaults: got %v", err)
	}
	if err := k.CheckRemote("aws://?bucket=abc"); err == nil || !strings.Contains(err.Error(), "names no region") {
		t.Errorf("no region: got %v", err)
	}
	if err := k.CheckRemote("aws://eu-west-1"); err != nil {
		t.Errorf("a region: got %v", err)
	}
	long := strings.Repeat("x", 32)
	if err := k.CheckDeployment("aws://eu-west-1", long); err == nil || !strings.Contains(err.Error(), "?bucket=NAME") {
		t.Errorf("a long name: got %v", err)
	}
	if err := k.CheckDeployment("aws://eu-west-1?bucket=abc", long); err != nil {
		t.Errorf("a long name and a bucket: got %v", err)
	}
}
