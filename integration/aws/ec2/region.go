package ec2

import (
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"sync"
	"time"

	"cloudmaster/integration/aws/call"
)

// Region is EC2 in one region. Its exported methods steer what happens there, and may be called concurrently.
type Region struct {
	fake    *Fake
	name    string
	account string

	mu        sync.Mutex
	next      int                 // number of the last id; guarded by mu
	instances []*instance         // in the order of their launches; guarded by mu
	tokens    map[string]*started // by client token; guarded by mu
	images    []Image             // guarded by mu
	kinds     map[string]Type     // by name; guarded by mu
	vpcs      []VPC               // guarded by mu
	subnets   []*subnet           // guarded by mu
	groups    []*group            // guarded by mu
	room      rooms               // guarded by mu
	times     Times               // guarded by mu
	limits    buckets             // nil: nobody is throttled; guarded by mu
	doom      []StateReason       // of the next launches; guarded by mu
	faults    []*fault            // guarded by mu
	events    []Event             // that nobody was told of yet; guarded by mu
	public    netip.Addr          // the last public address; guarded by mu

	keys       map[string]bool // names of key pairs; guarded by mu
	placements map[string]bool // names of placement groups; guarded by mu
}

// Times are how long things take.
type Times struct {
	Boot    time.Duration // from pending to running
	End     time.Duration // from shutting-down to terminated, and from stopping to stopped
	ListLag time.Duration // until DescribeInstances shows a new instance
	IDLag   time.Duration // until other calls know the id of a new instance
	// Remember is how long instances that have ended are still listed; default one hour, as EC2 does. Source: EC2
	// User Guide, "Terminate Amazon EC2 instances".
	Remember time.Duration
}

// VPC is a virtual network.
type VPC struct {
	ID      string
	CIDR    string
	Default bool
}

// Subnet is a part of a VPC in one availability zone.
type Subnet struct {
	ID     string
	VPC    string
	Zone   string
	CIDR   string
	Public bool // instances get public addresses
	Tags   map[string]string
}

type subnet struct {
	Subnet

	free    netip.Addr // the next private address
	left    int        // how many addresses are left
	zonesOf bool       // it is its zone's default subnet
}

// zones are the letters of the zones of each region.
const zones = "abc"

// newRegion returns a region with a default VPC, which has a default subnet in each zone.
func newRegion(f *Fake, name string) *Region {
	r := &Region{
		fake: f, name: name, account: f.opts.Account,
		tokens: make(map[string]*started), kinds: builtinTypes(), room: newRooms(),
		keys: make(map[string]bool), placements: make(map[string]bool),
		public: netip.MustParseAddr("203.0.113.0"), // reserved for documentation
		vpcs:   []VPC{{ID: "vpc-default", CIDR: "172.31.0.0/16", Default: true}},
	}
	for i, letter := range strings.Split(zones, "") {
		r.addSubnet(Subnet{
			ID: "subnet-" + letter, VPC: "vpc-default", Zone: name + letter, Public: true,
			CIDR: fmt.Sprintf("172.31.%d.0/20", i*16),
		}, true)
	}
	r.groups = append(r.groups, &group{
		id: "sg-default", name: "default", vpc: "vpc-default", text: "default VPC security group",
		tags: map[string]string{},
	})
	return r
}

// kept is how many addresses of each subnet EC2 keeps: the first four and the last one. Source: VPC User Guide,
// "Subnet CIDR blocks".
const kept = 5

// addSubnet adds a subnet.
func (r *Region) addSubnet(s Subnet, zonesOf bool) {
	prefix := netip.MustParsePrefix(s.CIDR)
	free := prefix.Addr()
	for range kept - 1 {
		free = free.Next()
	}
	s.Tags = maps.Clone(s.Tags)
	left := 1<<(prefix.Addr().BitLen()-prefix.Bits()) - kept
	r.subnets = append(r.subnets, &subnet{Subnet: s, free: free, left: left, zonesOf: zonesOf})
}

// take returns a private address. Addresses are not used again: tests should not depend on one coming back.
func (s *subnet) take() string {
	address := s.free.String()
	s.free = s.free.Next()
	s.left--
	return address
}

// publicIP returns a public address that no other instance has had.
func (r *Region) publicIP() string {
	r.public = r.public.Next()
	return r.public.String()
}

// id returns a new id of a kind of resource, as i-0000000000000002a.
func (r *Region) id(kind string) string {
	r.next++
	return fmt.Sprintf("%s-%017x", kind, r.next)
}

// context holds the condition keys of every call of EC2.
func (r *Region) context() call.Context {
	return call.Context{"ec2:Region": {r.name}}
}

// arn returns the ARN of a resource of the account.
func (r *Region) arn(kind, id string) string {
	return "arn:" + call.Partition + ":ec2:" + r.name + ":" + r.account + ":" + kind + "/" + id
}

func (r *Region) findSubnet(id string) *subnet {
	for _, s := range r.subnets {
		if s.ID == id {
			return s
		}
	}
	return nil
}
