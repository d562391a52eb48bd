package ec2

import (
	"encoding/xml"

	"cloudmaster/integration/aws/call"
)

type statusAnswer struct {
	XMLName  xml.Name     `xml:"answer"`
	Statuses []statusItem `xml:"instanceStatusSet>item"`
	Next     string       `xml:"nextToken,omitempty"`
}

type statusItem struct {
	ID       string    `xml:"instanceId"`
	Zone     string    `xml:"availabilityZone"`
	State    stateItem `xml:"instanceState"`
	System   string    `xml:"systemStatus>status"`
	Instance string    `xml:"instanceStatus>status"`
}

// describeStatus tells of instances that run, or of all if the request says so.
func (r *Region) describeStatus(in *request) (any, error) {
	ids := list(in.form, "InstanceId")
	if _, err := r.named(ids, in.now, (*instance).seen); err != nil {
		return nil, err
	}
	matching, err := r.matching(in, ids)
	if err != nil {
		return nil, err
	}
	var found []statusItem
	for _, i := range matching {
		if i.State != running && in.form.Get("IncludeAllInstances") != "true" {
			continue
		}
		item := statusItem{ID: i.ID, Zone: i.Zone, State: stateOf(i.State), System: "ok", Instance: "ok"}
		switch {
		case i.State != running:
			item.System, item.Instance = "not-applicable", "not-applicable"
		case r.room.down[i.Zone]:
			item.System, item.Instance = "impaired", "impaired"
		case i.impaired:
			item.Instance = "impaired"
		}
		found = append(found, item)
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
