package ec2

import (
	"maps"
	"net/http"
	"strings"
	"time"

	"cloudmaster/integration/aws/call"
)

// market is where an instance's capacity comes from.
type market bool

// The markets.
const (
	onDemand market = false
	spot     market = true
)

// offer is what capacity belongs to.
type offer struct {
	kind, zone string
	market     market
}

// rooms are how many instances there may be. What is absent is not limited.
type rooms struct {
	most     map[offer]int
	down     map[string]bool     // zones
	withheld map[offer]bool      // that AWS does not have at all
	spots    int                 // the account's spot instances; below zero: no limit
	cores    int                 // the account's virtual processors; below zero: no limit
	leaving  map[offer]time.Time // until when AWS has taken spot capacity back
}

func newRooms() rooms {
	return rooms{
		most: make(map[offer]int), down: make(map[string]bool), withheld: make(map[offer]bool), spots: -1, cores: -1,
		leaving: make(map[offer]time.Time),
	}
}

// expire gives back capacity that was taken for a while.
func (m *rooms) expire(now time.Time) {
	maps.DeleteFunc(m.leaving, func(_ offer, until time.Time) bool { return !now.Before(until) })
}

// free returns how many more instances of an offer there may be; at most the given number.
func (r *Region) free(o offer, most int) int {
	if _, left := r.room.leaving[o]; left || r.room.down[o.zone] {
		return 0
	}
	limit, limited := r.room.most[o]
	if !limited {
		return most
	}
	for _, i := range r.instances {
		if i.alive() && i.Type == o.kind && i.Zone == o.zone && market(i.Spot) == o.market {
			limit--
		}
	}
	return max(0, min(limit, most))
}

// quota returns an error if the account may not have so many more instances.
func (r *Region) quota(kind Type, where market, more int) error {
	spots, cores := 0, 0
	for _, i := range r.instances {
		switch {
		case !i.alive():
		case i.Spot:
			spots++
		default:
			cores += r.kinds[i.Type].CPUs
		}
	}
	switch {
	case where == spot && r.room.spots >= 0 && spots+more > r.room.spots:
		return call.Errorf("MaxSpotInstanceCountExceeded", "Max spot instance count exceeded")
	case where == onDemand && r.room.cores >= 0 && cores+more*kind.CPUs > r.room.cores:
		return call.Errorf("VcpuLimitExceeded", "You have requested more vCPU capacity than your current vCPU limit "+
			"of %d allows for the instance bucket that the specified instance type belongs to.", r.room.cores)
	}
	return nil
}

// noRoom is the error of a launch for which there is no capacity. EC2 answers it with status 500. Source: EC2 API
// Reference, "Error codes", server error codes.
func noRoom(o offer) error {
	return &call.Error{
		Status: http.StatusInternalServerError, Code: "InsufficientInstanceCapacity",
		Message: "We currently do not have sufficient " + o.kind + " capacity in the Availability Zone you " +
			"requested (" + o.zone + "). Our system will be working on provisioning additional capacity.",
	}
}

// unsupported is the error of a launch in a zone that does not have the type.
func (r *Region) unsupported(o offer) error {
	var others []string
	for _, letter := range strings.Split(zones, "") {
		if zone := r.name + letter; !r.room.withheld[offer{kind: o.kind, zone: zone}] {
			others = append(others, zone)
		}
	}
	return call.Errorf("Unsupported", "Your requested instance type (%s) is not supported in your requested "+
		"Availability Zone (%s). Please retry your request by not specifying an Availability Zone or choosing %s.",
		o.kind, o.zone, strings.Join(others, ", "))
}
