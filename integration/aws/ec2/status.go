package ec2

import (
	"encoding/xml"
	"slices"
	"time"

	"cloudmaster/integration/aws/call"
)

type statusAnswer struct {
	XMLName  xml.Name     `xml:"answer"`
	Statuses []statusItem `xml:"instanceStatusSet>item"`
	Next     string       `xml:"nextToken,omitempty"`
}

type statusItem struct {
	ID       string      `xml:"instanceId"`
	Zone     string      `xml:"availabilityZone"`
	State    stateItem   `xml:"instanceState"`
	System   string      `xml:"systemStatus>status"`
	Instance string      `xml:"instanceStatus>status"`
	Events   []Scheduled `xml:"eventsSet>item"`
}

// Scheduled is an event that EC2 has scheduled for an instance.
type Scheduled struct {
	Code        string    `xml:"code"` // such as instance-retirement
	Description string    `xml:"description"`
	NotBefore   time.Time `xml:"notBefore"`
}

// fields are the filters of DescribeInstanceStatus that the fake knows. It has none for tags.
func (s *statusItem) fields(name string) ([]string, bool) {
	if name == "event.code" {
		var codes []string
		for _, e := range s.Events {
			codes = append(codes, e.Code)
		}
		return codes, true
	}
	value, known := map[string]string{
		"availability-zone": s.Zone, "instance-state-name": s.State.Name,
		"system-status.status": s.System, "instance-status.status": s.Instance,
	}[name]
	return []string{value}, known
}

// describeStatus tells of instances that run, or of all if the request says so.
func (r *Region) describeStatus(in *request) (any, error) {
	ids := list(in.form, "InstanceId")
	if _, err := r.named(ids, in.now, (*instance).seen); err != nil {
		return nil, err
	}
	var found []statusItem
	for _, i := range r.instances {
		if !i.seen(in.now) || len(ids) > 0 && !slices.Contains(ids, i.ID) {
			continue
		}
		if i.State != running && in.form.Get("IncludeAllInstances") != "true" {
			continue
		}
		item := statusItem{
			ID: i.ID, Zone: i.Zone, State: stateOf(i.State), System: "ok", Instance: "ok", Events: i.events,
		}
		switch {
		case i.State != running:
			item.System, item.Instance = "not-applicable", "not-applicable"
		case r.room.down[i.Zone]:
			item.System, item.Instance = "impaired", "impaired"
		case i.impaired:
			item.Instance = "impaired"
		}
		ok, err := passes(in.form, nil, item.fields)
		if err != nil {
			return nil, err
		}
		if ok {
			found = append(found, item)
		}
	}
	part, next, err := page(in.form, found)
	return statusAnswer{Statuses: part, Next: next}, err
}

type attributeAnswer struct {
	XMLName  xml.Name `xml:"answer"`
	ID       string   `xml:"instanceId"`
	UserData string   `xml:"userData>value"`
}

// describeAttribute returns the user data of an instance.
func (r *Region) describeAttribute(in *request) (any, error) {
	found, err := r.named([]string{in.form.Get("InstanceId")}, in.now, (*instance).seen)
	if err != nil {
		return nil, err
	}
	if name := in.form.Get("Attribute"); name != "userData" {
		return nil, call.Errorf("InvalidParameterValue", "the fake knows no attribute %s", name)
	}
	return attributeAnswer{ID: found[0].ID, UserData: found[0].UserData}, nil
}
