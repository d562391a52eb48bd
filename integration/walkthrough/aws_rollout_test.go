package walkthrough

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"cloudmaster/integration/aws/ec2"
	"cloudmaster/integration/program"
)

// releases registers a newer image of a program under a name. Its instances run the binary; none if it is empty.
func (s *story) releases(id, name, binary string) {
	s.t.Helper()
	s.cloud.AddImage(ec2.Image{ID: id, Name: name})
	s.metal.Image(id, binary)
}

// reconfigures writes another configuration and has the controller read it.
func (s *story) reconfigures(p plot) {
	s.t.Helper()
	const read = "configuration was read again"
	before := s.logged(read)
	s.configure(p)
	s.must(s.controller.Hangup())
	s.sees("the configuration read again", func() (string, bool) {
		n := s.logged(read)
		return fmt.Sprint(n), n == before+1
	})
	if n := s.logged(read, "refused"); n > 0 {
		s.t.Fatalf("a configuration was refused, %d times", n)
	}
}

// of are the instances that run one of the images, in the order of their launches.
func (s *story) of(image string) (ids []string) {
	for _, i := range s.cloud.Instances() {
		if i.Image == image {
			ids = append(ids, i.ID)
		}
	}
	return ids
}

// ended reports whether EC2 has ended all these instances.
func (s *story) ended(ids ...string) bool {
	return !slices.ContainsFunc(s.alive(), func(i ec2.Instance) bool { return slices.Contains(ids, i.ID) })
}

// visited starts a client, which must get a server and its numbers, and checks that there are at least n servers.
func (s *story) visited(n int) string {
	s.t.Helper()
	set := ids(s.set())
	if len(set) < n {
		s.t.Fatalf("the active set has only %q, want %d servers at any time", set, n)
	}
	p := s.client("--interval", "10ms", "--count", "3")
	if code := p.ExitCode(); code != 0 || fmt.Sprint(p.Output(0)) != "[1 1 2]" {
		s.t.Fatalf("a client printed %q during the rollout, exit code %d", p.Output(0), code)
	}
	return join(set)
}

// TestStoryRollout: the name of a pool's image stands for a newer one. Both servers are replaced, one after the other
// and each by a successor that is there before, with one launch each. Clients find a server all the time.
func TestStoryRollout(t *testing.T) {
	two := strings.Replace(fibPool, "policy: resource", "policy: resource\n    minimum_number_of_instances: 2", 1)
	s := newStory(t, plot{pools: two, hurried: true})
	s.controllerStarts()
	s.allocatorStarts()
	s.sees("two servers", s.serves(2))
	old, before := ids(s.set()), s.launched()

	const newer = "ami-0000000000000000f"
	s.metal.Delay(3 * time.Second) // so that a server that ended too early would be missed
	s.releases(newer, "walk-fib-2", s.program("fib-server"))
	s.sees("two servers of the newer image, and none of the older one", func() (string, bool) {
		now := s.visited(2)
		return now, len(s.of(newer)) == 2 && s.ended(old...)
	})
	s.sees("the end of the rollout", func() (string, bool) {
		n := s.logged(`"pool":"fib"`, "rollout is over")
		return s.visited(2), n == 1
	})
	s.sees("two servers", s.has(2, "fib", "active"))
	for _, id := range old {
		line := s.reports(0, "fib Shutting down instance "+id, "outdated: image; ", " has taken its place")
		successor := strings.Fields(line[strings.Index(line, "image; ")+len("image; "):])[0]
		s.first("fib Started instance "+successor, "fib Shutting down instance "+id)
	}
	if calls, ever := s.launched()-before, len(s.cloud.Instances()); calls != 2 || ever != 4 {
		t.Errorf("got %d launches for the rollout and %d instances in all, want 2 and 4", calls, ever)
	}
}

// first fails the test unless the controller has reported one line before the other.
func (s *story) first(one, other string) {
	s.t.Helper()
	lines := s.controller.Output(0)
	at := func(text string) int {
		return slices.IndexFunc(lines, func(line string) bool { return strings.Contains(line, text) })
	}
	if a, b := at(one), at(other); a < 0 || b < 0 || a > b {
		s.t.Errorf("%q is line %d and %q is line %d of the report, want the first before the other", one, a, other, b)
	}
}

// steady is a pool of two workers.
const steady = `  primes:
    policy: fixed
    image: walk-primes-1
    cloud: aws
    minimum_number_of_instances: 2
    maximum_number_of_instances: 3
    boot_deadline: 6s
    settings: {max_n: 2000000000, stop_timeout: 3s}
`

// TestStoryBadImage: the instances of an image that is configured never report. The rollout halts after the first one,
// the old instances stay, and the report says why. Configuring the old image ends it.
func TestStoryBadImage(t *testing.T) {
	s := newStory(t, plot{pools: steady})
	s.controllerStarts()
	s.sees("two workers", s.has(2, "primes", "active"))
	old := s.of(s.images["primes-worker"])
	const bad = "ami-0000000000000000e"
	s.releases(bad, "walk-primes-2", "")
	s.reconfigures(plot{pools: strings.Replace(steady, "walk-primes-1", "walk-primes-2", 1)})

	line := s.reports(0, "primes rollout halted: ", " without ever having reported; 2 of ", " instances are outdated",
		"configure the old value again")
	failed := s.of(bad)
	if len(failed) != 1 || !strings.Contains(line, failed[0]) {
		t.Errorf("got %q, want it to name the one instance of the image, %q", line, failed)
	}
	s.reports(0, "primes Terminating instance "+failed[0], "never started: silent for")
	s.still("no second successor, and both old ones", 8*time.Second, func() (string, bool) {
		return fmt.Sprint(s.of(bad)), len(s.of(bad)) == 1 && !s.ended(old[0]) && !s.ended(old[1])
	})
	s.sees("both counted as outdated", func() (string, bool) {
		n := s.metric(`cloudmaster_outdated_instances{pool="primes",reason="image"}`)
		return fmt.Sprint(n), n == 2
	})

	mark := s.controller.Mark()
	s.reconfigures(plot{pools: steady})
	s.sees("the end of the rollout", func() (string, bool) {
		n := s.logged(`"pool":"primes"`, "rollout is over")
		return fmt.Sprint(n), n == 1
	})
	s.reports(mark, "primes Instances: 2 ")
	if _, ok := program.Find(s.controller.Output(mark), "primes rollout halted"); ok {
		t.Error("the old image is configured again, and the rollout is still halted")
	}
	if ever := len(s.cloud.Instances()); ever != 3 || s.ended(old[0]) || s.ended(old[1]) {
		t.Errorf("got %d instances in all, want 3, and that %q live", ever, old)
	}
}
