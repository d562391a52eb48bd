package ec2

import (
	"encoding/xml"
	"maps"
	"regexp"
	"strings"
	"time"

	"cloudmaster/integration/aws/call"
)

var instanceForm = regexp.MustCompile(`^i-[0-9a-f]{8,17}$`)

type changesAnswer struct {
	XMLName xml.Name     `xml:"answer"`
	Changes []changeItem `xml:"instancesSet>item"`
}

type changeItem struct {
	ID      string    `xml:"instanceId"`
	Current stateItem `xml:"currentState"`
	Before  stateItem `xml:"previousState"`
}

// change does something with each instance that a request names, after all of them were found and all were allowed.
func (r *Region) change(in *request, action string, do func(*instance, time.Time) error) (any, error) {
	ids := list(in.form, "InstanceId")
	if len(ids) == 0 {
		return nil, call.Errorf("MissingParameter", "The request must contain the parameter InstanceId")
	}
	found, err := r.named(ids, in.now, (*instance).isKnown)
	if err != nil {
		return nil, err
	}
	for _, i := range found {
		one := call.Call{
			Action: "ec2:" + action, Resources: []string{r.arn("instance", i.ID)}, Context: r.ofInstance(i),
		}
		if err := in.allowed(one); err != nil {
			return nil, err
		}
	}
	if err := r.throttleResources(action, in.now, len(found)); err != nil {
		return nil, err
	}
	var out changesAnswer
	for _, i := range found {
		before := i.State
		if err := do(i, in.now); err != nil {
			return nil, err
		}
		out.Changes = append(out.Changes, changeItem{ID: i.ID, Current: stateOf(i.State), Before: stateOf(before)})
		if i.State != before {
			r.happened(i)
		}
	}
	return out, nil
}

func (r *Region) terminateInstances(in *request) (any, error) {
	return r.change(in, "TerminateInstances", func(i *instance, now time.Time) error {
		r.end(i, UserInitiatedShutdown, now)
		return nil
	})
}

// end ends an instance, unless that was done.
func (r *Region) end(i *instance, why StateReason, now time.Time) {
	if i.State == shuttingDown || i.State == terminated {
		return
	}
	i.Reason = why
	i.become(shuttingDown, terminated, now.Add(r.times.End))
}

func (r *Region) stopInstances(in *request) (any, error) {
	return r.change(in, "StopInstances", func(i *instance, now time.Time) error {
		switch {
		case i.State == stopped, i.State == stopping:
			return nil
		case i.Spot: // of type one-time, as all that RunInstances makes here
			return call.Errorf("UnsupportedOperation", "You can't stop the Spot Instance '%s' because it is "+
				"associated with a one-time Spot Instance request. You can only stop Spot Instances associated "+
				"with persistent Spot Instance requests.", i.ID)
		case i.State != running:
			return incorrect(i)
		}
		i.Reason = UserInitiatedShutdown
		i.become(stopping, stopped, now.Add(r.times.End))
		return nil
	})
}

// startInstances starts what is stopped, for which there must be capacity again.
func (r *Region) startInstances(in *request) (any, error) {
	return r.change(in, "StartInstances", func(i *instance, now time.Time) error {
		switch {
		case i.alive():
			return nil
		case i.State != stopped:
			return incorrect(i)
		}
		o := offer{kind: i.Type, zone: i.Zone, market: market(i.Spot)}
		if r.free(o, 1) == 0 {
			return noRoom(o)
		}
		if err := r.quota(r.kinds[i.Type], o.market, 1); err != nil {
			return err
		}
		i.Reason = StateReason{}
		if s := r.findSubnet(i.Subnet); s != nil && s.Public {
			i.PublicIP = r.publicIP() // a new one
		}
		i.Launched = now.UTC()
		i.become(pending, running, now.Add(r.times.Boot))
		return nil
	})
}

func incorrect(i *instance) error {
	return call.Errorf("IncorrectInstanceState", "The instance '%s' is not in a state from which it can be stopped or "+
		"started: it is %s.", i.ID, i.State)
}

// createTags tags instances and security groups. A tag that is there gets the new value. Source: EC2 API Reference,
// CreateTags; EC2 User Guide, "Tag your Amazon EC2 resources", tag restrictions.
func (r *Region) createTags(in *request) (any, error) {
	tags := formTags(in.form, "Tag")
	var targets []map[string]string
	for _, id := range list(in.form, "ResourceId") {
		kind, context, have, err := r.tagged(id, in.now)
		if err != nil {
			return nil, err
		}
		context.SetRequestTags(tags)
		one := call.Call{Action: "ec2:CreateTags", Resources: []string{r.arn(kind, id)}, Context: context}
		if err := in.allowed(one); err != nil {
			return nil, err
		}
		if err := checkTags(have, tags); err != nil {
			return nil, err
		}
		targets = append(targets, have)
	}
	for _, have := range targets {
		maps.Copy(have, tags)
	}
	return yes(), nil
}

// mostTags is how many tags a resource may have.
const mostTags = 50

func checkTags(have, more map[string]string) error {
	all := maps.Clone(have)
	maps.Copy(all, more)
	if len(all) > mostTags {
		return call.Errorf("TagLimitExceeded", "More than %d tags specified", mostTags)
	}
	for key := range more {
		if strings.HasPrefix(key, "aws:") {
			return call.Errorf("InvalidParameterValue", "Tag keys starting with 'aws:' are reserved for internal use")
		}
	}
	return nil
}

// tagged returns what can be tagged under an id: its kind, its condition keys, and the tags that it has.
func (r *Region) tagged(id string, now time.Time) (kind string, c call.Context, tags map[string]string, err error) {
	if strings.HasPrefix(id, "sg-") {
		g := r.findGroup(id)
		if g == nil {
			return "", nil, nil, call.Errorf("InvalidGroup.NotFound", "The security group '%s' does not exist", id)
		}
		c := r.groupContext(g)
		maps.Copy(c, r.context())
		return "security-group", c, g.tags, nil
	}
	if !strings.HasPrefix(id, "i-") {
		return "", nil, nil, call.Errorf("InvalidID", "The ID '%s' is not valid", id)
	}
	found, err := r.named([]string{id}, now, (*instance).isKnown)
	if err != nil {
		return "", nil, nil, err
	}
	return "instance", r.ofInstance(found[0]), found[0].Tags, nil
}
