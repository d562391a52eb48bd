package ec2cloud_test

import (
	"net/url"
	"slices"
	"strings"

	"cloudmaster/internal/cloud"
)

// halt is StopInstances: all of the instances or none.
func (f *fake) halt(form url.Values) (code, answer string) {
	found, missing := f.find(listOf(form, "InstanceId"))
	if len(missing) > 0 {
		return "InvalidInstanceID.NotFound", "The instance IDs '" + strings.Join(missing, ", ") + "' do not exist"
	}
	for _, m := range found {
		switch {
		case !slices.Contains([]string{"running", "stopping", "stopped"}, m.state):
			return "IncorrectInstanceState", "The instance '" + m.id + "' is not in a state from which it can be " +
				"stopped."
		case m.form.Get("InstanceMarketOptions.MarketType") == "spot":
			return "UnsupportedOperation", "You can't stop the Spot Instance '" + m.id +
				"' because it is associated with a one-time Spot Instance request."
		}
	}
	for _, m := range found {
		if m.state == "running" {
			m.state = "stopping"
		}
	}
	return "", "<instancesSet/>"
}

// wake is StartInstances: all of the instances or none. As on EC2 the time of launch is that of the last start.
func (f *fake) wake(form url.Values) (code, answer string) {
	found, missing := f.find(listOf(form, "InstanceId"))
	if len(missing) > 0 {
		return "InvalidInstanceID.NotFound", "The instance IDs '" + strings.Join(missing, ", ") + "' do not exist"
	}
	wanted := 0
	for _, m := range found {
		switch m.state {
		case "stopped":
			wanted++
		case "stopping", "shutting-down":
			return "IncorrectInstanceState", "The instance '" + m.id + "' is not in a state from which it can be " +
				"started."
		}
	}
	if len(found) > 0 && wanted > f.room(found[0].tags[cloud.TagDeployment]) {
		return "InsufficientInstanceCapacity", "we have none of these now"
	}
	for _, m := range found {
		if m.state == "stopped" {
			m.state = "pending"
		}
	}
	return "", "<instancesSet/>"
}
