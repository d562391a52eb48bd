package ec2

import (
	"encoding/xml"
	"net/url"
	"strings"

	"cloudmaster/integration/aws/call"
)

// mostToken is in characters. Source: EC2 Developer Guide, "Ensuring idempotency in Amazon EC2 API requests".
const mostToken = 64

// started is what a client token has started.
type started struct {
	request   string
	instances []*instance
}

// runInstances carries out RunInstances.
func (r *Region) runInstances(in *request) (any, error) {
	l, err := r.readLaunch(in.form)
	if err != nil {
		return nil, err
	}
	if err := r.mayLaunch(in, l); err != nil {
		return nil, err
	}
	before, key, err := r.repeated(in.form, l)
	if err != nil || before != nil {
		return reservationOf(before), err
	}
	where, count, err := r.place(l)
	if err != nil {
		return nil, err
	}
	if err := r.throttleResources("RunInstances", in.now, count); err != nil {
		return nil, err
	}
	reservation := r.id("r")
	made := make([]*instance, count)
	for n := range made {
		made[n] = r.make(in, l, where, reservation)
	}
	r.instances = append(r.instances, made...)
	if key != "" {
		r.tokens[key] = &started{request: in.form.Encode(), instances: made}
	}
	for _, i := range made {
		r.happened(i)
	}
	return reservationOf(made), nil
}

// repeated returns what an earlier request with the same client token has started, and the key under which the token
// is kept. A token counts in the region, or in the zone if the request names one. Source: EC2 Developer Guide,
// "Ensuring idempotency in Amazon EC2 API requests"; EC2 API Reference, "Error codes".
func (r *Region) repeated(form url.Values, l *launch) (before []*instance, key string, err error) {
	token := form.Get("ClientToken")
	if token == "" {
		return nil, "", nil
	}
	if len(token) > mostToken || strings.ContainsFunc(token, func(c rune) bool { return c > '~' || c < ' ' }) {
		return nil, "", call.Errorf("InvalidClientToken", "The specified client token '%s' is not valid", token)
	}
	key = token + " " + l.zone
	s := r.tokens[key]
	switch {
	case s == nil:
		return nil, key, nil
	case s.request != form.Encode():
		return nil, "", call.Errorf("IdempotentParameterMismatch", "The client token '%s' has already been used with "+
			"different parameters in the request", token)
	case s.over():
		return nil, "", call.Errorf("IdempotentInstanceTerminated", "The instance that was launched with the client "+
			"token '%s' has been terminated", token)
	}
	return s.instances, key, nil
}

// over reports whether all instances of a token have ended.
func (s *started) over() bool {
	for _, i := range s.instances {
		if i.State != terminated {
			return false
		}
	}
	return true
}

// place chooses the subnet, and how many instances there is room for.
func (r *Region) place(l *launch) (where *subnet, count int, err error) {
	candidates := []*subnet{l.subnet}
	if l.subnet == nil {
		candidates = r.defaults(l.zone)
	}
	for _, s := range candidates {
		o := offer{kind: l.kind.Name, zone: s.Zone, market: l.market}
		switch free := min(r.free(o, l.most), s.left); {
		case r.room.withheld[offer{kind: o.kind, zone: o.zone}]:
			err = r.unsupported(o)
		case s.left < l.least:
			err = call.Errorf("InsufficientFreeAddressesInSubnet", "There are not enough free addresses in subnet '%s'",
				s.ID)
		case free < l.least:
			err = noRoom(o)
		case free > count:
			where, count = s, free
		}
	}
	if where == nil {
		return nil, 0, err
	}
	return where, count, r.quota(l.kind, l.market, count)
}

// defaults are the default subnets, of one zone or of all.
func (r *Region) defaults(zone string) []*subnet {
	var out []*subnet
	for _, s := range r.subnets {
		if s.zonesOf && (zone == "" || zone == s.Zone) {
			out = append(out, s)
		}
	}
	return out
}

// make makes one instance of a launch.
func (r *Region) make(in *request, l *launch, where *subnet, reservation string) *instance {
	i := &instance{
		Instance: Instance{
			ID: r.id("i"), Image: l.image.ID, Type: l.kind.Name, Subnet: where.ID, Zone: where.Zone, Region: r.name,
			Spot: bool(l.market), UserData: l.userData, Profile: l.profile, Role: l.role, HTTPTokens: l.tokens,
			Credits: l.credits, ShutdownBehavior: l.shutdown, Launched: in.now.UTC(),
			PrivateIP: where.take(), Tags: map[string]string{},
		},
		account: r.account, reservation: reservation, token: in.form.Get("ClientToken"), vpc: where.VPC,
		key: l.key, volume: r.id("vol"),
		volumeTags: l.tags["volume"],
		listed:     in.now.Add(r.times.ListLag), known: in.now.Add(r.times.IDLag),
	}
	for key, value := range l.tags["instance"] {
		i.Tags[key] = value
	}
	for _, g := range l.groups {
		i.Groups = append(i.Groups, g.id)
	}
	if where.Public {
		i.PublicIP = r.publicIP()
	}
	if i.Spot {
		i.spotRequest = r.id("sir")
	}
	if len(r.doom) > 0 {
		i.doom, r.doom = r.doom[0], r.doom[1:]
	}
	i.become(pending, running, in.now.Add(r.times.Boot))
	return i
}

// reservationAnswer is the answer to RunInstances.
type reservationAnswer struct {
	XMLName xml.Name `xml:"answer"`
	reservation
}

func reservationOf(list []*instance) any {
	if len(list) == 0 {
		return nil
	}
	return reservationAnswer{reservation: reservationItem(list)}
}
