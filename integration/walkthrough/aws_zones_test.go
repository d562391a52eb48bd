package walkthrough

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"cloudmaster/integration/aws/ec2"
	"cloudmaster/integration/sample"
)

// unpowered is a pool whose instances run no process: only how many there are is of interest, and where.
const unpowered = `  primes:
    policy: job
    image: walk-primes-*
    cloud: aws
    start_threshold: 1
    maximum_number_of_instances: 9
    watchdog_interval: 0s
`

// balanced spreads a pool over the three zones of the region.
var balanced = map[string]string{
	"zones": "balanced", "subnets": "[subnet-a, subnet-b, subnet-c]", "start_limit": "9",
}

// TestStoryZoneDown: while a zone is down the pool grows in the others, also for what the zone has lost. When it is
// back, growth makes the pool level again.
func TestStoryZoneDown(t *testing.T) {
	s := newStory(t, plot{pools: unpowered, defaults: balanced, noMetal: true, hurried: true})
	s.controllerStarts()
	s.feeds("1|2", "2|2", "3|2")
	s.sees("one in each zone", s.spread(1, 1, 1))

	a, b, c := s.region+"a", s.region+"b", s.region+"c"
	s.cloud.ZoneDown(b)
	for _, i := range s.alive() {
		if i.Zone == b {
			s.must(s.cloud.End(i.ID, ec2.ServerInternalError))
		}
	}
	s.feeds("4|2")
	s.sees("four in the zones that are left", s.spread(2, 0, 2))

	s.cloud.ZoneUp(b)
	s.rested()
	s.feeds("5|2", "6|2")
	s.sees("a level pool", s.spread(2, 2, 2))
	if got := len(s.cloud.Instances()); got != 7 {
		t.Errorf("got %d instances in all, want 7: none was launched twice or ended for the balance", got)
	}
	for _, i := range s.cloud.Instances() {
		if zone := i.Zone; zone != a && zone != b && zone != c {
			t.Errorf("instance %s is in zone %s", i.ID, zone)
		}
	}
}

// TestStoryZoneLevel: after a zone was down the pool becomes level without growth: successor first, and never more than
// the maximum.
func TestStoryZoneLevel(t *testing.T) {
	s := newStory(t, plot{pools: `  primes:
    policy: fixed
    image: walk-primes-*
    cloud: aws
    minimum_number_of_instances: 3
    maximum_number_of_instances: 4
`, defaults: balanced, hurried: true})
	peak := s.most()
	s.cloud.ZoneDown(s.region + "b")
	s.controllerStarts()
	s.sees("three in the zones that are left", s.spread(2, 0, 1))
	s.cloud.ZoneUp(s.region + "b")
	s.sees("a level pool", s.spread(1, 1, 1))
	if n := peak(); n > 4 {
		t.Errorf("got %d instances at the same time, want at most 4", n)
	}
	if n := len(s.cloud.Instances()); n != 4 {
		t.Errorf("got %d instances in all, want 4: one was moved", n)
	}
}

// TestStoryLevelAgain: after a zone was down both workers are in the other one, and one of them is busy. When the zone
// is back, the idle one is replaced by a successor there, and the busy one goes on.
func TestStoryLevelAgain(t *testing.T) {
	s := newStory(t, plot{pools: steady, hurried: true, defaults: map[string]string{
		"zones": "balanced", "subnets": "[subnet-a, subnet-b]", "visibility_timeout": "10m", "watchdog_interval": "10m",
	}})
	s.controllerStarts()
	s.sees("two workers", s.has(2, "primes", "active"))
	s.sees("one in each zone", s.spread(1, 1, 0))
	s.feeds("1|" + endless)
	busy := s.worksOn(0, "1")
	s.sees("it counted as busy", func() (string, bool) {
		load := s.metric(`cloudmaster_load{pool="primes"}`)
		return fmt.Sprint(load), load == 1
	})
	s.must(s.metal.Hang(busy)) // so that it is at its job as long as need be, however fast this machine is
	home := s.instance(busy).Zone
	var away, lost string
	for _, i := range s.alive() {
		if i.ID != busy {
			away, lost = i.Zone, i.ID
		}
	}

	s.cloud.ZoneDown(away)
	s.must(s.cloud.End(lost, ec2.ServerInternalError))
	both := map[string][2]int{s.region + "a": {2, 0}, s.region + "b": {0, 2}}[home]
	s.sees("both in the zone that is left", s.spread(both[0], both[1], 0))
	s.sees("two workers", s.has(2, "primes", "active"))
	s.cloud.ZoneUp(away)
	s.sees("a level pool", s.spread(1, 1, 0))
	line := s.reports(0, "primes Terminating instance ", "outdated: zone; ", " has taken its place")
	successor := strings.Fields(line[strings.Index(line, "zone; ")+len("zone; "):])[0]
	if gone := sample.Instance(line); gone == busy || s.instance(gone).Zone != home ||
		s.instance(successor).Zone != away {
		t.Errorf("got %q, want the idle one in %s replaced by one in %s", line, home, away)
	}
	s.first("primes Started instance "+successor, "primes Terminating instance "+sample.Instance(line))
	s.must(s.metal.Resume(busy))
	s.processed("1|" + endless)
	s.reports(0, "primes "+busy+" Processed: 1 ")
	if ever := len(s.cloud.Instances()); ever != 4 {
		t.Errorf("got %d instances in all, want 4: one was lost and one moved", ever)
	}
}

// spread checks how many instances live in each zone of the region.
func (s *story) spread(a, b, c int) func() (string, bool) {
	want := make(map[string]int)
	for zone, n := range map[string]int{"a": a, "b": b, "c": c} {
		if n > 0 {
			want[s.region+zone] = n
		}
	}
	return func() (string, bool) {
		got := make(map[string]int)
		for _, i := range s.alive() {
			got[i.Zone]++
		}
		return fmt.Sprint(got), maps.Equal(got, want)
	}
}

// rested waits until what had no capacity so far is asked for again: the pause of a hurried controller, which nobody
// can see from outside.
func (s *story) rested() {
	s.t.Helper()
	if s.logged("EC2 has no capacity", fmt.Sprintf(`"again_after":%d`, hurriedRest)) == 0 {
		s.t.Fatal("nothing rests, or for another time")
	}
	end := time.Now().Add(hurriedRest)
	s.sees("the end of the pause", func() (string, bool) { return "", time.Now().After(end) })
}
