package ec2

import (
	"encoding/base64"
	"net/url"
	"strings"

	"cloudmaster/integration/aws/call"
)

// mostUserData is in bytes, before base64. Source: EC2 User Guide, "Run commands when you launch an EC2 instance with
// user data input".
const mostUserData = 16 << 10

// launch is what a RunInstances asks for, with everything that it names.
type launch struct {
	image       *Image
	kind        Type
	least, most int
	market      market
	zone        string // asked for; empty: EC2 chooses
	subnet      *subnet
	groups      []*group
	userData    string
	profile     string
	role        string
	key         string
	placement   string
	credits     string
	tokens      string // HttpTokens: optional or required
	endpoint    string // HttpEndpoint
	hops        string // HttpPutResponseHopLimit
	shutdown    string
	tags        map[string]map[string]string // by type of resource
}

// readLaunch reads a RunInstances. Its errors are those of parameters that are wrong.
func (r *Region) readLaunch(form url.Values) (*launch, error) {
	l := &launch{
		market: market(form.Get("InstanceMarketOptions.MarketType") == "spot"), tags: tagSpecifications(form),
		userData: form.Get("UserData"), key: form.Get("KeyName"), placement: form.Get("Placement.GroupName"),
		zone: form.Get("Placement.AvailabilityZone"), credits: form.Get("CreditSpecification.CpuCredits"),
		tokens: or(form.Get("MetadataOptions.HttpTokens"), "optional"),
		// The defaults are those of the account. Source: EC2 API Reference, InstanceMetadataOptionsRequest.
		endpoint: or(form.Get("MetadataOptions.HttpEndpoint"), "enabled"),
		hops:     or(form.Get("MetadataOptions.HttpPutResponseHopLimit"), "1"),
		shutdown: or(form.Get("InstanceInitiatedShutdownBehavior"), "stop"),
	}
	for _, read := range []func(*launch, url.Values) error{
		r.readCounts, r.readKind, r.readImage, r.readPlace, r.readGroups, r.readNames, r.readProfile, readUserData,
	} {
		if err := read(l, form); err != nil {
			return nil, err
		}
	}
	return l, nil
}

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

func (*Region) readCounts(l *launch, form url.Values) (err error) {
	if l.least, err = number(form, "MinCount"); err != nil {
		return err
	}
	if l.most, err = number(form, "MaxCount"); err != nil {
		return err
	}
	if l.least < 1 || l.most < l.least {
		return call.Errorf("InvalidParameterValue", "MinCount (%d) must be at least 1 and at most MaxCount (%d)",
			l.least, l.most)
	}
	return nil
}

func (r *Region) readKind(l *launch, form url.Values) error {
	name := or(form.Get("InstanceType"), "m1.small")
	kind, known := r.kinds[name]
	if !known {
		return call.Errorf("InvalidParameterValue", "Invalid value '%s' for InstanceType.", name)
	}
	l.kind = kind
	switch {
	case !burstable(name) && l.credits != "":
		return call.Errorf("InvalidParameterCombination",
			"The CreditSpecification parameter is not supported for instance type %s.", name)
	case burstable(name) && l.credits == "":
		l.credits = "unlimited" // the default of t3 and t4g
	}
	return nil
}

func (r *Region) readImage(l *launch, form url.Values) (err error) {
	if l.image, err = r.image(form.Get("ImageId")); err != nil {
		return err
	}
	if l.image.Arch != l.kind.Arch {
		return call.Errorf("InvalidParameterValue", "The architecture '%s' of the specified instance type does not "+
			"match the architecture '%s' of the specified AMI. Specify an instance type and an AMI that have "+
			"matching architectures, and try again.", l.kind.Arch, l.image.Arch)
	}
	if l.image.State != "available" {
		return call.Errorf("InvalidAMIID.Unavailable", "The image ID '%s' is not available", l.image.ID)
	}
	return nil
}

// readPlace reads where instances are to be. Without a subnet they come into a default subnet of the default VPC.
func (r *Region) readPlace(l *launch, form url.Values) error {
	id := form.Get("SubnetId")
	if id == "" {
		for _, v := range r.vpcs {
			if v.Default {
				return nil
			}
		}
		return call.Errorf("VPCIdNotSpecified", "No default VPC for this user")
	}
	l.subnet = r.findSubnet(id)
	if l.subnet == nil {
		return call.Errorf("InvalidSubnetID.NotFound", "The subnet ID '%s' does not exist", id)
	}
	if l.zone != "" && l.zone != l.subnet.Zone {
		return call.Errorf("InvalidParameterValue", "The specified subnet is not in the availability zone %s", l.zone)
	}
	l.zone = l.subnet.Zone
	return nil
}

func (r *Region) readGroups(l *launch, form url.Values) error {
	vpc := ""
	if l.subnet != nil {
		vpc = l.subnet.VPC
	}
	ids := list(form, "SecurityGroupId")
	for _, id := range ids {
		g := r.findGroup(id)
		if g == nil {
			return call.Errorf("InvalidGroup.NotFound", "The security group '%s' does not exist", id)
		}
		if vpc == "" {
			vpc = g.vpc
		}
		if g.vpc != vpc {
			return call.Errorf("InvalidParameter", "Security group %s and subnet %s belong to different networks.", id,
				form.Get("SubnetId"))
		}
		l.groups = append(l.groups, g)
	}
	if len(ids) == 0 {
		for _, g := range r.groups {
			if g.name == "default" && (vpc == "" || g.vpc == vpc) {
				l.groups = append(l.groups, g)
				break
			}
		}
	}
	return nil
}

func (r *Region) readNames(l *launch, _ url.Values) error {
	if l.key != "" && !r.keys[l.key] {
		return call.Errorf("InvalidKeyPair.NotFound", "The key pair '%s' does not exist", l.key)
	}
	if l.placement != "" && !r.placements[l.placement] {
		return call.Errorf("InvalidPlacementGroup.Unknown", "The placement group '%s' is unknown", l.placement)
	}
	return nil
}

func (r *Region) readProfile(l *launch, form url.Values) error {
	name, field := form.Get("IamInstanceProfile.Name"), "iamInstanceProfile.name"
	if arn := form.Get("IamInstanceProfile.Arn"); arn != "" {
		name, field = arn[strings.LastIndexByte(arn, '/')+1:], "iamInstanceProfile.arn"
	}
	if name == "" {
		return nil
	}
	l.profile, l.role = name, name
	if r.fake.opts.Profiles == nil {
		return nil
	}
	role, ok := r.fake.opts.Profiles(name)
	if !ok {
		return call.Errorf("InvalidParameterValue", "Value (%s) for parameter %s is invalid. Invalid IAM Instance "+
			"Profile name", name, field)
	}
	l.role = role
	return nil
}

func readUserData(l *launch, _ url.Values) error {
	text, err := base64.StdEncoding.DecodeString(l.userData)
	switch {
	case err != nil:
		return call.Errorf("InvalidUserData.Malformed", "Invalid BASE64 encoding of user data.")
	case len(text) > mostUserData:
		return call.Errorf("InvalidParameterValue", "User data is limited to %d bytes", mostUserData)
	}
	return nil
}
