package ec2cloud_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/cloud/ec2cloud"
	"cloudmaster/internal/pool"
)

// written is an event as the EC2 User Guide shows it, with another detail.
func written(kind, source, detail string) string {
	return `{"version":"0","id":"1e5527d7-bb36-4607-3370-4164db56a40e","account":"123456789012","region":"eu-west-1",` +
		`"time":"2026-11-22T11:43:05Z","resources":[],"detail-type":"` + kind + `","source":"` + source +
		`","detail":` + detail + `}`
}

func TestEvents(t *testing.T) {
	t.Parallel()
	const spot = "EC2 Spot Instance Interruption Warning"
	const one, about = pool.InstanceID("i-0b662ef9931388ba0"), `{"instance-id":"i-0b662ef9931388ba0"`
	for name, c := range map[string]struct {
		body, rebalance string
		want            cloud.Event
	}{
		"spot": {
			written(spot, "aws.ec2", about+`,"instance-action":"terminate"}`), "replace",
			cloud.Event{Says: cloud.Ends, Instances: []pool.InstanceID{one}, Reason: "spot notice"},
		},
		"spot, though rebalance is ignored": {
			written(spot, "aws.ec2", about+`,"instance-action":"stop"}`), "ignore",
			cloud.Event{Says: cloud.Ends, Instances: []pool.InstanceID{one}, Reason: "spot notice"},
		},
		"rebalance": {
			written("EC2 Instance Rebalance Recommendation", "aws.ec2", about+`}`), "replace",
			cloud.Event{Says: cloud.Ends, Instances: []pool.InstanceID{one}, Reason: "rebalance recommendation"},
		},
		"rebalance is ignored": {
			written("EC2 Instance Rebalance Recommendation", "aws.ec2", about+`}`), "ignore",
			cloud.Event{Says: cloud.Ignored, Instances: []pool.InstanceID{one}, Reason: "rebalance recommendation"},
		},
		"changed": {
			written("EC2 Instance State-change Notification", "aws.ec2", about+`,"state":"stopping"}`), "replace",
			cloud.Event{Says: cloud.Changed, Instances: []pool.InstanceID{one}, Reason: "stopping"},
		},
		"health": {
			written("AWS Health Event", "aws.health", `{"service":"EC2","affectedEntities":[{"entityValue":"vol-1"},`+
				`{"entityValue":"i-0b662ef9931388ba0"}]}`), "replace",
			cloud.Event{Says: cloud.Look, Instances: []pool.InstanceID{one}, Reason: "event of AWS Health"},
		},
	} {
		got, err := ec2cloud.ParseEvent([]byte(c.body), c.rebalance)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %+v, %v, want %+v", name, got, err, c.want)
		}
	}
}

func TestEventsThatAreRefused(t *testing.T) {
	t.Parallel()
	const spot = "EC2 Spot Instance Interruption Warning"
	for want, body := range map[string]string{
		"not as EventBridge writes it":           "x",
		`is of "mine", not of aws.ec2`:           written(spot, "mine", `{"instance-id":"i-0b662ef9931388ba0"}`),
		`is of "aws.ec2", not of aws.health`:     written("AWS Health Event", "aws.ec2", `{"service":"EC2"}`),
		`about "", which is no instance`:         written(spot, "aws.ec2", `{}`),
		`about "i-1; rm", which is no instance`:  written(spot, "aws.ec2", `{"instance-id":"i-1; rm"}`),
		"of no kind that the rules ask for":      written("Fleet", "aws.ec2", `{"instance-id":"i-0b662ef9931388ba0"}`),
		`about the service "RDS", not EC2`:       written("AWS Health Event", "aws.health", `{"service":"RDS"}`),
		"event has 262145 bytes, the most is 26": strings.Repeat(" ", 256<<10+1),
	} {
		if e, err := ec2cloud.ParseEvent([]byte(body), "replace"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %+v, %v, want %q", e, err, want)
		}
	}
}

func TestEventPatternsAreJSON(t *testing.T) {
	t.Parallel()
	for _, p := range ec2cloud.EventPatterns() {
		if !json.Valid([]byte(p.Pattern)) {
			t.Errorf("%s: %s is no JSON", p.Name, p.Pattern)
		}
	}
}

func FuzzParseEvent(f *testing.F) {
	f.Add([]byte(written("AWS Health Event", "aws.health",
		`{"service":"EC2","affectedEntities":[{"entityValue":"i-0"}]}`)))
	f.Add([]byte(written("EC2 Instance Rebalance Recommendation", "aws.ec2", `{"instance-id":"i-0b662ef9931388ba0"}`)))
	f.Fuzz(func(t *testing.T, body []byte) {
		e, err := ec2cloud.ParseEvent(body, "replace")
		if err == nil && e.Says == 0 {
			t.Errorf("%q: got an event that says nothing", body)
		}
	})
}
