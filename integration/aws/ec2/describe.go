package ec2

import (
	"encoding/xml"
	"slices"
	"strconv"
	"strings"
	"time"

	"cloudmaster/integration/aws/call"
)

type instancesAnswer struct {
	XMLName      xml.Name      `xml:"answer"`
	Reservations []reservation `xml:"reservationSet>item"`
	Next         string        `xml:"nextToken,omitempty"`
}

type reservation struct {
	ID        string         `xml:"reservationId"`
	Owner     string         `xml:"ownerId"`
	Instances []instanceItem `xml:"instancesSet>item"`
}

type stateItem struct {
	Code int    `xml:"code"`
	Name string `xml:"name"`
}

func stateOf(name string) stateItem { return stateItem{Code: stateCodes[name], Name: name} }

type reasonItem struct {
	Code    string `xml:"code"`
	Message string `xml:"message"`
}

type groupRef struct {
	ID string `xml:"groupId"`
}

type metadataItem struct {
	State    string `xml:"state"`
	Tokens   string `xml:"httpTokens"`
	Endpoint string `xml:"httpEndpoint"`
}

type instanceItem struct {
	ID          string        `xml:"instanceId"`
	Image       string        `xml:"imageId"`
	State       stateItem     `xml:"instanceState"`
	PrivateDNS  string        `xml:"privateDnsName"`
	PublicDNS   string        `xml:"dnsName"`
	Reason      string        `xml:"reason"`
	Key         string        `xml:"keyName,omitempty"`
	Type        string        `xml:"instanceType"`
	Launched    string        `xml:"launchTime"`
	Zone        string        `xml:"placement>availabilityZone"`
	Tenancy     string        `xml:"placement>tenancy"`
	Subnet      string        `xml:"subnetId,omitempty"`
	VPC         string        `xml:"vpcId,omitempty"`
	PrivateIP   string        `xml:"privateIpAddress,omitempty"`
	PublicIP    string        `xml:"ipAddress,omitempty"`
	Groups      []groupRef    `xml:"groupSet>item"`
	StateReason *reasonItem   `xml:"stateReason,omitempty"`
	Arch        string        `xml:"architecture"`
	RootType    string        `xml:"rootDeviceType"`
	RootName    string        `xml:"rootDeviceName"`
	Lifecycle   string        `xml:"instanceLifecycle,omitempty"`
	SpotRequest string        `xml:"spotInstanceRequestId,omitempty"`
	Token       string        `xml:"clientToken,omitempty"`
	Tags        []tag         `xml:"tagSet>item"`
	Profile     *profileItem  `xml:"iamInstanceProfile,omitempty"`
	Metadata    *metadataItem `xml:"metadataOptions"`
}

type profileItem struct {
	ARN string `xml:"arn"`
	ID  string `xml:"id"`
}

// reservationItem returns the answer about instances of one reservation.
func reservationItem(list []*instance) reservation {
	out := reservation{ID: list[0].reservation, Owner: list[0].account}
	for _, i := range list {
		out.Instances = append(out.Instances, i.item())
	}
	return out
}

func (i *instance) item() instanceItem {
	out := instanceItem{
		ID: i.ID, Image: i.Image, State: stateOf(i.State), Type: i.Type, Launched: i.Launched.Format(time.RFC3339),
		Zone: i.Zone, Tenancy: "default", Subnet: i.Subnet, VPC: i.vpc, PrivateIP: i.PrivateIP, PublicIP: i.PublicIP,
		Key: i.key, RootType: "ebs", RootName: rootDevice, Token: i.token, Tags: tagSet(i.Tags),
		SpotRequest: i.spotRequest,
		Metadata:    &metadataItem{State: "applied", Tokens: i.HTTPTokens, Endpoint: "enabled"},
	}
	if i.PrivateIP != "" {
		out.PrivateDNS = "ip-" + strings.ReplaceAll(i.PrivateIP, ".", "-") + "." + i.Region + ".compute.internal"
	}
	if i.PublicIP != "" {
		out.PublicDNS = "ec2-" + strings.ReplaceAll(i.PublicIP, ".", "-") + "." + i.Region + ".compute.amazonaws.com"
	}
	for _, id := range i.Groups {
		out.Groups = append(out.Groups, groupRef{ID: id})
	}
	if i.Spot {
		out.Lifecycle = "spot"
	}
	if i.Reason != (StateReason{}) {
		out.StateReason = &reasonItem{Code: i.Reason.Code, Message: i.Reason.Message}
		out.Reason = i.Reason.Message
	}
	if i.Profile != "" {
		out.Profile = &profileItem{
			ARN: "arn:" + call.Partition + ":iam::" + i.account + ":instance-profile/" + i.Profile, ID: i.Profile,
		}
	}
	return out
}

// describeInstances carries out DescribeInstances.
func (r *Region) describeInstances(in *request) (any, error) {
	ids := list(in.form, "InstanceId")
	if len(ids) > 0 && in.form.Has("MaxResults") {
		return nil, call.Errorf("InvalidParameterCombination",
			"The parameter instancesSet cannot be used with the parameter maxResults")
	}
	if _, err := r.named(ids, in.now, (*instance).seen); err != nil {
		return nil, err
	}
	found, err := r.matching(in, ids)
	if err != nil {
		return nil, err
	}
	part, next, err := page(in.form, found)
	if err != nil {
		return nil, err
	}
	out := instancesAnswer{Next: next}
	for len(part) > 0 {
		n := slices.IndexFunc(part, func(i *instance) bool { return i.reservation != part[0].reservation })
		if n < 0 {
			n = len(part)
		}
		out.Reservations = append(out.Reservations, reservationItem(part[:n]))
		part = part[n:]
	}
	return out, nil
}

// matching are the instances that can be seen, have one of the ids, and pass the request's filters.
func (r *Region) matching(in *request, ids []string) ([]*instance, error) {
	var out []*instance
	for _, i := range r.instances {
		ok, err := passes(in.form, i.Tags, i.fields)
		if err != nil {
			return nil, err
		}
		if ok && i.seen(in.now) && (len(ids) == 0 || slices.Contains(ids, i.ID)) {
			out = append(out, i)
		}
	}
	return out, nil
}

// fields are the filters of DescribeInstances that the fake knows.
func (i *instance) fields(name string) ([]string, bool) {
	switch name {
	case "instance.group-id":
		return i.Groups, true
	case "instance-state-code":
		return []string{strconv.Itoa(stateCodes[i.State])}, true
	case "instance-lifecycle":
		if i.Spot {
			return []string{"spot"}, true
		}
		return nil, true
	}
	value, known := map[string]string{
		"instance-state-name": i.State, "instance-id": i.ID, "image-id": i.Image, "instance-type": i.Type,
		"subnet-id": i.Subnet, "vpc-id": i.vpc, "availability-zone": i.Zone, "client-token": i.token,
		"private-ip-address": i.PrivateIP, "ip-address": i.PublicIP, "reservation-id": i.reservation,
		"iam-instance-profile.arn": i.Profile, "state-reason-code": i.Reason.Code, "key-name": i.key,
	}[name]
	return []string{value}, known
}

// named returns the instances of a request that names them. If one does not exist, or does not for this kind of request
// yet, the whole request fails.
func (r *Region) named(ids []string, now time.Time, exists func(*instance, time.Time) bool) ([]*instance, error) {
	var out []*instance
	var missing []string
	for _, id := range ids {
		if !instanceForm.MatchString(id) {
			return nil, call.Errorf("InvalidInstanceID.Malformed", "Invalid id: \"%s\"", id)
		}
		n := slices.IndexFunc(r.instances, func(i *instance) bool { return i.ID == id && exists(i, now) })
		if n < 0 {
			missing = append(missing, id)
			continue
		}
		out = append(out, r.instances[n])
	}
	switch len(missing) {
	case 0:
		return out, nil
	case 1:
		return nil, call.Errorf("InvalidInstanceID.NotFound", "The instance ID '%s' does not exist", missing[0])
	}
	return nil, call.Errorf("InvalidInstanceID.NotFound", "The instance IDs '%s' do not exist",
		strings.Join(missing, ", "))
}
