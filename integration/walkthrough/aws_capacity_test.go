package walkthrough

import (
	"fmt"
	"testing"
	"time"
)

// twoTypes are the types of a pool in order.
var twoTypes = map[string]string{"instance_types": "[c7a.large, t3.micro]"}

const (
	// full is how EC2 says that it has no room.
	full = "InsufficientInstanceCapacity"
	// mostJobs is after how many jobs, each with an instance of its own that takes seconds, the preferred type must
	// have been used again.
	mostJobs = 10
)

// room leaves room for so many instances of a type in each zone.
func (s *story) room(kind string, most int) {
	for _, zone := range s.cloud.Zones() {
		s.cloud.SetCapacity(kind, zone, most)
	}
}

// TestStoryTypeWithoutCapacity: the pool grows with the next type, one warning says so, and the preferred type is used
// again when it has room.
func TestStoryTypeWithoutCapacity(t *testing.T) {
	s := newStory(t, plot{pools: primesPool, defaults: twoTypes, hurried: true})
	s.room("c7a.large", 0)
	s.controllerStarts()
	s.feeds("1|6573")
	s.processed("1|6573")
	s.sees("no instances", s.empty("primes"))
	for _, i := range s.cloud.Instances() {
		if i.Type != "t3.micro" {
			t.Errorf("got instance %s of type %s, want t3.micro, which alone had room", i.ID, i.Type)
		}
	}
	if n := s.logged(`"level":"WARN"`, "EC2 has no capacity", `"choice":"c7a.large"`); n != 1 {
		t.Errorf("got %d warnings about the type, want one", n)
	}
	s.cloud.Unlimit()
	for job := 2; s.everOf("c7a.large") == 0; job++ {
		if job > mostJobs {
			t.Fatalf("%d jobs later the preferred type has not been used again", mostJobs)
		}
		one := fmt.Sprintf("%d|6573", job)
		s.feeds(one)
		s.processed(one)
		s.sees("no instances", s.empty("primes"))
	}
}

// everOf counts the instances of a type that there were.
func (s *story) everOf(kind string) int {
	n := 0
	for _, i := range s.cloud.Instances() {
		if i.Type == kind {
			n++
		}
	}
	return n
}

// TestStoryNoCapacity: while no type has room the error names the pool, and the same controller grows when there is
// room again.
func TestStoryNoCapacity(t *testing.T) {
	s := newStory(t, plot{pools: primesPool, defaults: twoTypes, hurried: true})
	s.room("c7a.large", 0)
	s.room("t3.micro", 0)
	s.controllerStarts()
	s.feeds("1|6573")
	s.sees("an error that names the pool", func() (string, bool) {
		n := s.logged(`"pool":"primes"`, full)
		return fmt.Sprint(n), n > 0
	})
	s.still("no instance", 2*time.Second, func() (string, bool) {
		n := len(s.alive())
		return fmt.Sprint(n), n == 0
	})
	s.cloud.Unlimit()
	s.processed("1|6573")
}
