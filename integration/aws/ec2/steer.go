package ec2

import (
	"fmt"
	"maps"
	"strings"
	"time"

	"cloudmaster/integration/aws/call"
)

// locked runs do, and then tells the watchers what happened to instances.
func (r *Region) locked(do func(now time.Time)) {
	r.mu.Lock()
	now := r.fake.opts.Now()
	r.advance(now)
	do(now)
	events := r.events
	r.events = nil
	r.mu.Unlock()
	r.fake.tell(events)
}

// Tick lets everything happen that is due by now.
func (r *Region) Tick() { r.locked(func(time.Time) {}) }

// SetTimes sets how long things take from now on. At first everything takes no time, and is noticed by the next call.
func (r *Region) SetTimes(t Times) { r.locked(func(time.Time) { r.times = t }) }

// SetCapacity limits the instances on demand of a type in a zone. What runs already counts and stays.
func (r *Region) SetCapacity(kind, zone string, most int) {
	r.locked(func(time.Time) { r.room.most[offer{kind: kind, zone: zone, market: onDemand}] = most })
}

// SetSpotCapacity limits the spot instances of a type in a zone.
func (r *Region) SetSpotCapacity(kind, zone string, most int) {
	r.locked(func(time.Time) { r.room.most[offer{kind: kind, zone: zone, market: spot}] = most })
}

// Unlimit takes back all limits of capacity and quotas.
func (r *Region) Unlimit() {
	r.locked(func(time.Time) {
		clear(r.room.most)
		r.room.spots, r.room.cores = -1, -1
	})
}

// SetSpotQuota limits the account's spot instances.
func (r *Region) SetSpotQuota(most int) { r.locked(func(time.Time) { r.room.spots = most }) }

// SetCPUQuota limits the virtual processors of the account's instances on demand.
func (r *Region) SetCPUQuota(most int) { r.locked(func(time.Time) { r.room.cores = most }) }

// Withhold makes a zone one that does not have an instance type at all.
func (r *Region) Withhold(kind, zone string) {
	r.locked(func(time.Time) { r.room.withheld[offer{kind: kind, zone: zone}] = true })
}

// AddType makes an instance type known, or changes it.
func (r *Region) AddType(t Type) { r.locked(func(time.Time) { r.kinds[t.Name] = t }) }

// ZoneDown takes a zone out of service: it has no capacity, and the status checks of its instances fail. EC2 goes on
// to say that these run. Whoever watches may end what they run.
func (r *Region) ZoneDown(zone string) { r.locked(func(time.Time) { r.room.down[zone] = true }) }

// ZoneUp ends ZoneDown.
func (r *Region) ZoneUp(zone string) { r.locked(func(time.Time) { delete(r.room.down, zone) }) }

// Throttle makes EC2 limit calls as documented, with full buckets, or stops that.
func (r *Region) Throttle(on bool) {
	r.locked(func(time.Time) {
		r.limits = nil
		if on {
			r.limits = make(buckets)
		}
	})
}

// Fail makes the next calls of an action fail before they have any effect.
func (r *Region) Fail(action string, times int, err call.Error) {
	r.locked(func(time.Time) { r.faults = append(r.faults, &fault{action: action, times: times, err: err}) })
}

// Doom makes the next instances end when they should begin to run, each for one of the reasons, as KeyDenied.
func (r *Region) Doom(reasons ...StateReason) {
	r.locked(func(time.Time) { r.doom = append(r.doom, reasons...) })
}

// Hide makes calls not know an instance for a while.
func (r *Region) Hide(id string, d time.Duration) error {
	return r.on(id, func(i *instance, now time.Time) error {
		i.hidden = now.Add(d)
		return nil
	})
}

// Impair makes the status check of an instance fail, or pass again.
func (r *Region) Impair(id string, impaired bool) error {
	return r.on(id, func(i *instance, _ time.Time) error {
		i.impaired = impaired
		return nil
	})
}

// Schedule makes EC2 schedule an event for the instance.
func (r *Region) Schedule(id string, e Scheduled) error {
	return r.on(id, func(i *instance, _ time.Time) error {
		i.events = append(i.events, e)
		return nil
	})
}

// Reclaim makes AWS take a spot instance back now. The two minutes of notice are over then: they are told in the
// instance's metadata, which is not part of EC2's API. For the given time there is no spot capacity of this type in
// this zone.
func (r *Region) Reclaim(id string, noCapacityFor time.Duration) error {
	return r.on(id, func(i *instance, now time.Time) error {
		if !i.Spot {
			return fmt.Errorf("instance %s is not a spot instance", id)
		}
		r.end(i, SpotInstanceTermination, now)
		r.happened(i)
		o := offer{kind: i.Type, zone: i.Zone, market: spot}
		if until := now.Add(noCapacityFor); noCapacityFor > 0 && until.After(r.room.leaving[o]) {
			r.room.leaving[o] = until
		}
		return nil
	})
}

// Shutdown is an instance whose operating system shuts down: it stops or ends, as its launch said.
func (r *Region) Shutdown(id string) error {
	return r.on(id, func(i *instance, now time.Time) error {
		if !i.alive() {
			return fmt.Errorf("instance %s is %s", id, i.State)
		}
		if i.ShutdownBehavior == "terminate" {
			r.end(i, InstanceInitiatedShutdown, now)
		} else {
			i.Reason = InstanceInitiatedShutdown
			i.become(stopping, stopped, now.Add(r.times.End))
		}
		r.happened(i)
		return nil
	})
}

// End ends an instance for a reason of AWS's, such as a retired host.
func (r *Region) End(id string, why StateReason) error {
	return r.on(id, func(i *instance, now time.Time) error {
		r.end(i, why, now)
		r.happened(i)
		return nil
	})
}

func (r *Region) on(id string, do func(*instance, time.Time) error) error {
	err := fmt.Errorf("there is no instance %s in %s", id, r.name)
	r.locked(func(now time.Time) {
		for _, i := range r.instances {
			if i.ID == id {
				err = do(i, now)
			}
		}
	})
	return err
}

// Zones are the names of the region's availability zones.
func (r *Region) Zones() []string {
	var out []string
	for _, letter := range strings.Split(zones, "") {
		out = append(out, r.name+letter)
	}
	return out
}

// Instances returns all instances that EC2 still remembers, also those that calls do not know yet, in the order of
// their launches.
func (r *Region) Instances() []Instance {
	var out []Instance
	r.locked(func(time.Time) {
		for _, i := range r.instances {
			out = append(out, i.copy())
		}
	})
	return out
}

// AddVPC adds a network, with subnets.
func (r *Region) AddVPC(v VPC, subnets ...Subnet) {
	r.locked(func(time.Time) {
		r.vpcs = append(r.vpcs, v)
		for _, s := range subnets {
			s.VPC = v.ID
			r.addSubnet(s, false)
		}
		r.groups = append(r.groups, &group{
			id: r.id("sg"), name: "default", vpc: v.ID, text: "default VPC security group", tags: map[string]string{},
		})
	})
}

// RemoveDefaultVPC makes the region one without a default VPC, as an old account may be.
func (r *Region) RemoveDefaultVPC() {
	r.locked(func(time.Time) {
		r.vpcs = nil
		r.subnets = nil
		r.groups = nil
	})
}

// AddGroup adds a security group, and returns its id.
func (r *Region) AddGroup(name, vpc string, tags map[string]string) string {
	var id string
	r.locked(func(time.Time) {
		id = r.id("sg")
		g := &group{id: id, name: name, vpc: vpc, tags: map[string]string{}}
		maps.Copy(g.tags, tags)
		r.groups = append(r.groups, g)
	})
	return id
}

// AddKey adds a key pair.
func (r *Region) AddKey(name string) { r.locked(func(time.Time) { r.keys[name] = true }) }

// AddPlacementGroup adds a placement group.
func (r *Region) AddPlacementGroup(name string) {
	r.locked(func(time.Time) { r.placements[name] = true })
}
