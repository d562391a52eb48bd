package ec2cloud

import (
	"encoding/json"
	"fmt"
	"regexp"

	"cloudmaster/internal/cloud"
	"cloudmaster/internal/pool"
)

// The events of EventBridge that are asked for. Sources: EC2 User Guide, "Automate Amazon EC2 using EventBridge", "Spot
// Instance interruption notices", "EC2 instance rebalance recommendations"; AWS Health User Guide, "Amazon EventBridge
// schema for AWS Health events".
const (
	eventSpot      = "EC2 Spot Instance Interruption Warning"
	eventRebalance = "EC2 Instance Rebalance Recommendation"
	eventState     = "EC2 Instance State-change Notification"
	eventHealth    = "AWS Health Event"
)

// What a cloud does about recommendations to rebalance.
const (
	RebalanceReplace = "replace"
	RebalanceIgnore  = "ignore"
)

const (
	// maxEvent bounds an event in bytes. EventBridge takes 256 KiB. Source: EventBridge User Guide, "Amazon EventBridge
	// quotas".
	maxEvent = 256 << 10
	// mostEntities bounds the instances that one event of AWS Health is about.
	mostEntities = 1000
)

// EventPattern says which events of EventBridge are wanted.
type EventPattern struct {
	Name    string // tells it from the others
	Pattern string // JSON, as EventBridge takes it
}

// EventPatterns are the events that ParseEvent reads.
func EventPatterns() []EventPattern {
	return []EventPattern{
		{"interruptions", `{"source":["aws.ec2"],"detail-type":["` + eventSpot + `","` + eventRebalance + `"]}`},
		{"changes", `{"source":["aws.ec2"],"detail-type":["` + eventState +
			`"],"detail":{"state":["shutting-down","stopping","terminated"]}}`},
		{"health", `{"source":["aws.health"],"detail-type":["` + eventHealth +
			`"],"detail":{"service":["EC2"],"eventTypeCategory":["scheduledChange"]}}`},
	}
}

// event is an event of EventBridge, as far as it is read.
type event struct {
	DetailType string `json:"detail-type"`
	Source     string `json:"source"`
	Detail     detail `json:"detail"`
}

type detail struct {
	Instance string   `json:"instance-id"`
	Action   string   `json:"instance-action"` // of spot notices: hibernate, stop or terminate
	State    string   `json:"state"`
	Service  string   `json:"service"`
	Entities []entity `json:"affectedEntities"`
}

type entity struct {
	Value string `json:"entityValue"`
}

// instanceForm matches ids of instances. Source: EC2 User Guide, "Resource IDs".
var instanceForm = regexp.MustCompile(`^i-([0-9a-f]{8}|[0-9a-f]{17})$`)

// ParseEvent reads an event as EventBridge writes it. An event of a kind that nobody has asked for is an error.
func ParseEvent(body []byte, rebalance string) (cloud.Event, error) {
	if len(body) > maxEvent {
		return cloud.Event{}, fmt.Errorf("event has %d bytes, the most is %d", len(body), maxEvent)
	}
	var e event
	if err := json.Unmarshal(body, &e); err != nil {
		return cloud.Event{}, fmt.Errorf("event is not as EventBridge writes it: %w", err)
	}
	source := "aws.ec2"
	if e.DetailType == eventHealth {
		source = "aws.health"
	}
	if e.Source != source {
		return cloud.Event{}, fmt.Errorf("event %.100q is of %.100q, not of %s", e.DetailType, e.Source, source)
	}
	if e.DetailType == eventHealth {
		return e.health()
	}
	if !instanceForm.MatchString(e.Detail.Instance) {
		return cloud.Event{}, fmt.Errorf("event %.100q is about %.100q, which is no instance", e.DetailType,
			e.Detail.Instance)
	}
	out := cloud.Event{Instances: []pool.InstanceID{pool.InstanceID(e.Detail.Instance)}}
	switch e.DetailType {
	case eventSpot:
		out.Says, out.Reason = cloud.Ends, "spot notice"
	case eventRebalance:
		out.Says, out.Reason = cloud.Ends, "rebalance recommendation"
		if rebalance == RebalanceIgnore {
			out.Says = cloud.Ignored
		}
	case eventState:
		out.Says, out.Reason = cloud.Changed, e.Detail.State
	default:
		return cloud.Event{}, fmt.Errorf("event %.100q is of no kind that the rules ask for", e.DetailType)
	}
	return out, nil
}

// health reads an event of AWS Health. Whatever it says in detail, EC2 says it more precisely of each instance, with
// its time, when it is asked; so the event only tells to ask.
func (e *event) health() (cloud.Event, error) {
	if e.Detail.Service != "EC2" {
		return cloud.Event{}, fmt.Errorf("event %q is about the service %.100q, not EC2", e.DetailType,
			e.Detail.Service)
	}
	out := cloud.Event{Says: cloud.Look, Reason: "event of AWS Health"}
	for _, about := range e.Detail.Entities[:min(len(e.Detail.Entities), mostEntities)] {
		if instanceForm.MatchString(about.Value) {
			out.Instances = append(out.Instances, pool.InstanceID(about.Value))
		}
	}
	return out, nil
}
