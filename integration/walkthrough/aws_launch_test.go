package walkthrough

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"cloudmaster/integration/aws/ec2"
	"cloudmaster/integration/wire"
)

// most watches how many instances live at the same time.
func (s *story) most() func() int {
	var mu sync.Mutex
	living, peak := make(map[string]bool), 0
	s.amazon.WatchInstances(func(e ec2.Event) {
		mu.Lock()
		defer mu.Unlock()
		living[e.Instance.ID] = e.Instance.State == "pending" || e.Instance.State == "running"
		n := 0
		for _, alive := range living {
			if alive {
				n++
			}
		}
		peak = max(peak, n)
	})
	return func() int {
		mu.Lock()
		defer mu.Unlock()
		return peak
	}
}

// TestStoryLostAndThrottled: while the pool grows, EC2 wants fewer calls, and then it launches and the answers are
// lost. There are never more than the maximum, and nothing is launched twice.
func TestStoryLostAndThrottled(t *testing.T) {
	s := newStory(t, plot{pools: primesPool, defaults: map[string]string{"start_threshold": "1"}})
	peak := s.most()
	s.cloud.Throttle(true)
	s.controllerStarts()
	slow := times
	slow.ListLag = 6 * time.Second // so that no list shows what came of a launch before it is asked for again
	s.cloud.SetTimes(slow)
	// More calls than the SDK makes for one attempt of the controller's, so that the controller itself asks again.
	s.wire.Inject(runInstances, wire.Throttle(), 2)
	s.wire.Inject(runInstances, wire.LoseAnswer(), 5)
	s.wire.Inject(wire.Match{Service: "ec2", Action: "DescribeInstances"}, wire.Throttle(), 4)
	jobs := []string{"1|6573", "2|6573", "3|6573", "4|6573"}
	s.feeds(jobs...)
	s.processed(jobs...)
	if n := peak(); n != 3 {
		t.Errorf("got %d instances at the same time, want 3, which is the maximum", n)
	}
	if ever := len(s.cloud.Instances()); ever != 3 || s.launched() < 8 {
		t.Errorf("got %d instances of %d calls, want 3 of 8 or more", ever, s.launched())
	}
}

// TestStoryLaunchDies: instances end as soon as they are launched. After three launches pause, the report has EC2's
// word for it, and later one at a time is tried until one lives.
func TestStoryLaunchDies(t *testing.T) {
	s := newStory(t, plot{pools: primesPool, hurried: true})
	const word = "Client.InternalError"
	s.cloud.Doom(ec2.KeyDenied, ec2.KeyDenied, ec2.KeyDenied)
	s.controllerStarts()
	s.feeds("1|6573")
	s.reports(0, "primes Instance ", " is gone", word)
	s.sees("an error that names the pool and EC2's reason", func() (string, bool) {
		n := s.logged(`"pool":"primes"`, "put off until", word)
		return fmt.Sprint(n), n > 0
	})
	s.still("no fourth launch", 3*time.Second, func() (string, bool) {
		n := len(s.cloud.Instances())
		return fmt.Sprint(n), n == 3
	})
	s.processed("1|6573")
	if n := len(s.cloud.Instances()); n != 4 {
		t.Errorf("got %d instances in all, want 4: one at a time is tried", n)
	}
}
